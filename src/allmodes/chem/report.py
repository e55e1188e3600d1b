"""The report of a design experiment: one HTML file that explains itself, offline."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import allmodes
from allmodes.chem.figures import WINDOW, draw_molecule, learning_curves
from allmodes.chem.ledger import LedgerRow
from allmodes.chem.results import RunResult, find_hits
from allmodes.errors import ConfigError
from allmodes.metrics import summarise, welch_test
from allmodes.runs.files import write_text
from allmodes.runs.molecules_config import (
    Component,
    MoleculesConfig,
    SimilarityComponent,
    SmartsComponent,
)

_NAMES = {"reinvent": "REINVENT", "mara": "MARA"}
_COLOURS = {"reinvent": "#7f7f7f", "mara": "#1f6fb2"}
_OTHER_COLOURS = ("#c8553d", "#3a8f5c", "#8a5fa8", "#b8860b", "#4a9aa5", "#a0526f")
_STOPS = {"budget": "budget spent", "hits": "enough hits", "collapse": "collapse", "max_steps": "step limit"}
_CARDS, _CARDS_WITHOUT_HITS = 12, 6
_CLEAR = 0.05  # a p-value this near 0 or 1 makes a difference "clear" in the verdict
_DASH = "–"

Ledgers = Mapping[tuple[str, int], Sequence[LedgerRow]]


@final
@dataclass(frozen=True, kw_only=True)
class _Metric:
    """A row of the comparison: its value for a run, and words for the verdict."""

    name: str
    hint: str
    value: Callable[[RunResult], float | None]
    is_count: bool
    higher_is_better: bool
    better: str
    worse: str

    def number(self, value: float, *, exact: bool = False) -> str:
        return f"{value:,.{0 if exact else 1}f}" if self.is_count else f"{value:.3f}"


_METRICS = (
    _Metric(
        name="Yield", hint="hits; more is better", value=lambda run: run.hits,
        is_count=True, higher_is_better=True, better="found more hits", worse="found fewer hits",
    ),
    _Metric(
        name="OB100", hint="calls until the 100th hit; fewer is better", value=lambda run: run.ob100,
        is_count=True, higher_is_better=False,
        better="reached 100 hits in fewer calls", worse="needed more calls for 100 hits",
    ),
    _Metric(
        name="IntDiv1", hint="mean distance of the hits; more is better", value=lambda run: run.intdiv1,
        is_count=False, higher_is_better=True,
        better="had more diverse hits by IntDiv1", worse="had less diverse hits by IntDiv1",
    ),
    _Metric(
        name="#Circles", hint="distinct regions with a hit; more is better", value=lambda run: run.circles,
        is_count=True, higher_is_better=True, better="covered more circles", worse="covered fewer circles",
    ),
)  # fmt: skip


def write_report(path: Path, config: MoleculesConfig, results: Sequence[RunResult], ledgers: Ledgers) -> None:
    """Write the report of all `results` to `path`; the same arguments give the same bytes.

    ledgers: by (algorithm, seed), the rows of each result's run in the order of the calls. Raises
    `ConfigError` without the extra `report`, and `RunError` when the file cannot be written.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401  # here, so that a missing one is named before any work
    except ImportError as error:
        raise ConfigError("the report needs `pip install allmodes[report]`") from error

    found = {result.algorithm for result in results}
    algorithms = [name for name in config.algorithm if name in found]
    groups = {name: [result for result in results if result.algorithm == name] for name in algorithms}
    spare = iter(_OTHER_COLOURS * len(algorithms))
    colours = {_name(name): _COLOURS.get(name) or next(spare) for name in algorithms}
    runs = {_name(name): [ledgers[name, run.seed] for run in group] for name, group in groups.items()}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html").render(
        version=allmodes.__version__,
        title=_listing([_name(name) for name in algorithms]),
        lead=_lead(config, groups),
        remarks=_remarks(config, results),
        colours=colours,
        comparison=_comparison(groups),
        verdicts=_verdicts(groups),
        window=WINDOW,
        figure=learning_curves(
            runs, colours=colours, screen=config.screen, circle_distance=config.circle_distance
        ),
        galleries=[_gallery(config, name, group, ledgers) for name, group in groups.items()],
        seeds=[_seed_row(run) for group in groups.values() for run in group],
        failures=_failures(groups, ledgers),
        components=[_component(component) for component in config.oracle.components],
        settings=_settings(config, algorithms),
        config=config,
    )
    write_text(path, page)


def _name(algorithm: str) -> str:
    return _NAMES.get(algorithm, algorithm)


