"""Checksums of documents and of files that grow: every damage is noticed, no undamaged file is refused."""

import json
from pathlib import Path

import pytest

from allmodes.errors import RunError
from allmodes.runs.seals import (
    GrowingFiles,
    check_last_line,
    read_sealed_json,
    restoring,
    seal_json,
    seal_last_line,
)


def test_a_document_comes_back_as_it_was(tmp_path: Path) -> None:
    path, beside = tmp_path / "a.json", tmp_path / "log"
    beside.write_text("one\n")
    document = {"x": 0.1 + 0.2, "text": "ünï\n", "none": None, "deep": {"a": [1, 2.0, True]}}
    seal_json(path, document, files=[beside])
    assert read_sealed_json(path) == document


def test_every_flipped_bit_of_a_document_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    seal_json(path, {"reward": 0.5, "hits": 12, "name": "a"})
    whole = path.read_bytes()
    missed = 0
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        try:
            assert read_sealed_json(path) == {"reward": 0.5, "hits": 12, "name": "a"}
            missed += 1
        except RunError:
            continue
    assert missed == 0  # not even in white space, which becomes something else than white space


@pytest.mark.parametrize("content", ["two\n", "one\ntwo\n", "", None])
def test_another_file_beside_it_is_noticed(content: str | None, tmp_path: Path) -> None:
    path, beside = tmp_path / "a.json", tmp_path / "log"
    beside.write_text("one\n")
    seal_json(path, {}, files=[beside])
    beside.unlink()
    if content is not None:
        beside.write_text(content)
    with pytest.raises(RunError, match="log"):
        read_sealed_json(path)


def test_a_document_without_checksums_is_read_and_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text('{"hits": 3}')
    assert read_sealed_json(tmp_path / "a.json") == {"hits": 3}
    assert "a.json: written by an older version without checksums" in capsys.readouterr().err
    seal_json(tmp_path / "a.json", {"hits": 3})
    assert read_sealed_json(tmp_path / "a.json") == {"hits": 3}
    assert capsys.readouterr().err == ""


def test_files_that_grow_are_cut_to_their_mark_and_go_on(tmp_path: Path) -> None:
    path, other = tmp_path / "log", tmp_path / "other"
    growing = GrowingFiles(tmp_path, ("log", "other", "never"))
    assert growing.mark() == {}
    path.write_text("one\n")
    marks = growing.mark()
    with path.open("a") as handle:
        handle.write("two\n")
    other.write_text("x\n")
    resumed = GrowingFiles(tmp_path, ("log", "other", "never"))
    resumed.restore(marks)
    assert (path.read_text(), other.read_text()) == ("one\n", "")
    with path.open("a") as handle:
        handle.write("three\n")
    fresh = GrowingFiles(tmp_path, ("log", "other", "never"))
    assert resumed.mark() == fresh.mark()  # a running checksum is that of the whole file


@pytest.mark.parametrize("content", [b"One\n", b"on", b"", b"\0\0\0\0", b"\nnoe", None])
def test_another_beginning_of_a_file_that_grows_is_noticed(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n")
    marks = GrowingFiles(tmp_path, ("log",)).mark()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match="log"):
        GrowingFiles(tmp_path, ("log",)).restore(marks)
    assert path.exists() == (content is not None)
    assert content is None or path.read_bytes() == content  # and nothing is cut


def test_a_file_that_became_shorter_while_it_grew_is_noticed(tmp_path: Path) -> None:
    growing = GrowingFiles(tmp_path, ("log",))
    (tmp_path / "log").write_text("one\ntwo\n")
    growing.mark()
    (tmp_path / "log").write_text("one\n")
    with pytest.raises(RunError, match="damaged"):
        growing.mark()


def test_the_last_line_seals_those_before_it(tmp_path: Path) -> None:
    path = tmp_path / "timing.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    check_last_line(path)  # of an older version
    seal_last_line(path)
    check_last_line(path)
    assert list(json.loads(path.read_text().splitlines()[-1])) == ["sha256"]
    path.write_text(path.read_text().replace("2", "3", 1))
    with pytest.raises(RunError, match=r"timing\.jsonl is damaged"):
        check_last_line(path)


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), IndexError("c"), RuntimeError("d\ne")])
def test_what_restoring_raises_is_one_line(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="checkpoint is damaged: ") as caught,
        restoring(tmp_path / "checkpoint"),
    ):
        raise error
    assert "\n" not in str(caught.value)
