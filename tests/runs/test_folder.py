import json
import subprocess
import sys
from pathlib import Path

import pytest

from allmodes.errors import RunError
from allmodes.runs.files import temporary_path
from allmodes.runs.folder import RunFolder


def test_makes_its_folder(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "deep" / "run") as folder:
        assert folder.path.is_dir()
        assert folder.metrics_path.parent == folder.checkpoint_path.parent == tmp_path / "deep" / "run"


def test_a_folder_that_was_not_ours_loses_nothing(tmp_path: Path) -> None:
    left = temporary_path(tmp_path / "metrics.jsonl")
    for path in (left, tmp_path / ".draft.tmp", tmp_path / ".notes.txt.9.tmp"):
        path.write_text("mine")
    with RunFolder(tmp_path):  # the first time: whatever lies here is somebody else's
        pass
    assert left.exists()
    with RunFolder(tmp_path):
        pass
    assert not left.exists()
    assert (tmp_path / ".draft.tmp").read_text() == (tmp_path / ".notes.txt.9.tmp").read_text() == "mine"


def test_a_second_handle_is_kept_out_until_the_first_leaves(tmp_path: Path) -> None:
    with RunFolder(tmp_path):
        with pytest.raises(RunError, match="in use") as caught, RunFolder(tmp_path):
            pytest.fail("entered")
        assert str(tmp_path) in str(caught.value)
        with pytest.raises(RunError, match="in use"), RunFolder(tmp_path):  # still so after one was refused
            pytest.fail("entered")
    with RunFolder(tmp_path):
        pass


HOLD = """
import sys, time
from pathlib import Path
from allmodes.runs.folder import RunFolder

with RunFolder(Path(sys.argv[1])):
    print("inside", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "inside\n"
        with pytest.raises(RunError, match="in use"), RunFolder(tmp_path):
            pytest.fail("entered")
        holder.kill()
        holder.wait(timeout=10)
    with RunFolder(tmp_path):
        pass


def test_the_lock_goes_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), RunFolder(tmp_path):
        raise ValueError("mine")
    with RunFolder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="cannot write to run folder") as caught, RunFolder(path):
            pytest.fail("entered")
        assert str(path) in str(caught.value)


def test_metrics_and_timing_are_kept_apart(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        assert folder.read_metrics() == []
        folder.append_metrics({"step": 1, "loss": 0.1 + 0.2})
        folder.append_metrics({"step": 2, "loss": None})
        folder.append_timing({"step": 1, "sample": 0.5})
        assert folder.read_metrics() == [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": None}]
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2
    assert json.loads((tmp_path / "timing.jsonl").read_text()) == {"step": 1, "sample": 0.5}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metrics_are_json_that_every_reader_takes(value: float, tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        folder.append_metrics({"step": 1})
        with pytest.raises(ValueError, match="JSON"):
            folder.append_metrics({"loss": value})
        assert folder.read_metrics() == [{"step": 1}]


@pytest.mark.parametrize("cut", [1, 5, 13, 14])
def test_a_last_line_that_was_cut_off(cut: int, tmp_path: Path) -> None:
    """Wherever the kill came: the whole rows count, and what is appended after a resume is readable."""
    rows = [{"step": 1}, {"step": 2}, {"step": 345}]
    with RunFolder(tmp_path) as folder:
        for row in rows:
            folder.append_metrics(row)
        whole = folder.metrics_path.read_bytes()
        assert len(json.dumps(rows[-1])) == 13
        folder.metrics_path.write_bytes(whole[:-14] + whole[-14:][:cut])
        kept = rows if cut >= 13 else rows[:2]
        assert folder.read_metrics() == kept
        folder.keep_metrics(lambda _: True)
        folder.append_metrics({"step": 6})
        assert folder.read_metrics() == [*kept, {"step": 6}]


def test_keep_metrics_rewrites_the_rows_that_stay_as_they_were(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        for step in range(1, 6):
            folder.append_metrics({"step": step, "text": "ü", "value": step / 3, "none": None})
        lines = folder.metrics_path.read_bytes().splitlines(keepends=True)
        folder.keep_metrics(lambda row: row["step"] <= 3)
        assert folder.metrics_path.read_bytes() == b"".join(lines[:3])
        folder.keep_metrics(lambda _: False)
        assert folder.metrics_path.read_bytes() == b""
        assert folder.read_metrics() == []
