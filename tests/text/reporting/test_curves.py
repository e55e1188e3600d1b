"""Bins of a run's metrics, entropies of counts, and Pareto fronts."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmodes.text.reporting.curves import bins, pareto_front


def row(
    step: int, reward: float | None, counts: dict[str, int], distinct: float | None = None
) -> dict[str, Any]:
    return {"step": step, "reward": reward, "counts": counts, "answers/distinct": distinct}


def test_a_bin_pools_counts_and_averages_rewards() -> None:
    rows = [
        row(1, 0.5, {"1": 3}),
        row(2, 1.0, {"1": 1, "2": 4}),
        row(3, None, {}),
        row(4, 0.25, {"2": 1}),
        row(5, 0.75, {"1": 2}),
    ]
    first, second, last = bins(rows, size=2, knows_answers=True)
    assert (first.step, first.reward, dict(first.counts)) == (2, 0.75, {"1": 4, "2": 4})
    assert first.diversity == pytest.approx(math.log(2))
    assert (second.step, second.reward, dict(second.counts)) == (4, 0.25, {"2": 1})
    assert second.diversity == 0
    assert (last.step, last.reward) == (5, 0.75)


def test_what_was_not_measured_is_nan() -> None:
    (only,) = bins([row(1, None, {})], size=8, knows_answers=True)
    assert math.isnan(only.reward)
    assert math.isnan(only.diversity)


def test_without_known_answers_diversity_is_the_mean_number_in_a_group() -> None:
    rows = [row(1, 1.0, {}, 3.0), row(2, 1.0, {}, 5.0), row(3, 1.0, {}, None)]
    (only,) = bins(rows, size=3, knows_answers=False)
    assert only.diversity == 4
    (only,) = bins([{**each, "semantic_diversity": 0.25} for each in rows], size=3, knows_answers=False)
    assert only.diversity == 0.25


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


@given(POINTS)
def test_the_front_is_every_point_that_none_equals_or_beats(points: list[tuple[int, int]]) -> None:
    expected = sorted(
        point
        for point in set(points)
        if not any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in set(points))
    )
    assert pareto_front(points) == expected
    for left, right in itertools.pairwise(pareto_front(points)):
        assert left[0] < right[0]
        assert left[1] > right[1]


def test_the_front_leaves_out_what_is_unknown() -> None:
    assert pareto_front([(math.nan, 9.0), (1.0, 1.0), (0.5, math.nan)]) == [(1.0, 1.0)]
    assert pareto_front([]) == []
