"""No command overwrites a folder that is not its own result on the same input."""

from pathlib import Path

import pytest

from allmodes.errors import RunError
from allmodes.runs.claims import claimed_folder

FILES = ("report.html", "report.json")


def write(
    out: Path | None, *inputs: str | Path, command: str = "audit", default: str = "audit/log", text: str = ""
) -> Path:
    with claimed_folder(out, Path(default), command=command, inputs=inputs, files=FILES) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text(text)
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_same_command_on_the_same_input_writes_again() -> None:
    assert write(None, Path("a/log.jsonl"), text="1") == Path("audit/log")
    assert write(None, Path("a/../a/log.jsonl"), text="2") == Path("audit/log")
    assert Path("audit/log/report.html").read_text() == "2"


def test_another_input_of_the_same_name_has_the_next_folder() -> None:
    folders = [write(None, Path(name) / "log.jsonl", text=name) for name in ("a", "b", "c", "b", "a")]
    expected = ["audit/log", "audit/log-2", "audit/log-3", "audit/log-2", "audit/log"]
    assert folders == [Path(name) for name in expected]
    assert [Path(name, "report.html").read_text() for name in sorted(set(expected))] == ["a", "b", "c"]


@pytest.mark.parametrize("what", ["another input", "another command", "a file of the user's"])
def test_a_folder_that_was_asked_for_is_refused(what: str) -> None:
    out = Path("out")
    out.mkdir()
    (out / "notes.txt").write_text("mine")  # is in nobody's way
    if what == "a file of the user's":
        (out / "report.json").write_text("mine")
    else:
        write(out, Path("a"), command="run" if what == "another command" else "audit", text="first")
    with pytest.raises(RunError, match=r"^out: expected a folder without results of another .* --out$"):
        write(out, Path("b" if what == "another input" else "a"), text="second")
    assert "second" not in [path.read_text() for path in out.iterdir()]


def test_two_commands_share_a_folder_whose_files_differ() -> None:
    out = Path("out")
    write(out, Path("a"))
    with claimed_folder(out, out, command="target", inputs=(Path("b"),), files=("target.json",)) as folder:
        (folder / "target.json").touch()
    write(out, Path("a"), text="again")
    assert (out / "report.html").read_text() == "again"


def test_what_wrote_nothing_leaves_nothing() -> None:
    with (
        pytest.raises(ValueError, match="wrong"),
        claimed_folder(None, Path("audit/log"), command="audit", inputs=(), files=FILES),
    ):
        raise ValueError("wrong")
    assert list(Path().iterdir()) == []
