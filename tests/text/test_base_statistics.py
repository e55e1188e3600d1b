"""Shares of a base model's answers, against counting by hand."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from allmodes.errors import InputError
from allmodes.tasks import OneTwo, Task
from allmodes.text.base_statistics import BaseModel, Share, base_statistics, load_base_model

ONE, TWO, WRONG = "<think></think><answer>1</answer>", "<think></think><answer>2</answer>", "1"


class Letters:
    """Each prompt's own letters are its known answers."""

    name = "letters"
    prompts = ("ab", "abc", "c")

    def parse(self, response: str) -> str | None:
        return response if len(response) == 1 else None

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        return [float(response in prompt) for prompt, response in zip(prompts, responses, strict=True)]

    def known_answers(self, prompt: str) -> tuple[str, ...] | None:
        return None if prompt == "?" else tuple(prompt)


def test_one_prompt_has_binomial_errors() -> None:
    task: Task = OneTwo()
    found = base_statistics(task, task.prompts, [[ONE, ONE, ONE, TWO, WRONG]])
    assert found is not None
    assert (found.prompts, found.samples) == (1, 5)
    assert found.valid == Share(mean=0.8, standard_error=pytest.approx(math.sqrt(0.8 * 0.2 / 5)))
    assert found.answers == {
        "1": Share(mean=0.75, standard_error=pytest.approx(math.sqrt(0.75 * 0.25 / 4))),
        "2": Share(mean=0.25, standard_error=pytest.approx(math.sqrt(0.75 * 0.25 / 4))),
    }
    assert found.describe() == (
        "0.800 ± 0.179 of 5 responses valid; of these 1 0.750 ± 0.217 and 2 0.250 ± 0.217"
    )


def test_of_several_prompts_shares_are_means_by_the_place_of_an_answer() -> None:
    """A letter of another prompt is not valid; "c" has no valid response, and counts for `valid` alone."""
    found = base_statistics(
        Letters(), Letters.prompts, [["a", "a", "b", "c"], ["c", "b", "?", "??"], ["a", "b", "", "x"]]
    )
    assert found is not None
    assert found.valid.mean == pytest.approx((3 / 4 + 2 / 4 + 0) / 3)
    mean = 1.25 / 3
    spread = math.sqrt(((0.75 - mean) ** 2 + (0.5 - mean) ** 2 + mean**2) / 2)
    assert found.valid.standard_error == pytest.approx(spread / math.sqrt(3))
    assert list(found.answers) == ["answer 1", "answer 2", "answer 3"]
    assert found.answers["answer 1"] == Share(mean=pytest.approx(1 / 3), standard_error=pytest.approx(1 / 3))
    assert found.answers["answer 2"].mean == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found.answers["answer 3"].mean == pytest.approx(1 / 2)


def test_nothing_to_count_is_none_and_unknown_answers_have_no_statistics() -> None:
    task: Task = OneTwo()
    found = base_statistics(task, task.prompts, [[WRONG, WRONG]])
    assert found is not None
    assert found.valid == Share(mean=0, standard_error=0)
    assert found.answers["1"] == Share(mean=None, standard_error=None)
    assert base_statistics(Letters(), ["ab", "?"], [["a"], ["a"]]) is None
    with pytest.raises(InputError, match="at least one response to each of at least one prompt"):
        base_statistics(task, task.prompts, [[]])


def test_they_are_read_as_they_were_saved(tmp_path: Path) -> None:
    task: Task = OneTwo()
    statistics = base_statistics(task, task.prompts, [[ONE, WRONG]])
    assert statistics is not None
    for before in (None, statistics):
        model = BaseModel(base=statistics, before=before)
        model.save(tmp_path)
        assert load_base_model(tmp_path) == model
    assert load_base_model(tmp_path / "none") is None
