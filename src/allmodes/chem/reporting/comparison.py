"""Algorithms side by side: mean and spread of each figure, tests against the first, a verdict in words."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from allmodes.chem.arms import label_of_arm, parse_arm
from allmodes.chem.design.results import RunResult
from allmodes.methods import METHODS, method_names
from allmodes.metrics import summarise, welch_test
from allmodes.reports.formatting import NBSP, is_clear, listing, p_relation
from allmodes.reports.plotting import distinct_colors

DASH = "–"

Groups = Mapping[str, Sequence[RunResult]]  # by name of the arm, in order: the first is the reference


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number as shown, what must be said of it, and whether it marks a clear difference."""

    text: str
    note: str = ""
    is_clear: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One figure: a cell for each algorithm, and a p-value for each but the first."""

    name: str
    hint: str
    cells: list[Cell]
    tests: list[Cell]


@final
@dataclass(frozen=True, kw_only=True)
class _Metric:
    """A figure of a run, None where it is undefined, and words for the verdict."""

    name: str
    hint: str
    value: Callable[[RunResult], float | None]
    decimals: int
    higher_is_better: bool
    better: str
    worse: str

    def defined(self, group: Sequence[RunResult]) -> list[float]:
        return [value for run in group if (value := self.value(run)) is not None]


_METRICS = (
    _Metric(
        name="Yield", hint="hits; more is better", value=lambda run: run.hits,
        decimals=1, higher_is_better=True, better="found more hits", worse="found fewer hits",
    ),
    _Metric(
        name="OB100", hint="calls until the 100th hit; fewer is better", value=lambda run: run.ob100,
        decimals=1, higher_is_better=False,
        better="reached 100 hits in fewer calls", worse="needed more calls for 100 hits",
    ),
    _Metric(
        name="IntDiv1", hint="mean distance among hits; more is better", value=lambda run: run.intdiv1,
        decimals=3, higher_is_better=True,
        better="had more diverse hits by IntDiv1", worse="had less diverse hits by IntDiv1",
    ),
    _Metric(
        name="#Circles", hint="distinct regions with a hit; more is better", value=lambda run: run.circles,
        decimals=1, higher_is_better=True, better="covered more circles", worse="covered fewer circles",
    ),
)  # fmt: skip


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each arm by its name: that of its method, of several the first."""
    return distinct_colors({name: METHODS[method_names(parse_arm(name).method)[0]].color for name in names})


def compare(groups: Groups) -> list[Comparison]:
    """The rows of the comparison: Yield, OB100, IntDiv1, #Circles."""
    first, *later = groups.values()
    return [
        Comparison(
            name=metric.name,
            hint=metric.hint,
            cells=[_mean_cell(metric, group) for group in groups.values()],
            tests=[_test_cell(metric, group, first) for group in later],
        )
        for metric in _METRICS
    ]


def verdicts(groups: Groups) -> list[str]:
    """For each later algorithm, what its tests against the first say."""
    (reference, first), *later = groups.items()
    if not later:
        return [f"{label_of_arm(reference)} ran alone: there is nothing to compare it with."]
    return [_verdict(label_of_arm(name), group, label_of_arm(reference), first) for name, group in later]


def _mean_cell(metric: _Metric, group: Sequence[RunResult]) -> Cell:
    """Mean ± sd over the seeds in which the figure is defined, and in how many it is not."""
    values = metric.defined(group)
    missing = len(group) - len(values)
    note = f"undefined in {missing} of {len(group)} seed{'' if len(group) == 1 else 's'}" if missing else ""
    if not values:
        return Cell(text=DASH, note=note)
    summary = summarise(values)
    if summary.count == 1:
        whole = isinstance(values[0], int)
        return Cell(text=f"{values[0]:,}" if whole else f"{values[0]:.{metric.decimals}f}", note=note)
    places = f",.{metric.decimals}f"
    return Cell(text=f"{summary.mean:{places}} ± {summary.std:{places}}", note=note)


def _test(metric: _Metric, group: Sequence[RunResult], first: Sequence[RunResult]) -> float | str:
    """One-sided Welch p-value for `group` being better than `first`, or why there is none."""
    ours, theirs = metric.defined(group), metric.defined(first)
    if min(len(group), len(first)) < 2:
        return "no test with fewer than two seeds"
    # To leave out the seeds that never got there would favour whoever has more of them.
    if len(ours) < len(group) or len(theirs) < len(first):
        return "no test: undefined in some seeds"
    p = welch_test(ours, theirs) if metric.higher_is_better else welch_test(theirs, ours)
    return "no test: all values are equal" if math.isnan(p) else p


def _test_cell(metric: _Metric, group: Sequence[RunResult], first: Sequence[RunResult]) -> Cell:
    p = _test(metric, group, first)
    if isinstance(p, str):
        return Cell(text=DASH, note=p)
    return Cell(text=p_relation(p).removeprefix(f"={NBSP}"), is_clear=is_clear(p))


def _verdict(name: str, group: Sequence[RunResult], reference: str, first: Sequence[RunResult]) -> str:
    if min(len(group), len(first)) < 2:
        return f"No verdict on {name} and {reference}: there is no test with fewer than two seeds."
    differing, alike, untested = [], [], []
    for metric in _METRICS:
        p = _test(metric, group, first)
        if isinstance(p, str):
            untested.append(metric.name)
            continue
        said = f"(p{NBSP}{p_relation(p)})"
        if is_clear(p):
            differing.append(f"{metric.better if p < 0.5 else metric.worse} {said}")
        else:
            alike.append(f"{metric.name} {said}")
    if not differing and not alike:
        return f"No verdict on {name} and {reference}: no figure could be tested."
    sentences = []
    if differing:
        sentences.append(f"Compared with {reference}, {name} {listing(differing)}.")
    if alike:
        does = "does" if len(alike) == 1 else "do"
        between = "" if differing else f" between {name} and {reference}"
        sentences.append(f"{listing(alike)} {does} not differ clearly{between}.")
    if untested:
        sentences.append(f"Not tested: {listing(untested)}.")
    return " ".join(sentences)
