"""Means and Welch's test against closed forms, published examples and scipy."""

import math
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from allmodes.errors import InputError
from allmodes.metrics import Summary, summarise, welch_test

PROPERTY = settings(deadline=None, max_examples=200)
VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=12)

# Three examples of Welch's test as published: two-sided p-values to three digits.
A1 = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
A2 = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4]
B1 = [17.2, 20.9, 22.6, 18.1, 21.7, 21.4, 23.5, 24.2, 14.7, 21.8]
B2 = [
    *(21.5, 22.8, 21.0, 23.0, 21.6, 23.6, 22.5, 20.7, 23.4, 21.8),
    *(20.7, 21.7, 21.5, 22.5, 23.6, 21.5, 22.5, 23.5, 21.5, 21.8),
]
C1 = [19.8, 20.4, 19.6, 17.8, 18.5, 18.9, 18.3, 18.9, 19.5, 22.0]
C2 = [
    *(28.2, 26.6, 20.1, 23.3, 25.2, 22.1, 17.7, 27.6, 20.6, 13.7),
    *(23.2, 17.5, 20.6, 18.0, 23.9, 21.6, 24.3, 20.4, 24.0, 13.2),
]
PUBLISHED = [(A1, A2, 0.021), (B1, B2, 0.149), (C1, C2, 0.036)]


@pytest.mark.parametrize(("lesser", "greater", "two_sided"), PUBLISHED)
def test_published_examples(lesser: list[float], greater: list[float], two_sided: float) -> None:
    assert 2 * welch_test(greater, lesser) == pytest.approx(two_sided, abs=5e-4)
    assert 2 * (1 - welch_test(lesser, greater)) == pytest.approx(two_sided, abs=5e-4)


@pytest.mark.parametrize("shift", [-400.0, -3.0, -0.1, 0.0, 0.02, 1.0, 7.0, 1e4])
def test_two_degrees_of_freedom(shift: float) -> None:
    """Pairs of equal spread: ν = 2, where P(T ≥ t) = ½ − t / (2√(2 + t²))."""
    t = shift / math.sqrt(0.5 + 0.5)
    # the same tail without cancellation, for t far above 0
    root = math.sqrt(2 + t * t)
    expected = 1 / (root * (root + t)) if t >= 0 else 0.5 - t / (2 * root)
    assert welch_test([shift, shift + math.sqrt(2)], [0, math.sqrt(2)]) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("shift", [-1e-5, -1e-9, 1e-8, 1e-6])
def test_means_that_nearly_agree(shift: float) -> None:
    """ν = 2 again: ν/(ν + t²) rounds to 1 here, and p − ½ must not be lost with it."""
    expected = -shift / (2 * math.sqrt(2 + shift * shift))
    p = welch_test([shift - math.sqrt(0.5), shift + math.sqrt(0.5)], [-math.sqrt(0.5), math.sqrt(0.5)])
    assert p - 0.5 == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("shift", [-30.0, -1.0, 0.0, 0.3, 2.0, 50.0, 1e6])
def test_one_degree_of_freedom(shift: float) -> None:
    """A side that does not vary: ν = 1, the Cauchy distribution, P(T ≥ t) = arctan2(1, t)/π."""
    t = shift / math.sqrt(0.5 / 2)  # one pair with variance ½
    assert welch_test([shift, shift + 1], [0.5, 0.5]) == pytest.approx(math.atan2(1, t) / math.pi, rel=1e-8)


@pytest.mark.parametrize("shift", [-2.0, 0.0, 0.5, 1.0, 5.0])
def test_four_degrees_of_freedom(shift: float) -> None:
    """Triples of equal spread: ν = 4, where P(T ≤ t) = ½ + ⅜ u (1 − u²/12) with u = t/√(1 + t²/4)."""
    t = shift / math.sqrt(2 / 3)
    u = t / math.sqrt(1 + t * t / 4)
    expected = 0.5 - 3 / 8 * u * (1 - u * u / 12)
    assert welch_test([shift - 1, shift, shift + 1], [-1, 0, 1]) == pytest.approx(expected, abs=1e-12)


