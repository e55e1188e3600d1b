"""Runs that items share: done once, resumed, refused with other settings; the real scale's warm start."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("peft")

import torch

from allmodes.errors import RunError
from allmodes.paper import hypospace_runs, one_two_runs, text_runs
from allmodes.paper.hypospace_runs import IPS
from allmodes.paper.reproduction import QUICK, REAL, Scale
from allmodes.text.stand_ins.task_stand_in import make_task_stand_in

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TINY = Scale(name="test", seeds=1, steps=0.004, grid_steps=1)


def test_runs_are_shared_and_resumed_and_other_settings_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(text_runs.WORK, str(tmp_path))
    monkeypatch.setitem(hypospace_runs._COMMON, "trainer", ["grpo"])
    trained = []
    real = text_runs.run_job

    def counted(config: Any, model: str, job: Any, on_step: Any) -> None:
        trained.append(job.arm.method)
        real(config, model, job, on_step)

    monkeypatch.setattr(text_runs, "run_job", counted)
    threads = torch.get_num_threads()

    def run() -> Any:
        return hypospace_runs.run(TINY, lambda _: None, item="x", domains=["boolean"])["boolean"]

    first = run()
    assert trained == ["vanilla", "ips"]
    assert torch.get_num_threads() == threads
    (first.folders[IPS][0] / "result.json").unlink()  # as of a run that was killed
    second = run()
    assert trained == ["vanilla", "ips", "ips"]
    assert second.results[IPS] == first.results[IPS]
    assert run().base == first.base
    assert len(trained) == 3
    monkeypatch.setitem(hypospace_runs._COMMON, "learning_rate", 0.5)
    monkeypatch.setitem(hypospace_runs._STAND_IN_RATES, "boolean", 0.5)
    with pytest.raises(RunError, match=r"holds results of other settings: `learning_rate`: expected 0.0012"):
        run()
    monkeypatch.setitem(hypospace_runs._SPLITS["quick"], "boolean", (9, 8, 0))
    with pytest.raises(RunError, match=r"base holds .* other settings: `task.train`: expected 8; got 9"):
        run()


def test_runs_without_measured_policies_keep_their_metrics_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(text_runs.WORK, str(tmp_path))
    steps: list[int] = []

    def run() -> Any:
        return one_two_runs.run([one_two_runs.configuration(TINY)], TINY, steps.append, item="x")

    first = run()
    folder = tmp_path / "test" / "one-two" / "rloo-reverse-vanilla-0.01-groups-of-4-0"
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "metrics.jsonl",
        "settings.json",
        "timing.jsonl",
    }
    metrics = folder / "metrics.jsonl"
    rows = metrics.read_text()
    assert len(rows.splitlines()) == 2
    metrics.write_text("".join(rows.splitlines(keepends=True)[:1]))  # as of a run that was killed
    assert run() == first
    assert metrics.read_text() == rows

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(text_runs, "train", never)
    assert run() == first


def test_the_real_scale_trains_adapters_on_a_warm_started_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_task_stand_in(
        hypospace_runs.configuration(REAL, "boolean").task.make(), tmp_path / "model", steps=1, least=0
    )
    monkeypatch.setattr(text_runs, "smollm2", lambda folder, *, item: str(tmp_path / "model"))
    monkeypatch.setenv(text_runs.WORK, str(tmp_path))
    monkeypatch.setitem(hypospace_runs._REAL, "warm_start", {"steps": 1})
    monkeypatch.setitem(hypospace_runs._REAL, "trainer", "grpo")
    monkeypatch.setitem(hypospace_runs._REAL, "method", "ips")
    monkeypatch.setitem(hypospace_runs._REAL, "flowrl", {})
    scale = replace(REAL, steps=0.004)
    found = hypospace_runs.run(scale, lambda _: None, item="x", domains=["boolean"])["boolean"]
    folder = tmp_path / "real" / "hypospace-boolean"
    assert (folder / "warm-start" / "model.safetensors").exists()
    assert not list(folder.rglob("checkpoint-*"))
    assert found.before is not None
    assert found.before.samples > 0
    assert [one.seed for one in found.results[IPS]] == [0]
    notes = hypospace_runs.notes(scale, {"boolean": found})
    assert any(note.startswith("Boolean expressions: Warm start: at most 1 step") for note in notes)


def test_the_quick_scale_keeps_nothing_unless_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(text_runs.WORK, raising=False)
    assert not text_runs.work_folder(QUICK).is_relative_to(tmp_path)
    assert text_runs.work_folder(QUICK) == text_runs.work_folder(QUICK)
    assert text_runs.work_folder(REAL) == tmp_path / "runs" / "text-work" / "real"
    monkeypatch.setenv(text_runs.WORK, "elsewhere")
    assert text_runs.work_folder(QUICK) == tmp_path / "elsewhere" / "quick"
