"""The figures of a run's samples, against counting by hand."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from allmodes.errors import RunError
from allmodes.tasks import Creative, OneTwo
from allmodes.text.reporting.results import Arm, load_result, result_of

ARM = Arm(trainer="rloo", kl="reverse", method="mara", beta=0.05)
ONE, TWO, WRONG = (
    "<think></think><answer>1</answer>",
    "<think>a coin</think><answer>2</answer>",
    "<answer>1</answer>",
)


def test_answers_rewards_and_entropy() -> None:
    task = OneTwo()
    result, rows = result_of(task, task.prompts, [[ONE, ONE, ONE, TWO, WRONG]], arm=ARM, seed=7)
    assert result.answers == {"1": 3, "2": 1}
    assert result.reward == 0.8
    assert (result.samples, result.unscored, result.seed, result.arm) == (5, 0, 7, ARM)
    assert result.metrics["valid_answers"] == 0.8
    assert result.metrics["answer_entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert [row["answer"] for row in rows] == ["1", "1", "1", "2", None]
    assert [row["correct"] for row in rows] == [True, True, True, True, False]
    assert all(row["prompt"] == task.prompts[0] for row in rows)


class Half:
    """Two prompts without known answers; what is longer than three letters cannot be scored."""

    name = "half"
    prompts = ("a", "b")

    def parse(self, response: str) -> str | None:
        return response or None

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        return [len(text) if len(text) <= 3 else None for text in responses]

    def known_answers(self, prompt: str) -> None:
        return None


def test_what_cannot_be_scored_is_counted_and_never_a_zero() -> None:
    result, rows = result_of(Half(), Half.prompts, [["x", "yyyy"], ["zz", "zz"]], arm=None, seed=0)
    assert result.reward == pytest.approx((1 + 2 + 2) / 3)
    assert result.unscored == 1
    assert result.answers == {}
    assert result.metrics["distinct_classes"] == 1.5
    silent, _ = result_of(Half(), ("a",), [["", "x", ""]], arm=None, seed=0)
    assert silent.metrics["distinct_classes"] == 1
    assert [row["reward"] for row in rows] == [1, None, 2, 2]
    assert "correct" not in rows[0]
    nothing, _ = result_of(Half(), ("a",), [["wwww"]], arm=None, seed=0)
    assert math.isnan(nothing.reward)


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    task = OneTwo()
    for arm, texts in ((ARM, [ONE, TWO]), (None, [WRONG, WRONG])):
        result, _ = result_of(task, task.prompts, [texts], arm=arm, seed=1)
        result.save(tmp_path / "result.json")
        assert load_result(tmp_path / "result.json") == result
    unscored, _ = result_of(Half(), ("a",), [["wwww"]], arm=None, seed=0)
    unscored.save(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["reward"] is None
    assert math.isnan(load_result(tmp_path / "result.json").reward)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"arm": {"trainer": "rloo"}, "reward": 1}'])
def test_another_file_is_one_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(RunError, match=r"result\.json(: expected the result of a run| is damaged)"):
        load_result(tmp_path / "result.json")


def test_creative_answers_are_told_apart_by_the_task_and_silence_is_none(tmp_path: Path) -> None:
    """Two of three are the same for the judge; embeddings at 0°, 90° and 180° have a mean 1 − cos of 4/3."""

    class Zero:
        def scores(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
            return [0.0] * len(responses)

    class Length:
        def same(self, first: str, second: str) -> bool:
            return len(first) == len(second)

    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a"}')
    long = "one two three four five six"
    places = {long: [1.0, 0.0], long.upper(): [0.0, 3.0], f"{long} 7": [-2.0, 0.0], "": [1.0, 0.0]}
    task = Creative(
        tmp_path / "prompts.jsonl",
        reward_model=Zero(),
        judge=Length(),
        embedder=lambda texts: torch.tensor([places[text] for text in texts]),
    )
    result, _ = result_of(task, task.prompts, [[long, long.upper(), f"{long} 7"]], arm=None, seed=0)
    assert result.metrics["distinct_classes"] == 2
    assert result.metrics["semantic_diversity"] == pytest.approx(4 / 3)
    silent, _ = result_of(task, task.prompts, [["", "", long]], arm=None, seed=0)
    assert silent.metrics["distinct_classes"] == 1


def test_every_beta_has_its_own_folder() -> None:
    one, other = (Arm(trainer="rloo", kl="reverse", method="mara", beta=b) for b in (0.01, 0.010000001))
    assert one.folder_name == "rloo-reverse-mara-0.01"
    assert one.folder_name != other.folder_name
