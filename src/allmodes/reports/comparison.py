"""Compare arms: mean and spread of each figure, Welch tests against the first arm, and a verdict."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, final

from allmodes.metrics import summarise, welch_test
from allmodes.reports.formatting import NBSP, is_clear, listing, p_relation

DASH = "–"
Run = TypeVar("Run")


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number as text, a note on it, and whether it marks a clear difference.

    missing: number of seeds left out of a mean because the figure is undefined in them.
    """

    text: str
    note: str = ""
    is_clear: bool = False
    missing: int = 0


@final
@dataclass(frozen=True, kw_only=True)
class Metric(Generic[Run]):
    """A figure of a run; None or NaN if it is undefined.

    hint: text below the name in a table. digits: decimals. better, worse: the words of a verdict for an arm
    that differs clearly from the first.
    """

    name: str
    value: Callable[[Run], float | None]
    digits: int
    better: str
    worse: str
    hint: str = ""
    more_is_better: bool = True


@final
@dataclass(frozen=True)
class Row:
    """A metric of every arm.

    values: by label of the arm, one per seed, None if undefined; the first arm is the reference.
    """

    metric: Metric[Any]
    values: Mapping[str, Sequence[float | None]]

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Mean and standard deviation of each arm."""
        return {arm: mean_cell(values, digits=self.metric.digits) for arm, values in self.values.items()}

    @cached_property
    def tests(self) -> dict[str, Cell]:
        """The p-value of each arm except the first."""
        return {arm: p_cell(self.p(arm)) for arm in list(self.values)[1:]}

    @property
    def reference(self) -> str:
        """The arm that the others are tested against."""
        return next(iter(self.values))

    def p(self, arm: str) -> float | str:
        """One-sided p-value of Welch's test that `arm` is better than the first, or the reason for none."""
        both = [self.values[arm], self.values[self.reference]]
        if min(map(len, both)) < 2:
            return "no test with fewer than two seeds"
        ours, theirs = map(_defined, both)
        # Leaving out seeds with undefined values would favour the arm that has more of them.
        if len(ours) < len(both[0]) or len(theirs) < len(both[1]):
            return "no test: undefined in some seeds"
        p = welch_test(ours, theirs) if self.metric.more_is_better else welch_test(theirs, ours)
        return "no test: all values are equal" if math.isnan(p) else p


def compare(metrics: Sequence[Metric[Run]], groups: Mapping[str, Sequence[Run]]) -> list[Row]:
    """A row for each metric. groups: runs by label of the arm, one per seed, with the reference first."""
    return [
        Row(metric, {arm: [_known(metric.value(run)) for run in runs] for arm, runs in groups.items()})
        for metric in metrics
    ]


def mean_cell(values: Sequence[float | None], *, digits: int) -> Cell:
    """Mean ± standard deviation over the seeds in which a figure is defined; for one seed, its value."""
    known = _defined(values)
    missing = len(values) - len(known)
    seeds = f"{len(values)} seed{'' if len(values) == 1 else 's'}"
    note = f"undefined in {missing} of {seeds}" if missing else ""
    if not known:
        text = DASH
    elif len(known) == 1:
        text = f"{known[0]:,}" if isinstance(known[0], int) else f"{known[0]:.{digits}f}"
    else:
        summary = summarise(known)
        text = f"{summary.mean:,.{digits}f} ± {summary.std:,.{digits}f}"
    return Cell(text=text, note=note, missing=missing)


def p_cell(p: float | str) -> Cell:
    """A p-value for a table; a dash for NaN or if there is no test."""
    if isinstance(p, str):
        return Cell(text=DASH, note=p)
    if math.isnan(p):
        return Cell(text=DASH)
    return Cell(text=p_relation(p).removeprefix(f"={NBSP}"), is_clear=is_clear(p))


def ran_alone(arm: str) -> str:
    """The verdict on a single arm."""
    return f"{arm} is the only arm: there is nothing to compare it with."


def verdict(rows: Sequence[Row], arm: str) -> str:
    """Sentences on the tests of `arm` against the first arm, with clear differences first."""
    reference = rows[0].reference
    if min(len(rows[0].values[name]) for name in (arm, reference)) < 2:
        return f"No verdict on {arm} and {reference}: there is no test with fewer than two seeds."
    differing, alike, untested = [], [], []
    for row in rows:
        p = row.p(arm)
        if isinstance(p, str):
            untested.append(row.metric.name)
        elif is_clear(p):
            differing.append(f"{_side(row.metric, p)} {_p(p)}")
        else:
            alike.append(f"{row.metric.name} {_p(p)}")
    if not differing and not alike:
        return f"No verdict on {arm} and {reference}: no figure could be tested."
    sentences = []
    if differing:
        sentences.append(f"Compared with {reference}, {arm} {listing(differing)}.")
    if alike:
        does = "does" if len(alike) == 1 else "do"
        between = "" if differing else f" between {arm} and {reference}"
        sentences.append(f"{listing(alike)} {does} not differ clearly{between}.")
    if untested:
        sentences.append(f"Not tested: {listing(untested)}.")
    return " ".join(sentences)


def verdict_with_means(rows: Sequence[Row], arm: str) -> str:
    """One sentence on `arm` against the first with both means of every metric, in two digits."""
    parts = []
    for row in rows:
        name, p = row.metric.name, row.p(arm)
        means = f"{_mean(row.values[arm])} and {_mean(row.values[row.reference])}"
        if isinstance(p, str):
            parts.append(f"{name} {means}, not tested")
        elif is_clear(p):
            parts.append(f"{_side(row.metric, p)}, {means} {_p(p)}")
        else:
            parts.append(f"{name} not clearly different, {means} {_p(p)}")
    return f"{arm} against {rows[0].reference}: {'; '.join(parts)}."


def _side(metric: Metric[Any], p: float) -> str:
    return metric.better if p < 0.5 else metric.worse


def _p(p: float) -> str:
    return f"(p{NBSP}{p_relation(p)})"


def _mean(values: Sequence[float | None]) -> str:
    known = _defined(values)
    return f"{summarise(known).mean:.2f}" if known else "none"


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _defined(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]
