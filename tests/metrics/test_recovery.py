"""Recovery of a known set, against all orders of the samples."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.errors import InputError
from allmodes.metrics import cumulative_recovery, pass_at_k, recovery_rate, uniqueness, valid_rate

ANSWERS = st.lists(st.sampled_from(["a", "b", "c", "wrong", None]), min_size=1, max_size=6)


def by_orders(answers: Sequence[str | None], admissible: Sequence[str]) -> list[Fraction]:
    """The mean over every order of the samples, counted."""
    totals = [Fraction(0)] * len(answers)
    orders = list(permutations(answers))
    for order in orders:
        for k in range(len(order)):
            totals[k] += Fraction(len(set(order[: k + 1]) & set(admissible)), len(admissible))
    return [total / len(orders) for total in totals]


@settings(max_examples=60, deadline=None)
@given(answers=ANSWERS)
def test_cumulative_recovery_is_the_mean_over_all_orders(answers: list[str | None]) -> None:
    expected = by_orders(answers, ["a", "b", "c", "d"])
    assert cumulative_recovery(answers, ["a", "b", "c", "d"]) == pytest.approx(list(map(float, expected)))


@given(answers=st.lists(st.sampled_from(["a", "b", "c", "wrong", None]), min_size=1, max_size=40))
def test_the_curve_rises_from_the_valid_rate_to_the_recovery_rate(answers: list[str | None]) -> None:
    known = {"a", "b", "c"}
    curve = cumulative_recovery(answers, known)
    assert len(curve) == len(answers)
    assert all(later >= sooner - 1e-12 for sooner, later in pairwise(curve))
    assert curve[0] == pytest.approx(valid_rate(answers, known) / 3)
    assert curve[-1] == pytest.approx(recovery_rate(answers, known))


def test_of_one_outcome_it_is_pass_at_k() -> None:
    answers = ["a"] * 5 + [None] * 995
    curve = cumulative_recovery(answers, ["a"])
    for k in (1, 10, 500, 1000):
        assert curve[k - 1] == pytest.approx(pass_at_k(1000, 5, k=k), rel=1e-10)


def test_rates_by_hand() -> None:
    answers = ["a", "a", "b", "wrong", None]
    assert valid_rate(answers, ["a", "b", "c", "d"]) == 3 / 5
    assert uniqueness(answers, ["a", "b", "c", "d"]) == 2 / 3
    assert recovery_rate(answers, ["a", "b", "c", "d"]) == 2 / 4
    assert math.isnan(uniqueness(["wrong", None], ["a"]))
    assert recovery_rate(["wrong", None], ["a"]) == 0
    assert recovery_rate(["a"], ["a", "a"]) == 1  # a set, however it is given


def test_none_is_no_answer_even_where_it_is_in_the_set() -> None:
    assert valid_rate([None, "a"], [None, "a"]) == 0.5


@pytest.mark.parametrize("measure", [valid_rate, uniqueness, recovery_rate, cumulative_recovery])
def test_nothing_to_count_is_refused(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(InputError, match=r"`answers` must hold at least one answer; got none"):
        measure([], ["a"])
    with pytest.raises(InputError, match=r"`admissible` must hold at least one answer; got none"):
        measure(["a"], [])