def _listing(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _lead(config: MoleculesConfig, groups: Mapping[str, Sequence[RunResult]]) -> str:
    names = _listing([_name(name) for name in groups])
    counts = {len(group) for group in groups.values()}
    seeds = " or ".join(_plural(count, "seed") for count in sorted(counts))
    each = " each" if len(groups) > 1 else ""
    return (
        f"{names}, {seeds}{each}, with a budget of {_plural(config.budget, 'oracle call')} for every run. "
        f"A molecule is a hit when its reward reaches the screen of {config.screen:g}."
    )


def _remarks(config: MoleculesConfig, results: Sequence[RunResult]) -> list[str]:
    """What a reader must know before comparing numbers."""
    remarks = []
    short = sum(run.calls < config.budget for run in results)
    if short:
        remarks.append(
            f"{short} of {_plural(len(results), 'run')} ended before the budget was spent, so not all figures "
            "stand for the same number of calls: see “Every seed”."
        )
    if config.stop_at_hits is not None:
        remarks.append(
            f"Runs stop at {_plural(config.stop_at_hits, 'hit')}: Yield is then set by that rule, "
            "and the calls that were needed are what to compare."
        )
    return remarks


def _comparison(groups: Mapping[str, Sequence[RunResult]]) -> list[dict[str, Any]]:
    first, *later = groups.values()
    return [
        {
            "name": metric.name,
            "hint": metric.hint,
            "cells": [_cell(metric, group) for group in groups.values()],
            "tests": [_p_cell(metric, group, first) for group in later],
        }
        for metric in _METRICS
    ]


def _values(metric: _Metric, group: Sequence[RunResult]) -> list[float]:
    return [value for run in group if (value := metric.value(run)) is not None]


def _cell(metric: _Metric, group: Sequence[RunResult]) -> dict[str, str]:
    """Mean ± sd over the seeds in which the figure is defined; the note says in how many it is not."""
    values = _values(metric, group)
    missing = len(group) - len(values)
    note = f"undefined in {missing} of {_plural(len(group), 'seed')}" if missing else ""
    if not values:
        return {"text": _DASH, "note": note}
    summary = summarise(values)
    text = metric.number(summary.mean, exact=summary.count == 1)
    if summary.count > 1:
        text += f" ± {metric.number(summary.std)}"
    return {"text": text, "note": note}


def _test(metric: _Metric, group: Sequence[RunResult], first: Sequence[RunResult]) -> float | str:
    """One-sided Welch p that `group` is better than `first`, or why there is none."""
    ours, theirs = _values(metric, group), _values(metric, first)
    if min(len(group), len(first)) < 2:
        return "no test with fewer than two seeds"
    # To leave out the seeds that never got there would favour whoever has more of them.
    if len(ours) < len(group) or len(theirs) < len(first):
        return "no test: undefined in some seeds"
    p = welch_test(ours, theirs) if metric.higher_is_better else welch_test(theirs, ours)
    return "no test: all values are equal" if math.isnan(p) else p


def _p_cell(metric: _Metric, group: Sequence[RunResult], first: Sequence[RunResult]) -> dict[str, Any]:
    p = _test(metric, group, first)
    if isinstance(p, str):
        return {"text": _DASH, "note": p, "clear": False}
    return {"text": _p_text(p), "note": "", "clear": not _CLEAR < p < 1 - _CLEAR}


def _p_text(p: float) -> str:
    if p < 0.001:
        return "< 0.001"
    if p > 0.999:
        return "> 0.999"
    return f"{p:.3f}" if min(p, 1 - p) < 0.1 else f"{p:.2f}"


def _verdicts(groups: Mapping[str, Sequence[RunResult]]) -> list[str]:
    """For each later algorithm, what its tests against the first say."""
    (reference, first), *later = groups.items()
    if not later:
        return [f"{_name(reference)} ran alone: there is nothing to compare it with."]
    return [_verdict(_name(name), group, _name(reference), first) for name, group in later]


def _verdict(name: str, group: Sequence[RunResult], reference: str, first: Sequence[RunResult]) -> str:
    differing, alike, untested = [], [], []
    for metric in _METRICS:
        p = _test(metric, group, first)
        if isinstance(p, str):
            untested.append(metric.name)
            continue
        said = "p " + (_p_text(p) if p < 0.001 or p > 0.999 else f"= {_p_text(p)}")
        if p <= _CLEAR or p >= 1 - _CLEAR:
            differing.append(f"{metric.better if p <= _CLEAR else metric.worse} ({said})")
        else:
            alike.append(f"{metric.name} ({said})")
    if min(len(group), len(first)) < 2:
        return f"{name} and {reference}: no verdict, since there is no test with fewer than two seeds."
    sentences = [f"Compared with {reference}, {name} {_listing(differing)}."] if differing else []
    if alike:
        does = "does" if len(alike) == 1 else "do"
        against = "" if differing else f" between {name} and {reference}"
        sentences.append(f"{_listing(alike)} {does} not differ clearly{against}.")
    if untested:
        sentences.append(f"Not tested: {_listing(untested)}.")
    return " ".join(sentences)


def _gallery(
    config: MoleculesConfig, name: str, group: Sequence[RunResult], ledgers: Ledgers
) -> dict[str, Any]:
    """Drawn molecules of one algorithm: the best of each circle, or the best below the screen."""
    pooled: dict[str, tuple[int, LedgerRow]] = {}
    for run in group:
        for row in ledgers[name, run.seed]:
            if row.evaluation.reward is not None:
                pooled.setdefault(row.evaluation.smiles, (run.seed, row))
    rows = [row for _, row in pooled.values()]
    hits = find_hits(rows, screen=config.screen, circle_distance=config.circle_distance)
    centres = [hit.row for hit in hits if hit.circle is not None]
    if centres:
        shown = centres[:_CARDS]
        heading = f"{len(shown)} of {_plural(len(centres), 'circle')}"
        note = (
            f"The best molecule of each circle, best first, among {_plural(len(hits), 'distinct hit')} "
            f"of {_plural(len(group), 'seed')} taken together."
        )
    else:
        # Not `or 0`: every pooled row has a reward, and a reward may be negative.
        shown = sorted(rows, key=lambda row: -(row.evaluation.reward or 0.0))[:_CARDS_WITHOUT_HITS]
        heading = "no hits"
        note = (
            f"No molecule reached the screen of {config.screen:g}. The best below it:"
            if shown
            else "No molecule was scored."
        )
    cards = [_card(row, pooled[row.evaluation.smiles][0]) for row in shown]
    return {"name": _name(name), "heading": heading, "note": note, "cards": cards}


def _card(row: LedgerRow, seed: int) -> dict[str, Any]:
    result = row.evaluation
    return {
        "svg": draw_molecule(result.smiles),
        "smiles": result.smiles,
        "reward": f"{result.reward:.3f}",
        "raw": [(name, _short(value)) for name, value in result.raw.items()],
        "origin": f"seed {seed}, call {row.call:,}",
    }


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def _seed_row(run: RunResult) -> dict[str, Any]:
    return {
        "algorithm": _name(run.algorithm),
        "cells": [
            str(run.seed),
            _STOPS.get(run.stopped_by, run.stopped_by),
            f"{run.steps:,}",
            f"{run.calls:,}",
            f"{run.hits:,}",
            _DASH if run.ob100 is None else f"{run.ob100:,}",
            _DASH if run.intdiv1 is None else f"{run.intdiv1:.3f}",
            f"{run.circles:,}",
            f"{sum(run.failures.values()):,}",
            _DASH if run.collapsed_at_step is None else f"step {run.collapsed_at_step:,}",
        ],
    }


def _failures(groups: Mapping[str, Sequence[RunResult]], ledgers: Ledgers) -> list[dict[str, Any]]:
    """By "component: kind", most frequent first: counts by algorithm, and the first message."""
    counts = {name: Counter[str]() for name in groups}
    examples: dict[str, str] = {}
    for name, group in groups.items():
        for run in group:
            counts[name].update(run.failures)
            for row in ledgers[name, run.seed]:
                text = row.evaluation.failure or ""
                for kind in run.failures:
                    if text.startswith(f"{kind}: "):
                        examples.setdefault(kind, text.removeprefix(f"{kind}: "))
    total = sum(counts.values(), Counter[str]())
    kinds = sorted(total, key=lambda kind: (-total[kind], kind))
    return [
        {
            "kind": kind,
            "counts": [f"{counts[name][kind]:,}" for name in groups],
            "example": _without_folders(examples.get(kind, ""))[:200],
        }
        for kind in kinds
    ]


def _without_folders(text: str) -> str:
    """The text with absolute paths cut down to their last part: a report is shared, a home folder is not."""
    return re.sub(r"(?:(?<=^)|(?<=[\s'\"(=]))/(?:[^\s/'\"]+/)+", "…/", text)


def _component(component: Component) -> dict[str, str]:
    details = {
        SimilarityComponent: lambda: ", ".join(component.references),
        SmartsComponent: lambda: ", ".join(component.patterns),
    }
    return {}


def _settings(config: MoleculesConfig, algorithms: Sequence[str]) -> list[tuple[str, str]]:
    return []
