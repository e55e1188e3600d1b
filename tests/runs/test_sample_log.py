"""The file of samples of a training, without a training."""

import json
from pathlib import Path

import numpy as np
import pytest

from allmodes.errors import RunError
from allmodes.runs.sample_log import SampleLog, sample_line


def test_lines_hold_any_text_and_tell_images_apart() -> None:
    lines = [
        sample_line({"prompt": [{"image": np.full(2, value)}], "response": "é\ud800\n\u2028"})
        for value in (0, 0, 1)
    ]
    one, same, other = (json.loads(line) for line in lines)
    assert one["response"] == "é?\n\u2028"
    assert one == same
    assert one["prompt"] != other["prompt"]
    assert all(line.count("\n") == 1 and line.endswith("\n") for line in lines)


def test_rows_of_another_program_are_not_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"prompt": "a"}\n')
    with pytest.raises(RunError, match=r"samples.jsonl: expected a `step` in each row"):
        SampleLog(path).begin(step=2, overwrite=True)
    assert path.read_text() == '{"prompt": "a"}\n'


def test_a_line_that_was_cut_off_at_its_end_is_not_joined_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"step": 0}\n{"step": 0}')
    SampleLog(path).begin(step=1, overwrite=False)
    assert path.read_text() == '{"step": 0}\n'


def test_a_new_training_refuses_rows_or_replaces_them(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "samples.jsonl")
    log.begin(step=0, overwrite=False)  # nothing is there
    log.append([sample_line({"step": 0})])
    with pytest.raises(RunError, match=r"samples.jsonl holds the log of another run: "):
        log.begin(step=0, overwrite=False)
    assert log.path.read_text() == '{"step": 0}\n'
    log.begin(step=0, overwrite=True)
    assert log.path.read_text() == ""
    log.begin(step=0, overwrite=False)  # no rows are nobody's


def test_rows_that_come_again_go(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "samples.jsonl")
    log.append(sample_line({"step": step, "reward": step / 10}) for step in (0, 0, 2, 4, 4))
    with log.path.open("a") as handle:
        handle.write('{"step": 4, "rew')
    log.begin(step=4, overwrite=False)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [0, 0, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["samples.jsonl"]
