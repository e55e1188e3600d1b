"""Commands as a shell starts them: another encoding, a full disk, a reader that leaves, no stream at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from allmodes.cli.samples import SAMPLES

OUTCOMES = SAMPLES / "outcomes.csv"
COMMANDS = {
    "help": ["audit", "--help"],
    "a report": ["target", str(OUTCOMES), "--beta", "0.1"],
}
CALL = [sys.executable, "-c", "from allmodes.cli import main; main()"]


def run(
    arguments: list[str], *, redirect: str = "", encoding: str = "utf-8", cwd: Path | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """The command with a redirection of the shell."""
    line = f'exec "$0" "$@" {redirect}'
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        ["sh", "-c", line, *CALL, *arguments], capture_output=True, check=False, env=environment, cwd=cwd
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("name", COMMANDS)
def test_an_encoding_without_greek_letters(name: str, encoding: str) -> None:
    result = run(COMMANDS[name], encoding=encoding)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode(encoding)


def test_what_an_encoding_lacks_is_spelled_out() -> None:
    shown = run(["target", str(OUTCOMES), "--help"], encoding="ascii").stdout.decode("ascii")
    assert "KL(pi || pi_ref)" in " ".join(shown.split())
    assert "tau, smallest reward" in " ".join(shown.split())
    assert "?" not in shown


def test_an_error_in_another_encoding() -> None:
    result = run(["evaluate", "λ—missing.jsonl"], encoding="ascii")
    assert result.returncode == 2
    assert "allmodes: expected a log of samples; lamda-missing.jsonl does not exist" in result.stderr.decode(
        "ascii"
    )


def test_a_configuration_says_the_same_in_any_encoding(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    (tmp_path / "λ.toml").write_text(
        'kind = "molecules"\nalgorithm = "mara"\nbudget = 5\nscreen = 0.5\n'
        '[oracle]\ncomponents = [{ kind = "qed", name = "β—ü" }]\n',
        encoding="utf-8",
    )
    shown = [
        json.loads(run(["run", "λ.toml", "--dry-run", "--no-execute"], encoding=name, cwd=tmp_path).stdout)
        for name in ("ascii", "utf-8")
    ]
    assert shown[0] == shown[1]
    assert shown[0]["oracle"]["components"][0]["name"] == "β—ü"


def test_a_file_name_that_is_no_text() -> None:
    name = os.fsdecode(b"\xff.jsonl")
    result = subprocess.run([*CALL, "evaluate", name], capture_output=True, check=False)
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line(name: str) -> None:
    result = run(COMMANDS[name], redirect=">/dev/full")
    assert result.returncode == 1
    assert result.stderr == b"allmodes: cannot write to standard output: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_nothing_can_be_said_where_both_streams_are_full() -> None:
    assert run(["--help"], redirect=">/dev/full 2>&1").returncode == 1
    assert run(["evaluate", "missing.jsonl"], redirect=">/dev/full 2>&1").returncode == 2


@pytest.mark.parametrize("redirect", [">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("name", COMMANDS)
def test_closed_streams(name: str, redirect: str) -> None:
    result = run(COMMANDS[name], redirect=redirect)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_file_does_not_become_a_closed_standard_output(tmp_path: Path) -> None:
    """The lowest free number goes to what is opened first, and all that is printed would end up in it."""
    result = run(["target", str(OUTCOMES), "--out", "out"], redirect=">&-", cwd=tmp_path)
    assert result.returncode == 0
    assert (tmp_path / "out" / "target.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_that_leaves(name: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen([*CALL, *COMMANDS[name]], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, error = process.communicate()
    assert (process.returncode, error) == (1, b"")