def test_degrees_of_freedom_of_unequal_spreads() -> None:
    """s²/n of 1 and 2 in pairs: t = 5/√3 and ν = (1 + 2)²/(1² + 2²) = 9/5; p from 30-digit arithmetic."""
    p = welch_test([4.0, 6.0], [-math.sqrt(2), math.sqrt(2)])
    assert p == pytest.approx(0.0574861608929449, abs=1e-14)


@PROPERTY
@given(greater=VALUES, lesser=VALUES)
def test_scipy(greater: list[float], lesser: list[float]) -> None:
    stats = pytest.importorskip("scipy.stats")
    # scipy warns of, and may differ by, rounding where a spread is nothing but rounding
    assume(all(statistics.pstdev(side) > 1e-3 for side in (greater, lesser)))
    expected = float(stats.ttest_ind(greater, lesser, equal_var=False, alternative="greater").pvalue)
    assert welch_test(greater, lesser) == pytest.approx(expected, rel=1e-8, abs=1e-300)


@PROPERTY
@given(greater=VALUES, lesser=VALUES)
def test_the_two_sides_add_up_to_one(greater: list[float], lesser: list[float]) -> None:
    one, other = welch_test(greater, lesser), welch_test(lesser, greater)
    if math.isnan(one):
        assert math.isnan(other)
    else:
        assert 0 <= one <= 1
        assert one + other == pytest.approx(1, abs=1e-12)


def test_many_values_are_nearly_normal() -> None:
    """ν = 19,998 or so, where the continued fraction has long arguments: P(Z ≥ 2) = .02275 + O(1/ν)."""
    spread = [float(k % 2) for k in range(10_000)]
    error = math.sqrt(2 * statistics.variance(spread) / 10_000)
    p = welch_test([x + 2 * error for x in spread], spread)
    assert p == pytest.approx(0.5 * math.erfc(2 / math.sqrt(2)), rel=1e-3)


@pytest.mark.parametrize("scale", [1e-120, 1e-30, 1e30, 1e120])
def test_the_unit_of_the_values_does_not_matter(scale: float) -> None:
    """Also where the square of a variance leaves the range of floats."""
    greater, lesser = [3.0, 4.0, 6.0], [1.0, 2.0, 5.0, 2.5]
    p = welch_test([scale * x for x in greater], [scale * x for x in lesser])
    assert p == pytest.approx(welch_test(greater, lesser), rel=1e-9)


@pytest.mark.parametrize(
    ("greater", "lesser", "expected"),
    [
        ([], [], math.nan),
        ([1.0], [0.0, 1.0], math.nan),
        ([0.0, 1.0], [1.0], math.nan),
        ([1.0, 1.0], [1.0, 1.0], math.nan),
        ([2.0, 2.0], [1.0, 1.0], 0.0),
        ([1.0, 1.0], [2.0, 2.0], 1.0),
    ],
)
def test_too_few_values_or_no_spread(
    greater: Sequence[float], lesser: Sequence[float], expected: float
) -> None:
    assert welch_test(greater, lesser) == pytest.approx(expected, nan_ok=True)


@PROPERTY
@given(values=VALUES)
def test_summary(values: list[float]) -> None:
    summary = summarise(values)
    assert summary.mean == pytest.approx(statistics.fmean(values), rel=1e-12, abs=1e-12)
    assert summary.std == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-12)
    assert summary.count == len(values)


def test_summary_of_one_and_of_no_value() -> None:
    one = summarise([3.5])
    assert (one.mean, one.count) == (3.5, 1)
    assert math.isnan(one.std)
    with pytest.raises(InputError, match="`values` must hold at least one number"):
        summarise([])
    assert summarise((1, 2, 3)) == Summary(mean=2, std=1, count=3)
