"""The report of a design experiment: one HTML file that explains itself, offline."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from allmodes.chem.comparison import DASH, Groups, compare, shown_name, verdicts
from allmodes.chem.figures import WINDOW, draw_molecule, learning_curves
from allmodes.chem.ledger import LedgerRow, reward_tensor
from allmodes.chem.results import RunResult, find_hits
from allmodes.runs.files import write_text
from allmodes.runs.molecules_config import MoleculesConfig
from allmodes.runs.oracle_config import (
    Component,
    FunctionComponent,
    NoShaping,
    ProcessComponent,
    Shaping,
    SimilarityComponent,
    SmartsComponent,
    StepShaping,
)
from allmodes.runs.pages import render_page, require_report_extra
from allmodes.runs.words import listing, plural

_COLOURS = {"reinvent": "#7f7f7f", "mara": "#1f6fb2"}
_OTHER_COLOURS = ("#c8553d", "#3a8f5c", "#8a5fa8", "#b8860b", "#4a9aa5", "#a0526f")
_STOPS = {"budget": "budget spent", "hits": "enough hits", "collapse": "collapse", "max_steps": "step limit"}
_PROPERTIES = {
    "qed": "QED, drug-likeness from 0 to 1",
    "sa_score": "synthetic accessibility, from 1 (easy) to 10 (hard)",
    "logp": "logP after Wildman and Crippen",
    "weight": "molecular weight",
    "tpsa": "topological polar surface area",
    "hbd": "hydrogen-bond donors",
    "rings": "rings",
}
_CARDS, _CARDS_WITHOUT_HITS = 12, 6

Ledgers = Mapping[tuple[str, int], Sequence[LedgerRow]]


def write_report(path: Path, config: MoleculesConfig, results: Sequence[RunResult], ledgers: Ledgers) -> None:
    """Write the report of all `results` to `path`; the same arguments give the same bytes.

    ledgers: by (algorithm, seed), the rows of each result's run in the order of the calls. Raises
    `ConfigError` without the extra `report`, and `RunError` when the file cannot be written.
    """
    require_report_extra()
    found = {result.algorithm for result in results}
    algorithms = [name for name in config.algorithm if name in found]
    groups = {name: [result for result in results if result.algorithm == name] for name in algorithms}
    spare = iter(_OTHER_COLOURS * len(algorithms))
    colours = {shown_name(name): _COLOURS.get(name) or next(spare) for name in algorithms}
    runs = {shown_name(name): [ledgers[name, run.seed] for run in group] for name, group in groups.items()}
    page = render_page(
        Path(__file__).parent / "templates" / "report.html",
        title=listing([shown_name(name) for name in algorithms]),
        lead=_lead(config, groups),
        remarks=_remarks(config, results),
        colours=colours,
        comparison=compare(groups),
        verdicts=verdicts(groups),
        window=WINDOW,
        several_seeds=any(len(group) > 1 for group in groups.values()),
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


def _lead(config: MoleculesConfig, groups: Groups) -> str:
    names = listing([shown_name(name) for name in groups])
    counts = {len(group) for group in groups.values()}
    seeds = " or ".join(plural(count, "seed") for count in sorted(counts))
    ran = "were each run" if len(groups) > 1 else "was run"
    return (
        f"{names} {ran} with {seeds} and a budget of {plural(config.budget, 'oracle call')} a run. "
        f"A molecule is a hit when its reward reaches the screen of {config.screen:g}."
    )


def _remarks(config: MoleculesConfig, results: Sequence[RunResult]) -> list[str]:
    """What a reader must know before comparing numbers."""
    remarks = []
    short = sum(run.calls < config.budget for run in results)
    if short:
        remarks.append(
            f"{short} of {plural(len(results), 'run')} ended before the budget was spent, so not all "
            "figures stand for the same number of calls: see “Every seed”."
        )
    if config.stop_at_hits is not None:
        remarks.append(
            f"Runs stop at {plural(config.stop_at_hits, 'hit')}: Yield is then set by that rule, "
            "and the calls that were needed are what to compare."
        )
    return remarks


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
        heading = f"{len(shown)} of {plural(len(centres), 'circle')}"
        note = (
            f"The best molecule of each circle, best first, among {plural(len(hits), 'distinct hit')}"
            f"{f' of {len(group)} seeds taken together' if len(group) > 1 else ''}."
        )
    else:
        order = reward_tensor(rows).argsort(descending=True, stable=True).tolist()
        shown = [rows[index] for index in order[:_CARDS_WITHOUT_HITS]]
        heading = "no hits"
        note = (
            f"No molecule reached the screen of {config.screen:g}. The best below it:"
            if shown
            else "No molecule was scored."
        )
    cards = [_card(row, pooled[row.evaluation.smiles][0]) for row in shown]
    return {"name": shown_name(name), "heading": heading, "note": note, "cards": cards}


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
    if value.is_integer() or 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".")


def _seed_row(run: RunResult) -> dict[str, Any]:
    return {
        "algorithm": shown_name(run.algorithm),
        "cells": [
            str(run.seed),
            _STOPS.get(run.stopped_by, run.stopped_by),
            f"{run.steps:,}",
            f"{run.calls:,}",
            f"{run.hits:,}",
            DASH if run.ob100 is None else f"{run.ob100:,}",
            DASH if run.intdiv1 is None else f"{run.intdiv1:.3f}",
            f"{run.circles:,}",
            f"{sum(run.failures.values()):,}",
            DASH if run.collapsed_at_step is None else f"step {run.collapsed_at_step:,}",
        ],
    }


def _failures(groups: Groups, ledgers: Ledgers) -> list[dict[str, Any]]:
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
    if isinstance(component, SimilarityComponent):
        what = "similarity to " + ", ".join(component.references)
    elif isinstance(component, SmartsComponent):
        what = "matches " + " or ".join(component.patterns)
    elif isinstance(component, FunctionComponent):
        what = f"function {component.function}"
    elif isinstance(component, ProcessComponent):
        # Without their folders: see `_without_folders`.
        what = "program " + " ".join(PurePath(part).name or part for part in component.command)
    else:
        what = _PROPERTIES.get(component.kind, component.kind)
    return {"name": component.name, "what": what, "shaping": _shaping(component.shaping)}


def _shaping(shaping: Shaping) -> str:
    if isinstance(shaping, NoShaping):
        return "none: the raw value is the score"
    if isinstance(shaping, StepShaping):
        if shaping.low is None or shaping.high is None:
            bound = f"from {shaping.low:g} up" if shaping.low is not None else f"up to {shaping.high:g}"
        else:
            bound = f"from {shaping.low:g} to {shaping.high:g}"
        return f"step: 1 {bound}, else 0"
    low, high = ("low", "high") if shaping.kind == "sigmoid" else ("high", "low")
    kind = shaping.kind.replace("_", " ")
    return f"{kind}: {low} below {shaping.low:g}, {high} above {shaping.high:g} (k = {shaping.k:g})"


def _settings(config: MoleculesConfig, algorithms: Sequence[str]) -> list[tuple[str, str]]:
    settings = [
        ("Prior", "shipped with allmodes" if config.prior is None else config.prior.name),
        ("σ (1/β)", f"{config.sigma:g}"),
        ("Batch size", f"{config.batch_size:,}"),
        ("Learning rate", f"{config.learning_rate:g}"),
        ("Precision", config.precision),
        ("Failed molecules", "left out of training" if config.oracle.failed == "exclude" else "train with 0"),
    ]
    if "mara" in algorithms:
        settings.append(("MARA", config.mara.in_words()))
    replay, scaffold, collapse = config.replay, config.scaffold_filter, config.collapse
    settings += [
        (
            "Replay",
            f"{plural(replay.size, 'molecule')} kept, {replay.sample:,} a step, "
            f"{plural(replay.augmentation_rounds, 'augmentation round')}",
        ),
        (
            "Scaffold filter",
            "off"
            if scaffold is None
            else f"{plural(scaffold.bucket_size, 'molecule')} per Murcko scaffold, "
            f"counted from reward {scaffold.min_reward:g}",
        ),
        (
            "Collapse monitor",
            f"{collapse.action}s below {100 * collapse.min_new:g} % new molecules "
            f"over {plural(collapse.window, 'step')}",
        ),
    ]
    return settings
