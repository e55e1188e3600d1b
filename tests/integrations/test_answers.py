"""Answers and their figures, without a trainer."""

import math
from collections.abc import Hashable
from typing import Any

import pytest

from allmodes.errors import InputError
from allmodes.integrations.answers import answer_figures, answers_of


def test_figures_by_hand() -> None:
    """Groups of four: a a a b, then none, then one answer alone, then all different but for one invalid."""
    answers = [*"aaab", None, None, None, None, None, None, "a", None, "c", None, "a", "b"]
    figures = answer_figures(answers, group_size=4)
    first = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert figures == pytest.approx(
        {"valid": 8 / 16, "distinct": (2 + 0 + 1 + 3) / 4, "entropy": (first + 0 + math.log(3)) / 3}
    )


def test_a_group_s_answers_are_its_own() -> None:
    """The same answers in another order have figures of their own."""
    together, apart = answer_figures(list("aabb"), group_size=2), answer_figures(list("abab"), group_size=2)
    assert together == {"valid": 1, "distinct": 1, "entropy": 0}
    assert apart == pytest.approx({"valid": 1, "distinct": 2, "entropy": math.log(2)})


def test_without_a_valid_answer_there_is_no_entropy() -> None:
    figures = answer_figures([None] * 4, group_size=2)
    assert (figures["valid"], figures["distinct"]) == (0, 0)
    assert math.isnan(figures["entropy"])


@pytest.mark.parametrize("answers", [[0, 1], [False, True], ["", "a"], [(), (1, 2)], [frozenset(), ""]])
def test_only_none_is_no_answer(answers: list[Hashable]) -> None:
    assert answer_figures(answers, group_size=2) == pytest.approx(
        {"valid": 1, "distinct": 2, "entropy": math.log(2)}
    )


def test_the_key_sees_the_text_of_a_string_or_of_the_last_message() -> None:
    turns = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert answers_of(str.upper, ["x y", turns]) == ["X Y", "B"]


def test_a_tool_never_answers_for_the_model() -> None:
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
    }
    tool = {"role": "tool", "content": "42"}
    assert answers_of(str, [[call, tool]]) == [None]
    assert answers_of(str, [[call, tool, {"role": "assistant", "content": "43"}]]) == ["43"]
    assert answers_of(str, [[tool], []]) == [None, None]


def _divide(text: str) -> float:
    return 1 / len(text)


def _two_lines(text: str) -> str:
    raise ValueError(f"one line\nand more of {text}")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (str.split, r"^`outcome_key` must return something hashable, .*; got \[\] of type list for ''$"),
        (_divide, r"^`outcome_key` raised ZeroDivisionError: .*, for the completion ''; let it return None"),
        (_two_lines, r"^`outcome_key` raised ValueError: one line and more of, for the completion ''"),
        (
            lambda _: ("a", ["b"]),
            r"hashable, or None for an invalid completion; got \('a', \['b'\]\) of type tuple",
        ),
        (lambda _: float("nan"), r"^`outcome_key` must return None for an invalid .*; got nan for ''$"),
    ],
)
def test_a_broken_key_is_named_with_what_it_returned(key: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        answers_of(key, [""])
    assert "\n" not in str(caught.value)


def test_a_long_completion_does_not_fill_the_message() -> None:
    with pytest.raises(InputError) as caught:
        answers_of(str.split, ["word " * 1000])
    assert len(str(caught.value)) < 250
