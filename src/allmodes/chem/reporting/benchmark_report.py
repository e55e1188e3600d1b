"""Results of a benchmark: a page and tables of all tasks and methods, with published figures."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from allmodes.chem.arms import label_of_arm
from allmodes.chem.benchmarks.measures import Figures
from allmodes.chem.benchmarks.published import BUDGET, PUBLISHED
from allmodes.chem.benchmarks.runs import Benchmark, Results
from allmodes.chem.benchmarks.tasks import tasks_of
from allmodes.chem.reporting.comparison import colors_of, verdicts
from allmodes.chem.reporting.oracle_description import describe_aggregation, describe_component
from allmodes.chem.reporting.report import design_settings
from allmodes.reports.comparison import DASH, Cell, Metric, Row, compare, mean_cell
from allmodes.reports.formatting import listing, plural
from allmodes.reports.pages import render_page
from allmodes.reports.tables import print_table
from allmodes.runs.files import write_text
from allmodes.runs.provenance import provenance

_TITLES = {"pmo": "PMO", "molexp": "MolExp"}
Seed = Sequence[Figures]  # of one seed of a method, one of each task


def _total(value: Callable[[Figures], float | None]) -> Callable[[Seed], float | None]:
    def total(seed: Seed) -> float | None:
        known = [one for figures in seed if (one := value(figures)) is not None]
        return sum(known) if len(known) == len(seed) else None

    return total


def _mean(value: Callable[[Figures], float | None]) -> Callable[[Seed], float | None]:
    total = _total(value)
    return lambda seed: None if (whole := total(seed)) is None else whole / len(seed)


def _area(top: int, value: Callable[[Figures], float]) -> Metric[Seed]:
    return Metric(
        name=f"AUC of the top {top}",
        hint="sum over tasks; more is better",
        value=_total(value),
        digits=3,
        better=f"had more area under its top {top}",
        worse=f"had less area under its top {top}",
    )


_METRICS = (
    _area(1, lambda one: one.auc_top1),
    _area(10, lambda one: one.auc_top10),
    _area(100, lambda one: one.auc_top100),
    Metric[Seed](
        name="Diversity of the top 100", hint="mean over tasks; more is better",
        value=_mean(lambda one: one.diversity), digits=3,
        better="had a more diverse top 100", worse="had a less diverse top 100",
    ),
    Metric[Seed](
        name="#Circles", hint="distinct regions at or above the threshold, sum over tasks",
        value=_total(lambda one: one.circles), digits=1,
        better="covered more circles", worse="covered fewer circles",
    ),
    Metric[Seed](
        name="Scaffolds", hint="distinct scaffolds at or above the threshold, sum over tasks",
        value=_total(lambda one: one.scaffolds), digits=1,
        better="found more scaffolds", worse="found fewer scaffolds",
    ),
)  # fmt: skip
_OF_TARGETS = (
    Metric[Seed](
        name="MolExp score", hint="product of the best similarity to each target, sum over tasks",
        value=_total(lambda one: one.coverage), digits=3,
        better="came nearer to all targets at once", worse="came less near to all targets at once",
    ),
    Metric[Seed](
        name="Targets found", hint="sum over tasks", value=_total(lambda one: one.found), digits=1,
        better="found more targets", worse="found fewer targets",
    ),
)  # fmt: skip

# Of the table of every task: heading, value, digits.
_COLUMNS: tuple[tuple[str, Callable[[Figures], float | None], int], ...] = (
    ("AUC top 1", lambda one: one.auc_top1, 3),
    ("AUC top 10", lambda one: one.auc_top10, 3),
    ("AUC top 100", lambda one: one.auc_top100, 3),
    ("Best", lambda one: one.top1, 3),
    ("Diversity", lambda one: one.diversity, 3),
    ("Hits", lambda one: one.hits, 1),
    ("#Circles", lambda one: one.circles, 1),
    ("Scaffolds", lambda one: one.scaffolds, 1),
)
_TARGET_COLUMNS: tuple[tuple[str, Callable[[Figures], float | None], int], ...] = (
    ("MolExp score", lambda one: one.coverage, 3),
    ("Targets found", lambda one: one.found, 1),
)


def write_benchmark(folder: Path, benchmark: Benchmark, results: Results) -> Path:
    """Write report.html and results.json into `folder`; returns the page's path."""
    names = [arm.name for arm in benchmark.config.arms]
    colours = {label_of_arm(name): color for name, color in colors_of(names).items()}
    comparison = _comparison(benchmark, results)
    page = render_page(
        Path(__file__).parent / "templates" / "benchmark.html",
        title=_TITLES[benchmark.name],
        lead=_lead(benchmark),
        remarks=_remarks(benchmark),
        colours=colours,
        comparison=comparison,
        verdicts=verdicts(comparison),
        by_task=_by_task(benchmark, results),
        has_published=benchmark.name == "pmo",
        sources=[f"{one.label}: {one.source}" for one in PUBLISHED],
        published=_published(benchmark),
        columns=[heading for heading, _, _ in _columns(benchmark)],
        rows=_task_rows(benchmark, results),
        seeds=_seed_rows(benchmark, results),
        tasks=[
            {
                "name": task.name,
                "components": [describe_component(component) for component in task.oracle.components],
                "aggregation": describe_aggregation(task.oracle),
            }
            for task in benchmark.tasks
        ],
        settings=design_settings(benchmark.config),
        threshold=benchmark.threshold,
        circle_distance=benchmark.config.circle_distance,
    )
    document = {
        "benchmark": benchmark.name,
        "budget": benchmark.config.budget,
        "threshold": benchmark.threshold,
        "provenance": provenance(),
        "results": [
            {"task": task, "method": method, **figures.as_json()}
            for (task, method), runs in results.items()
            for figures in runs
        ],
    }
    write_text(folder / "results.json", json.dumps(document, indent=1) + "\n")
    write_text(folder / "report.html", page)
    return folder / "report.html"


