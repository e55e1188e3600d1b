import subprocess
import sys
from pathlib import Path

import pytest

from allmodes.errors import RunError
from allmodes.runs.files import replacing, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.txt"
    write_text(path, "one, größer\n")
    assert path.read_text(encoding="utf-8") == "one, größer\n"
    write_text(path, "two")
    assert path.read_text(encoding="utf-8") == "two"
    assert names(path.parent) == ["a.txt"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == path.parent  # on the same file system, so that a rename is enough
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def write_half(path: Path, error: BaseException) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(
    error: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)):
        write_half(path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_writer_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RunError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_a_failing_system_call_is_a_run_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RunError, match="No space left") as caught:
        write_half(path, OSError(28, "No space left on device"))
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("tail", [("a.txt",), ("deep", "a.txt")])
def test_below_a_regular_file(tail: tuple[str, ...], tmp_path: Path) -> None:
    regular = tmp_path / "regular"
    regular.write_text("old")
    with pytest.raises(RunError, match="cannot write"):
        write_text(regular.joinpath(*tail), "new")
    assert regular.read_text() == "old"


def test_onto_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        write_text(tmp_path / "folder", "new")
    assert names(tmp_path) == ["folder"]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write"):
        write_text(tmp_path / ("n" * 300), "new")
    assert names(tmp_path) == []


FULL = """
import resource, sys
from pathlib import Path
from allmodes.errors import RunError
from allmodes.runs.files import write_text
from allmodes.runs.folder import RunFolder

path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
folder = RunFolder(path.parent)
for write in (lambda: write_text(path, "x" * 5000), lambda: folder.append_metrics({"a": "b" * 5000})):
    try:
        write()
    except RunError as error:
        print(error)
"""


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """The limit on the size of a file stands for the end of the disk: a write fails halfway."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    command = [sys.executable, "-c", FULL, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    written, appended = result.stdout.splitlines()
    assert written.startswith(f"cannot write {path}")
    assert appended.startswith(f"cannot write {path.parent / 'metrics.jsonl'}")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt", "metrics.jsonl"]
