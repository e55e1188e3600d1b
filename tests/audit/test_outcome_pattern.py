"""A user's regular expression on what a model wrote: it has an end, and knows what Python's patterns know."""

from typing import Any

import pytest

from allmodes.audit.logs import fields
from allmodes.audit.logs.formats import map_columns
from allmodes.errors import InputError


def outcome(pattern: str, response: str) -> Any:
    row = {"response": response, "reward": 1.0}
    return map_columns(row, outcome_pattern=pattern).convert(row)["outcome"]


@pytest.mark.parametrize(
    ("pattern", "response", "found"),
    [
        (r"answer is (\d+)", "so the answer is 42.", "42"),
        (r"\d+", "so the answer is 42.", "42"),
        (r"(?<=<answer>).*?(?=</answer>)", "<answer>fig</answer>", "fig"),
        (r"(\w+) and \1", "no, one and one", "one"),
        (r"(?i)ANSWER: (?P<what>\w+)", "Answer: fig", "fig"),
        (r"answer: (\w+)", "none", None),
        (r"(a+)+$", "a" * 40 + "b", None),
    ],
)
def test_what_a_pattern_finds(pattern: str, response: str, found: str | None) -> None:
    assert outcome(pattern, response) == found


@pytest.mark.parametrize("pattern", [r"(a|aa)+$", r"(.*a){20}c"])
def test_a_match_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.setattr(fields, "_PATTERN_SECONDS", 0.05)
    with pytest.raises(
        InputError, match=r"`outcome_pattern`: expected a pattern that takes less .* 4,001 characters"
    ):
        outcome(pattern, "a" * 4000 + "b")


@pytest.mark.parametrize("pattern", ["(", "*", "(?P<a>x)(?P<a", "[", "(" * 3000, r"\L<x>", "a{2,1}", "(?z)"])
def test_what_is_no_pattern_is_one_line(pattern: str) -> None:
    with pytest.raises(InputError, match="`outcome_pattern`: expected a regular expression; "):
        outcome(pattern, "a")