def print_benchmark(benchmark: Benchmark, results: Results, console: Console) -> None:
    """Print the ranking figure by task and method, then the figures over all tasks with tests."""
    by_task = _by_task(benchmark, results)
    headings = [f"{by_task['metric']}, by task", *by_task["headings"], *by_task["published"]]
    rows = [
        [row["name"], *(cell.text for cell in row["cells"]), *row["published"]] for row in by_task["rows"]
    ]
    print_table(console, headings, rows, texts=headings[:1])
    console.print()
    comparison = _comparison(benchmark, results)
    labels = list(comparison[0].values)
    cells = [(label, *(row.cells[label].text for row in comparison)) for label in labels]
    print_table(console, ("method", *(row.metric.name for row in comparison)), cells, texts=("method",))
    published = _published(benchmark)
    for line in (
        "",
        *verdicts(comparison),
        *(f"Published, {one}" for one in published),
        *_remarks(benchmark),
    ):
        console.print(line, markup=False, highlight=False)


def _columns(benchmark: Benchmark) -> tuple[tuple[str, Callable[[Figures], float | None], int], ...]:
    return (*_TARGET_COLUMNS, *_COLUMNS) if _has_targets(benchmark) else _COLUMNS


def _has_targets(benchmark: Benchmark) -> bool:
    return all(task.targets for task in benchmark.tasks)


def _comparison(benchmark: Benchmark, results: Results) -> list[Row]:
    """Each figure over all tasks, of each method, seed by seed."""
    groups = _by_seed(benchmark, results)
    return compare((*_OF_TARGETS, *_METRICS) if _has_targets(benchmark) else _METRICS, groups)


def _by_task(benchmark: Benchmark, results: Results) -> dict[str, Any]:
    """The figure that a benchmark ranks by, by task: of each method, then published ones; and the sums."""
    arms = benchmark.config.arms
    metric = _OF_TARGETS[0] if _has_targets(benchmark) else _METRICS[1]
    published = [one for one in PUBLISHED if one.tasks] if benchmark.name == "pmo" else []
    rows = [
        {
            "name": task.name,
            "cells": [
                mean_cell([metric.value([run]) for run in results[task.name, arm.name]], digits=metric.digits)
                for arm in arms
            ],
            "published": [_shown(one.tasks.get(task.name)) for one in published],
        }
        for task in benchmark.tasks
    ]
    if len(benchmark.tasks) > 1:
        (total,) = compare([metric], _by_seed(benchmark, results))
        names = [task.name for task in benchmark.tasks]
        totals = [
            _shown(sum(one.tasks[name] for name in names) if set(names) <= set(one.tasks) else None)
            for one in published
        ]
        rows.append({"name": "sum", "cells": list(total.cells.values()), "published": totals})
    return {
        "metric": metric.name,
        "headings": [label_of_arm(arm.name) for arm in arms],
        "published": [f"{one.label}, published" for one in published],
        "rows": rows,
    }


def _by_seed(benchmark: Benchmark, results: Results) -> Mapping[str, list[Seed]]:
    return {
        label_of_arm(arm.name): list(
            zip(*(results[task.name, arm.name] for task in benchmark.tasks), strict=True)
        )
        for arm in benchmark.config.arms
    }


def _cell(runs: Sequence[Figures], value: Callable[[Figures], float | None], digits: int) -> Cell:
    return mean_cell([value(run) for run in runs], digits=digits)


def _shown(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _task_rows(benchmark: Benchmark, results: Results) -> list[dict[str, Any]]:
    return [
        {
            "task": task.name,
            "method": label_of_arm(arm.name),
            "cells": [
                _cell(results[task.name, arm.name], value, digits).text
                for _, value, digits in _columns(benchmark)
            ],
        }
        for task in benchmark.tasks
        for arm in benchmark.config.arms
    ]


def _seed_rows(benchmark: Benchmark, results: Results) -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "method": label_of_arm(method),
            "cells": [
                str(run.seed),
                f"{run.calls:,}",
                f"{run.failed:,}",
                *(_cell([run], value, digits).text for _, value, digits in _columns(benchmark)),
            ],
        }
        for (task, method), runs in results.items()
        for run in runs
    ]


def _published(benchmark: Benchmark) -> list[str]:
    """The published sums and diversities, where all of their tasks were run."""
    if set(tasks_of("pmo")) - {task.name for task in benchmark.tasks}:
        return []
    return [
        f"{one.label}: sum of AUC of the top 10 {one.total:.3f}, diversity of the top 100 "
        f"{_shown(one.diversity)}"
        for one in PUBLISHED
    ]


def _lead(benchmark: Benchmark) -> str:
    config = benchmark.config
    names = listing([label_of_arm(arm.name) for arm in config.arms])
    return (
        f"{names} on {plural(len(benchmark.tasks), 'task')}, each with {plural(len(config.seeds), 'seed')} "
        f"and a budget of {plural(config.budget, 'oracle call')} a run."
    )


def _remarks(benchmark: Benchmark) -> list[str]:
    """Caveats for comparing numbers."""
    remarks = []
    budget = benchmark.config.budget
    if benchmark.name == "pmo" and budget != BUDGET:
        remarks.append(
            f"Published figures are for {BUDGET:,} oracle calls and these for {budget:,}, so they cannot be "
            "compared."
        )
    if benchmark.name == "molexp":
        remarks.append(
            "The authors of MolExp report that a single agent does not find all targets, and that a "
            "population of agents does; their figures are not repeated here."
        )
    return remarks
