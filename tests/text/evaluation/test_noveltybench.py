"""The page on NoveltyBench: its command on the shipped sample, whose rows hold their own figures."""

import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from allmodes.metrics import novelty_utility
from allmodes.metrics.text import partition, same_short_answer

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "tests" / "data" / "noveltybench"
GUIDE = (ROOT / "docs" / "guide" / "noveltybench.md").read_text(encoding="utf-8")
ROWS = [json.loads(line) for line in (SAMPLE / "scores.jsonl").read_text(encoding="utf-8").splitlines()]

Command = Callable[..., tuple[int, str, str]]  # the fixture of conftest.py


def figures(command: Command, path: Path, out: Path) -> dict[str, float]:
    code, _, err = command("evaluate", path, "--out", out)
    assert code == 0, err
    (method,) = json.loads((out / "evaluation.json").read_text())["methods"]
    assert (method["method"], method["prompts"], method["generations"]) == ("made-up/model", 3, 30)
    return {name: found["mean"] for name, found in method["metrics"].items()}


def test_the_rows_of_the_sample_hold_what_their_formulas_give() -> None:
    """By hand: only the first of a class has its score, and the i-th generation weighs .8^i."""
    for row in ROWS:
        first = [row["partition"].index(which) == place for place, which in enumerate(row["partition"])]
        scores = [row["partition_scores"][which] for which in row["partition"]]
        gained = [score * is_first for score, is_first in zip(scores, first, strict=True)]
        assert gained == row["generation_scores"]
        assert row["distinct"] == sum(first)
        weights = [0.8**place for place in range(10)]
        utility = math.fsum(map(math.prod, zip(weights, gained, strict=True))) / math.fsum(weights)
        assert row["utility"] == pytest.approx(utility, rel=1e-14)
        assert novelty_utility(row["partition"], scores) == pytest.approx(utility, rel=1e-14)


def test_the_documented_command_gives_the_figures_of_the_file(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, name, path = shlex.split(re.findall(r"```sh\n(.*?)\n```", GUIDE)[0])
    assert (program, name, ROOT / path) == ("allmodes", "evaluate", SAMPLE)
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = command(name, ROOT / path)
    assert code == 0
    for line in re.findall(r"```\n(30 generations.*?)```", GUIDE, re.DOTALL)[0].splitlines():
        assert line in out
    found = figures(command, SAMPLE, tmp_path / "out")
    for name, key in (("distinct_classes", "distinct"), ("utility", "utility")):
        assert found[name] == pytest.approx(math.fsum(row[key] for row in ROWS) / 3, rel=1e-14)


def test_each_of_its_files_is_read(command: Command, tmp_path: Path) -> None:
    classes = figures(command, SAMPLE / "partitions.jsonl", tmp_path / "partitions")
    assert classes["distinct_classes"] == pytest.approx(math.fsum(row["distinct"] for row in ROWS) / 3)
    assert "utility" not in classes
    bare = figures(command, SAMPLE / "generations.jsonl", tmp_path / "generations")
    by_rule = [len(set(partition(row["generations"], same_short_answer))) for row in ROWS[:2]]
    assert by_rule == [row["distinct"] for row in ROWS[:2]]
    assert len(set(ROWS[2]["generations"])) == 9  # long ones are the same where all words are
    assert ROWS[2]["distinct"] == 6
    assert bare["distinct_classes"] == pytest.approx((sum(by_rule) + 9) / 3)
    assert same_short_answer("oak", "oak tree")
    assert not same_short_answer("oak", "a very old oak")
