"""The shipped samples are written whole, and every command that is printed for them runs."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from allmodes.cli.samples import SAMPLES, sample_commands

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py


def test_samples_are_written_once_and_each_has_a_command(command: Command, tmp_path: Path) -> None:
    code, printed, _ = command("samples", "--out", "first")
    assert code == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert written == {path.name: path.read_bytes() for path in SAMPLES.iterdir()}
    for line in sample_commands():
        assert line.removeprefix("allmodes") in printed
    for name in set(written) - {"README.md"}:
        assert any(name in shlex.split(line) for line in sample_commands()), name
    code, _, error = command("samples", "--out", "first")
    assert (code, error) == (1, "allmodes: `out` must be a new folder; first exists\n")


@pytest.mark.parametrize("line", sample_commands())
def test_each_command_of_the_samples_runs(
    line: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if " chem " in line:
        pytest.importorskip("rdkit")
    command("samples", "--out", "here")
    monkeypatch.chdir(tmp_path / "here")
    code, printed, error = command(*shlex.split(line)[1:])
    assert (code, error.count("allmodes: ")) == (0, 0), error
    assert printed


def test_the_demo_prints_what_a_file_of_ones_own_would_give(command: Command) -> None:
    code, printed, error = command("demo", "collapse")
    assert (code, error) == (0, "")
    assert "\x1b" not in printed
    for word in ("usual answer", "MARA", "4.0 of 4", "COLLAPSED BY CONSTRUCTION", "explore FILE.csv"):
        assert word in printed
