"""The frame of an experiment: which folders it takes, and what it refuses to go on with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allmodes.errors import RunError
from allmodes.runs.config import Config
from allmodes.runs.experiment import refuse_old_folder, resume_experiment, saved_config, start_experiment
from allmodes.runs.folder import RunFolder


def test_a_new_run_takes_a_folder_with_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("kind = 'molecules'")
    (tmp_path / "notes").mkdir()
    refuse_old_folder(tmp_path)
    refuse_old_folder(tmp_path / "new")


@pytest.mark.parametrize("name", ["config.json", "provenance.json", "results.json", "report.html"])
def test_a_new_run_overwrites_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match="choose another folder"):
        refuse_old_folder(tmp_path)


def test_a_new_run_takes_up_no_rest_of_another(tmp_path: Path) -> None:
    """With its configuration gone, an old job's result would count as a result of the new settings."""
    (tmp_path / "reinvent-0").mkdir()
    (tmp_path / "reinvent-0" / ".lock").write_text("")
    with pytest.raises(RunError, match="reinvent-0: choose another folder"):
        refuse_old_folder(tmp_path)


# Settings and inputs are sealed when a run begins


class Inner(Config):
    level: float = 0.5
    names: tuple[str, ...] = ("a", "b")


class Settings(Config):
    kind: str = "test"
    budget: int = 10
    inner: Inner = Inner()
    screen: float = 0.25


def ran(config: Settings, folder: RunFolder) -> Path:
    (folder.path / "ran").write_text(config.model_dump_json())
    return folder.path / "ran"


def begin(out: Path, **inputs: Path) -> None:
    start_experiment(Settings(), out, inputs=inputs, run=ran)
    (out / "ran").unlink()


def resume(out: Path, *, accept: bool | None = False, free: tuple[str, ...] = (), **inputs: Path) -> None:
    config = saved_config(Settings, out)
    resume_experiment(config, out, inputs=inputs, run=ran, accept_changes=accept, free=free)


def edit(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((out / "config.json").read_text())
    change(values)
    (out / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values.update(budget=20), "`budget`: expected 10; got 20"),
        (lambda values: values["inner"].update(level=0.75), "`inner.level`: expected 0.5; got 0.75"),
        (lambda values: values["inner"].update(names=["a"]), '`inner.names.1`: expected "b"; got null'),
        (lambda values: values["inner"].update(names=["b", "a"]), '`inner.names.0`: expected "a"; got "b"'),
        (lambda values: values.pop("screen"), "`screen`: expected 0.25; got null"),
        (lambda values: values.update(screen=0.75), "`screen`: expected 0.25; got 0.75"),
    ],
)
def test_a_changed_setting_is_refused_or_taken_and_recorded(
    change: Callable[[dict[str, Any]], object], words: str, tmp_path: Path
) -> None:
    begin(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(RunError) as caught:
        resume(tmp_path)
    assert f"config.json has changed since the run began: {words}; --accept-changes" in str(caught.value)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(RunError, match="has changed since the run began") as caught:
        resume(tmp_path, accept=None)
    assert "--accept-changes" not in str(caught.value)  # where nobody could say so

    resume(tmp_path, accept=True)
    assert (tmp_path / "ran").exists()
    (record,) = json.loads((tmp_path / "provenance.json").read_text())["changes"]
    assert next(iter(record["settings"])) == words.split("`")[1]
    resume(tmp_path)  # these are the run's settings now


def test_settings_that_no_result_depends_on_may_change(tmp_path: Path) -> None:
    begin(tmp_path)
    edit(tmp_path, lambda values: values.update(screen=0.75))
    resume(tmp_path, free=("screen",))
    edit(tmp_path, lambda values: values.update(budget=20))
    with pytest.raises(RunError, match="`budget`"):
        resume(tmp_path, free=("screen",))


def test_a_changed_missing_or_new_input_is_refused_or_taken_and_recorded(tmp_path: Path) -> None:
    out, one, two = tmp_path / "run", tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    begin(out, one=one)
    with pytest.raises(RunError, match="inputs have changed since the run began: `one`: expected a file"):
        resume(out)
    with pytest.raises(RunError, match="inputs have changed since the run began: `two`: expected no file"):
        resume(out, one=one, two=two)
    resume(out, one=one)
    one.write_text("changed")
    with pytest.raises(RunError, match=r"`one`: .*one has changed since .* --accept-changes"):
        resume(out, one=one)
    resume(out, accept=True, one=one)
    resume(out, one=one)
    one.unlink()
    with pytest.raises(RunError, match="`one`: cannot read"):
        resume(out, one=one)


def test_a_run_of_an_older_version_is_resumed_and_said_to_be_unverified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, one, two = tmp_path / "run", tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    begin(out, one=one)
    facts = json.loads((out / "provenance.json").read_text())
    old = {key: value for key, value in facts.items() if key not in ("config", "files", "sha256")}
    (out / "provenance.json").write_text(json.dumps(old))
    edit(out, lambda values: values.update(budget=20))
    resume(out, one=one, two=two)  # whose program, say, older versions did not note
    assert "provenance.json: written by an older version without checksums" in capsys.readouterr().err
    one.write_text("changed")
    with pytest.raises(RunError, match="`one`: "):
        resume(out, one=one, two=two)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"null", b"{", b"\xff", b'"a"', b'{"inputs": []}', b"[" * 100000, b'{"sha256": 1}'],
)
def test_a_damaged_provenance_is_one_line(content: bytes, tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / "provenance.json").write_bytes(content)
    with pytest.raises(RunError) as caught:
        resume(tmp_path)
    assert str(tmp_path / "provenance.json") in str(caught.value)
    assert "\n" not in str(caught.value)
