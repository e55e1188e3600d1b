import bz2
import codecs
import gzip
import lzma
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from allmodes.errors import InputError, RunError
from allmodes.runs.files import (
    new_folder,
    read_bytes,
    read_text,
    remove_temporary_files,
    replacing,
    temporary_path,
    write_text,
)


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


def test_only_files_of_our_naming_are_removed(tmp_path: Path) -> None:
    """Editors and other programs name temporary files much like this."""
    theirs = [".draft.tmp", ".notes.txt.123.tmp", ".a.allmodes-tmp", "a.7.allmodes-tmp", ".a.7.allmodes-tmp2"]
    for name in theirs:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".folder.7.allmodes-tmp").mkdir()
    (tmp_path / ".link.7.allmodes-tmp").symlink_to(tmp_path / "a.7.allmodes-tmp")
    ours = temporary_path(tmp_path / "metrics.jsonl")
    ours.write_text("half")
    remove_temporary_files(tmp_path)
    assert not ours.exists()
    assert names(tmp_path) == sorted([*theirs, ".folder.7.allmodes-tmp", ".link.7.allmodes-tmp"])


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


# Reading


@pytest.mark.parametrize(
    "data",
    [
        "CCO größer\nCC\n".encode(),
        codecs.BOM_UTF8 + "CCO größer\nCC\n".encode(),
        "CCO größer\nCC\n".encode("latin-1"),
        codecs.BOM_UTF8 + "CCO größer\nCC\n".encode("latin-1"),  # a mark, and then a line from elsewhere
        codecs.BOM_UTF16_LE + "CCO größer\r\nCC\r".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "CCO größer\r\nCC\n".encode("utf-16-be"),
        "CCO größer\nCC\n".encode("utf-16-le"),
        "CCO größer\nCC\n".encode("utf-16-be"),
        "CCO größer\nCC\n".encode("utf-32"),
        "CCO größer\rCC\r".encode(),
        "CCO größer\r\nCC\r".encode(),
        "CCO größer\nCC\r\n".encode(),
    ],
)
def test_text_is_read_in_any_encoding_with_any_line_ends(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert read_text(path) == "CCO größer\nCC\n"


def test_text_keeps_the_characters_of_windows_and_what_else_splits_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"5 \x80\n\x81\x0b\x0c\x1c\x1d\n")  # 0x81 is no character of Windows'
    assert read_text(path) == "5 €\n\ufffd\x0b\x0c\x1c\x1d\n"
    path.write_bytes(b"")
    assert read_text(path) == ""
    path.write_bytes(b"\x00")  # damage, not UTF-16
    assert read_text(path) == "\x00"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["a.txt", "a.gz"])
def test_a_packed_file_is_unpacked_whatever_its_name(tmp_path: Path, pack: object, name: str) -> None:
    assert callable(pack)
    path = tmp_path / name
    path.write_bytes(pack(b"CCO\n") + pack(b"CC\n"))  # packed in two parts, as tools for genomes do
    assert read_bytes(path) == b"CCO\nCC\n"
    path.write_bytes(pack(b"CCO\n" * 99)[:-5])
    with pytest.raises(InputError, match=r"cannot read .*/a\."):
        read_bytes(path)


def test_what_is_no_text_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.smi", "w") as archive:
        archive.writestr("b.smi", "CCO\n")
    (tmp_path / "b.csv").write_bytes(b"PAR1....")
    (tmp_path / "c.smi.gz").write_bytes(gzip.compress((tmp_path / "a.smi").read_bytes()))
    (tmp_path / "d.smi.gz").write_bytes(b"CCO\n")
    (tmp_path / "e.smi").write_bytes(codecs.BOM_UTF16_LE + b"\x00")
    for name, message in {
        "a.smi": "got a zip archive or a spreadsheet: unpack it, or save it as CSV",
        "b.csv": "got a Parquet table: save it as CSV",
        "c.smi.gz": "got a zip archive",
        "d.smi.gz": "it is not compressed as its name says",
        "e.smi": "expected UTF-16-LE; byte 2: truncated data",
        "none.smi": "No such file",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            read_text(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="directory"):
        read_bytes(tmp_path)


def test_what_a_killed_process_left_of_a_folder_goes_with_the_next_attempt(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    out = tmp_path / "out"
    left = tmp_path / f".out.{ended.pid}.allmodes-tmp"
    running = tmp_path / f".out.{os.getppid()}.allmodes-tmp"
    other = tmp_path / f".other.{ended.pid}.allmodes-tmp"
    for path in (left, running, other):
        path.mkdir()
        (path / "half").touch()
    with new_folder(out) as folder:
        (folder / "whole").touch()
        assert not out.exists()
    assert names(tmp_path) == sorted([running.name, other.name, "out"])
    assert names(out) == ["whole"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, RunError])
def test_a_folder_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    expected = KeyboardInterrupt if error is KeyboardInterrupt else RunError
    with pytest.raises(expected, match="no space"), new_folder(tmp_path / "out") as folder:
        (folder / "half").touch()
        raise error("no space")
    assert names(tmp_path) == []
