"""Group size and clipping on a language model: which cells are one run, made-up verdicts, resuming."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

import torch

from allmodes.errors import ConfigError, RunError
from allmodes.paper import ips_table4, ips_table4_runs
from allmodes.paper.ips_table4_runs import Cell, Grid, Runs, configuration, grid_of, representative
from allmodes.paper.reproduction import PAPER, QUICK, REAL, Scale
from allmodes.text.reporting.results import TextResult

TINY = Scale(name="test", seeds=1, steps=0.004, grid_steps=1)
GRID = Grid(groups=(4, 16, 32), clips=(0.0, 0.1, 0.5), batch=32)


def result(recovery: float, *, seed: int = 0, error: float = 0.03) -> TextResult:
    return TextResult(
        arm=None, seed=seed, samples=256, unscored=0, reward=0.5, answers={},
        metrics={"recovery_rate": recovery, "valid_rate": 0.9}, errors={"recovery_rate": error},
    )  # fmt: skip


def made_up(
    recoveries: Mapping[Cell, float], *, rewards: Mapping[Cell, Sequence[float]] | None = None
) -> Runs:
    cells = GRID.cells()
    return Runs(
        grid=GRID,
        config=configuration(QUICK, (16, 0.0)),
        base=result(0.4),
        before=None,
        results={cell: [result(recoveries.get(cell, recoveries[cell[0], 0.0]))] for cell in cells},
        rewards={cell: [(rewards or {}).get(cell, [0.5, 0.5, 0.2, 0.8])] for cell in cells},
    )


PAPERS: dict[Cell, float] = {
    (4, 0.0): 0.5, (4, 0.5): 0.3, (4, None): 0.2,
    (16, 0.0): 0.6, (16, 0.1): 0.8, (16, 0.5): 0.5, (16, None): 0.2,
    (32, 0.0): 0.7, (32, 0.1): 0.75, (32, 0.5): 0.6, (32, None): 0.3,
}  # fmt: skip
STEADY: dict[Cell, Sequence[float]] = {(32, 0.1): [0.1, 0.9, 0.5, 0.5]}


def judged(changes: Mapping[Cell, float], rewards: Mapping[Cell, Sequence[float]] | None = None) -> list[str]:
    return [
        entry.holds for entry in ips_table4.judge(made_up({**PAPERS, **changes}, rewards=rewards), whose="x")
    ]


def test_the_papers_claims_hold_where_the_numbers_have_them() -> None:
    assert judged({}, STEADY) == ["yes"] * 6
    said = [entry.measured for entry in ips_table4.judge(made_up(PAPERS, rewards=STEADY), whose="x")]
    assert said[0] == ("x: 0.50 ± 0.03 (G = 4), 0.60 ± 0.03 (G = 16), 0.70 ± 0.03 (G = 32); base 0.40")
    # Over the second half alone: 0.2 and 0.8 are 0.6/√2 apart, 0.5 and 0.5 not at all.
    assert said[1].endswith("G = 32: 0.424 (p_min 0), 0.000 (p_min 0.1), 0.424 (p_min 0.5)")
    assert said[3].endswith("0.20 (G = 4), 0.10 (G = 16), 0.10 (G = 32)")
    assert said[4] == "x: best G = 16, p_min = 0.1, 0.80 ± 0.03"
    assert said[5].endswith("worst cell of IPS-GRPO 0.30")


@pytest.mark.parametrize(
    ("place", "changes", "holds"),
    [
        (0, {(16, 0.0): 0.45}, "partly"),
        (0, {(4, 0.0): 0.9, (16, 0.0): 0.85}, "no"),
        (1, {}, "no"),  # as unsteady as without clipping
        (2, {(16, 0.5): 0.6}, "partly"),
        (2, {(4, 0.5): 0.6, (16, 0.5): 0.6, (32, 0.5): 0.7}, "no"),
        (3, {(4, 0.5): 0.45}, "no"),
        (3, {(4, 0.5): 0.5, (16, 0.5): 0.7, (32, 0.5): 0.7}, "no"),  # nothing is lost
        (4, {(32, 0.1): 0.9}, "partly"),
        (4, {(32, 0.5): 0.9}, "no"),
        (5, {(4, None): 0.4}, "partly"),
        (5, {(4, None): 0.9, (16, None): 0.9, (32, None): 0.9}, "no"),
    ],
)
def test_verdicts_come_from_the_numbers(place: int, changes: Any, holds: str) -> None:
    assert judged(changes)[place] == holds


def test_a_clipping_below_the_lowest_frequency_is_the_same_run_and_no_clipping() -> None:
    assert [representative((4, clip)) for clip in (0.0, 0.1, 0.25, 0.5)] == [(4, 0.0)] * 3 + [(4, 0.5)]
    assert representative((16, 0.1)) == (16, 0.1)
    assert representative((16, None)) == (16, None)
    found = ips_table4.judge(made_up({**PAPERS, (4, 0.0): 0.9}), whose="x")
    assert "best G = 4, p_min = 0," in found[4].measured
    assert found[4].holds == "no"


def test_all_cells_have_equal_samples_and_each_its_method() -> None:
    for scale, groups in ((QUICK, (4, 16, 32)), (REAL, (4, 8, 16, 32)), (PAPER, (4, 8, 16, 32, 64))):
        grid = grid_of(scale)
        assert grid.groups == groups
        for group, clip in grid.cells():
            config = configuration(scale, (group, clip))
            assert config.group_size == group
            assert config.prompts_per_step * group == grid.batch
            assert config.method == (("vanilla",) if clip is None else ("ips",))
            assert clip is None or config.methods.make("ips").min_probability == clip  # pyright: ignore
            assert config.scale_rewards
            assert (config.lora is not None) == (scale is not QUICK)
            assert (config.warm_start is not None) == (scale is REAL)
    assert configuration(PAPER, (4, 0.0)).task.domain == "causal"  # pyright: ignore


def test_a_mean_over_seeds_and_its_error_by_hand() -> None:
    cell: Cell = (4, 0.0)
    runs = Runs(
        grid=GRID, config=configuration(QUICK, cell), base=result(0.1), before=None,
        results={cell: [result(0.2, error=0.03), result(0.4, seed=1, error=0.04)]},
        rewards={cell: [[9.0, 0.0, 2.0], [9.0, 9.0, 1.0, 1.0]]},
    )  # fmt: skip
    assert runs.mean(cell) == pytest.approx(0.3)
    assert runs.error(cell) == pytest.approx(0.05 / 2)
    assert runs.unsteadiness(cell) == pytest.approx(2**0.5 / 2)  # √2 and 0


def test_the_real_scale_is_warm_started_once_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    ips_table4_runs.make_task_stand_in(configuration(TINY, (4, 0.0)).task.make(), made, steps=1, least=0.0)
    monkeypatch.setattr(ips_table4_runs, "packaged_file", lambda name: made)
    monkeypatch.setattr(ips_table4_runs, "smollm2", lambda folder, item: str(made))
    monkeypatch.setattr(ips_table4_runs, "_SMALLEST", Grid(groups=(4,), clips=(0.0, 0.1), batch=4))
    monkeypatch.setenv("ALLMODES_HYPOSPACE_WORK", str(tmp_path / "work"))
    small = {**ips_table4_runs._REAL, "warm_start": {"steps": 1}}
    monkeypatch.setattr(ips_table4_runs, "_REAL", small)
    scale = Scale(name="real", seeds=1, steps=0.004, grid_steps=1)
    steps: list[int] = []
    runs = ips_table4_runs.run(scale, steps.append, item="ips-table4")
    assert steps == [1, 1]  # p_min = 0.1 is the run without it
    assert runs.before is not None
    assert runs.results[4, 0.1] is runs.results[4, 0.0]
    assert runs.rewards[4, 0.0] == [[pytest.approx(0, abs=1)]]
    folder = tmp_path / "work" / "real" / "ips-table4"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        "warm-start", "groups-of-4-p-min-0-0", "groups-of-4-grpo-0"
    }  # fmt: skip
    assert not list(folder.rglob("checkpoint-*"))
    metrics = json.loads((folder / "groups-of-4-grpo-0" / "metrics.jsonl").read_text().splitlines()[0])
    assert metrics["step"] == 1

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(ips_table4_runs, "train", never)
    assert ips_table4_runs.run(scale, steps.append, item="ips-table4") == runs
    monkeypatch.setattr(ips_table4_runs, "_REAL", {**small, "learning_rate": 1e-3})
    with pytest.raises(RunError, match=r"`groups-of-4-p-min-0\.learning_rate`: expected 0\.0001; got 0\.001"):
        ips_table4_runs.run(scale, steps.append, item="ips-table4")


def test_scales_say_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLMODES_HYPOSPACE_WORK", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"expected google/gemma-3-4b-it .*; got no accelerator"):
        ips_table4.reproduce(PAPER, lambda _: None)

    def missing(name: str) -> Path:
        raise ConfigError(f"{name} needs `pip install x`; x is not installed")

    monkeypatch.setattr(ips_table4_runs, "packaged_file", missing)
    with pytest.raises(ConfigError, match=r"smollm2 needs `pip install x`"):
        ips_table4.reproduce(REAL, lambda _: None)
    assert not list(tmp_path.iterdir())


def test_the_table_has_every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(ips_table4_runs, "run", lambda *_, **__: made_up(PAPERS))
    done = ips_table4.reproduce(QUICK, lambda _: None)
    assert "| 16 | 0.60 ± 0.03 | 0.80 ± 0.03 | 0.50 ± 0.03 | 0.20 ± 0.03 |" in done.tables[0]
    assert len(done.numbers["cells"]) == 12
    assert len(done.figure.axes) == 2
    assert "stand-in" in " ".join(done.notes)
    assert all(entry.measured.startswith("stand-in: ") for entry in done.verdicts)
