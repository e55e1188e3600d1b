"""Arms side by side: numbers by another route, what is not tested and why, and the sentences on them."""

import math
import statistics
from collections.abc import Mapping, Sequence

import pytest

from allmodes.reports.comparison import (
    DASH,
    Cell,
    Metric,
    Row,
    compare,
    mean_cell,
    p_cell,
    ran_alone,
    verdict,
    verdict_with_means,
)
from allmodes.reports.formatting import NBSP

stats = pytest.importorskip("scipy.stats")

Run = tuple[float | None, float | None]
HITS = Metric[Run](name="hits", hint="of a run", value=lambda r: r[0], digits=1, better="won", worse="lost")
CALLS = Metric[Run](
    name="calls", value=lambda r: r[1], digits=2, better="was faster", worse="was slower",
    more_is_better=False,
)  # fmt: skip
FIRST = [(1.0, 90.0), (2.0, 80.0), (4.0, 85.0)]
LATER = [(7.0, 60.0), (9.0, 91.0), (8.0, 70.0)]


def rows(**groups: Sequence[Run]) -> list[Row]:
    return compare([HITS, CALLS], groups)


def plain(text: str) -> str:
    return text.replace(NBSP, " ")


def test_means_deviations_and_tests_are_those_of_another_route() -> None:
    for column, (row, side) in enumerate(zip(rows(a=FIRST, b=LATER), ("greater", "less"), strict=True)):
        first, later = ([run[column] for run in group] for group in (FIRST, LATER))
        for arm, values in (("a", first), ("b", later)):
            digits = row.metric.digits
            mean, spread = statistics.mean(values), statistics.stdev(values)
            assert row.cells[arm] == Cell(text=f"{mean:.{digits}f} ± {spread:.{digits}f}")
        expected = stats.ttest_ind(later, first, equal_var=False, alternative=side).pvalue
        assert row.p("b") == pytest.approx(expected, rel=1e-9)
        assert list(row.tests) == ["b"]
        assert row.tests["b"].is_clear == (expected <= 0.05)


def test_to_swap_the_arms_turns_the_p_value_around() -> None:
    for one, other in zip(rows(a=FIRST, b=LATER), rows(b=LATER, a=FIRST), strict=True):
        assert one.p("b") == pytest.approx(1 - float(other.p("a")))


@pytest.mark.parametrize(
    ("first", "later", "expected"),
    [
        ([1.0], [1.0, 2.0], "no test with fewer than two seeds"),
        ([1.0, 2.0], [3.0], "no test with fewer than two seeds"),
        ([1.0, 2.0, None], [3.0, 4.0, 5.0], "no test: undefined in some seeds"),
        ([1.0, 2.0, 3.0], [3.0, math.nan, 5.0], "no test: undefined in some seeds"),
        ([2.0, 2.0], [2.0, 2.0], "no test: all values are equal"),
    ],
)
def test_why_there_is_no_test_is_said(
    first: Sequence[float | None], later: Sequence[float | None], expected: str
) -> None:
    row, _ = rows(a=[(x, 1.0) for x in first], b=[(x, 2.0) for x in later])
    assert row.p("b") == expected
    assert row.tests["b"] == Cell(text=DASH, note=expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 5, None], Cell(text="4.00 ± 1.41", note="undefined in 1 of 3 seeds", missing=1)),
        ([None], Cell(text=DASH, note="undefined in 1 of 1 seed", missing=1)),
        ([], Cell(text=DASH)),
        ([1234], Cell(text="1,234")),  # a count has no digits behind the point
        ([0.5], Cell(text="0.50")),
        ([1000.0, 3000.0], Cell(text="2,000.00 ± 1,414.21")),
    ],
)
def test_a_mean_leaves_out_undefined_seeds_and_says_so(
    values: Sequence[float | None], expected: Cell
) -> None:
    assert mean_cell(values, digits=2) == expected


@pytest.mark.parametrize(
    ("p", "text", "is_clear"),
    [
        (0.05, "0.050", True), (0.051, "0.051", False), (0.42, "0.42", False), (0.95, "0.950", True),
        (1e-9, "< 0.001", True), (1 - 1e-9, "> 0.999", True), (math.nan, DASH, False),
    ],
)  # fmt: skip
def test_a_p_value_near_either_end_is_clear(p: float, text: str, is_clear: bool) -> None:
    cell = p_cell(p)
    assert (plain(cell.text), cell.is_clear) == (text, is_clear)


# SciPy's: t = 5.38 at ν = 3.45, and t = 1.18 at ν = 2.40.
P_HITS, P_CALLS = 0.004, 0.17


def test_a_verdict_names_what_differs_in_whose_favour_and_what_does_not() -> None:
    assert plain(verdict(rows(a=FIRST, b=LATER), "b")) == (
        f"Compared with a, b won (p = {P_HITS}). calls (p = {P_CALLS}) does not differ clearly."
    )
    assert plain(verdict(rows(b=LATER, a=FIRST), "a")).startswith(
        f"Compared with b, a lost (p = {1 - P_HITS}). calls"
    )
    slower = [(None, 900.0), (2.0, 950.0), (4.0, 990.0)]
    assert plain(verdict(rows(a=FIRST, b=slower), "b")) == (
        "Compared with a, b was slower (p > 0.999). Not tested: hits."
    )


def test_a_verdict_without_a_difference_or_a_test_says_that() -> None:
    later = [(run[0], run[1]) for run in FIRST]
    assert plain(verdict(rows(a=FIRST, b=later), "b")) == (
        "hits (p = 0.50) and calls (p = 0.50) do not differ clearly between b and a."
    )
    assert verdict(rows(a=[(1.0, 1.0)] * 2, b=[(1.0, None)] * 2), "b") == (
        "No verdict on b and a: no figure could be tested."
    )
    assert verdict(rows(a=FIRST, b=LATER[:1]), "b") == (
        "No verdict on b and a: there is no test with fewer than two seeds."
    )
    assert ran_alone("a") == "a is the only arm: there is nothing to compare it with."


def test_a_verdict_with_means_gives_both_of_every_metric() -> None:
    found = plain(verdict_with_means(rows(a=FIRST, b=LATER), "b"))
    assert found == (
        f"b against a: won, 8.00 and 2.33 (p = {P_HITS}); "
        f"calls not clearly different, 73.67 and 85.00 (p = {P_CALLS})."
    )
    partly = verdict_with_means(rows(a=FIRST, b=[(None, 1.0), (3.0, 1.0)]), "b")
    assert partly.startswith("b against a: hits 3.00 and 2.33, not tested; was faster, 1.00 and 85.00")
    nothing = verdict_with_means(rows(a=FIRST, b=[(None, 1.0)] * 2), "b")
    assert nothing.startswith("b against a: hits none and 2.33, not tested;")


def test_every_arm_is_tested_against_the_first() -> None:
    groups: Mapping[str, Sequence[Run]] = {"a": FIRST, "b": LATER, "c": [(x + 9, y) for x, y in FIRST]}
    row, _ = compare([HITS, CALLS], groups)
    assert row.reference == "a"
    assert list(row.tests) == ["b", "c"]
    alone, _ = rows(a=FIRST, c=groups["c"])
    assert row.p("c") == alone.p("c")
