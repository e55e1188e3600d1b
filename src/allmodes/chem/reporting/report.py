"""The report of a design experiment: one HTML file that works offline."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allmodes.chem.arms import label_of_arm
from allmodes.chem.config import MoleculesConfig, OutcomesConfig
from allmodes.chem.design.ledger import LedgerRow, reward_tensor
from allmodes.chem.design.results import Hit, RunResult, find_hits
from allmodes.chem.reporting.comparison import Groups, colors_of, compare_arms, verdicts
from allmodes.chem.reporting.figures import WINDOW, draw_molecule, learning_curves
from allmodes.chem.reporting.hits import HitPage, render_hits, worth_a_page
from allmodes.chem.reporting.oracle_description import (
    describe_aggregation,
    describe_component,
    oracle_remarks,
    oracle_settings,
    raw_values,
    without_folders,
)
from allmodes.chem.reporting.regions import regions_picture
from allmodes.methods import Plain, method_names
from allmodes.reports.comparison import DASH
from allmodes.reports.formatting import listing, plural
from allmodes.reports.pages import render_page, require_report_extra
from allmodes.runs.files import write_text

_STOPS = {"budget": "budget spent", "hits": "enough hits", "collapse": "collapse", "max_steps": "step limit"}
_CARDS, _CARDS_WITHOUT_HITS = 12, 6

Ledgers = Mapping[tuple[str, int], Sequence[LedgerRow]]


def write_report(path: Path, config: MoleculesConfig, results: Sequence[RunResult], ledgers: Ledgers) -> None:
    """Write the report of all `results` to `path`; the same arguments give the same bytes.

    ledgers: by (algorithm, seed), the rows of each result's run in the order of the calls. Raises
    `ConfigError` without the extra `report`, and `RunError` if the file cannot be written.
    """
    require_report_extra()
    found = {result.algorithm for result in results}
    algorithms = [arm.name for arm in config.arms if arm.name in found]
    groups = {name: [result for result in results if result.algorithm == name] for name in algorithms}
    colours = {label_of_arm(name): color for name, color in colors_of(algorithms).items()}
    runs = {label_of_arm(name): [ledgers[name, run.seed] for run in group] for name, group in groups.items()}
    galleries = [_gallery(config, name, group, ledgers) for name, group in groups.items()]
    pages = [page for gallery in galleries for page in gallery["pages"]]
    comparison = compare_arms(groups, config.outcomes)
    page = render_page(
        Path(__file__).parent / "templates" / "report.html",
        run=path.parent,
        title=listing([label_of_arm(name) for name in algorithms]),
        lead=_lead(config, groups),
        remarks=_remarks(config, results),
        colours=colours,
        comparison=comparison,
        verdicts=verdicts(comparison),
        picture=regions_picture(config, groups, ledgers, colours),
        window=WINDOW,
        several_seeds=any(len(group) > 1 for group in groups.values()),
        figure=learning_curves(
            runs, colours=colours, hit_threshold=config.hit_threshold, circle_distance=config.circle_distance
        ),
        galleries=galleries,
        hit_pages=render_hits(config.oracle, pages),
        hits_note=_hits_note(galleries),
        seeds=[_seed_row(run) for group in groups.values() for run in group],
        failures=_failures(groups, ledgers),
        components=[describe_component(component) for component in config.oracle.components],
        aggregation=describe_aggregation(config.oracle),
        settings=design_settings(config),
        config=config,
    )
    write_text(path, page)


def _lead(config: MoleculesConfig, groups: Groups) -> str:
    names = listing([label_of_arm(name) for name in groups])
    counts = {len(group) for group in groups.values()}
    seeds = " or ".join(plural(count, "seed") for count in sorted(counts))
    ran = "were each run" if len(groups) > 1 else "was run"
    return (
        f"{names} {ran} with {seeds} and a budget of {plural(config.budget, 'oracle call')} a run. "
        f"A molecule is a hit if its reward reaches the hit threshold of {config.hit_threshold:g}."
    )


def _remarks(config: MoleculesConfig, results: Sequence[RunResult]) -> list[str]:
    """Caveats for comparing numbers."""
    remarks = oracle_remarks(config.oracle)
    short = sum(run.calls < config.budget for run in results)
    if short:
        remarks.append(
            f"{short} of {plural(len(results), 'run')} ended before the budget was spent, so not all "
            "figures are for the same number of calls: see “Every seed”."
        )
    if config.stop_at_hits is not None:
        remarks.append(
            f"Runs stop at {plural(config.stop_at_hits, 'hit')}. This rule determines Yield, "
            "so compare the number of calls instead."
        )
    return remarks


def _gallery(
    config: MoleculesConfig, name: str, group: Sequence[RunResult], ledgers: Ledgers
) -> dict[str, Any]:
    """Drawn molecules of one arm, the best of each circle or the best below the threshold; hit pages."""
    pooled: dict[str, tuple[int, LedgerRow]] = {}
    for run in group:
        for row in ledgers[name, run.seed]:
            if row.evaluation.reward is not None:
                pooled.setdefault(row.evaluation.smiles, (run.seed, row))
    rows = [row for _, row in pooled.values()]
    hits = find_hits(rows, hit_threshold=config.hit_threshold, circle_distance=config.circle_distance)
    centres = [hit.row for hit in hits if hit.circle is not None]
    if centres:
        shown = centres[:_CARDS]
        heading = f"{len(shown)} of {plural(len(centres), 'circle')}"
        note = (
            f"The best molecule of each circle, best first, among {plural(len(hits), 'distinct hit')}"
            f"{f' of all {len(group)} seeds' if len(group) > 1 else ''}."
            f"{' All hits are in hits.csv, beside this report.' if len(hits) > len(shown) else ''}"
        )
    else:
        order = reward_tensor(rows).argsort(descending=True, stable=True).tolist()
        shown = [rows[index] for index in order[:_CARDS_WITHOUT_HITS]]
        heading = "no hits"
        note = (
            f"No molecule reached the hit threshold of {config.hit_threshold:g}. The best below it:"
            if shown
            else "No molecule was scored."
        )
    origins = {smiles: f"seed {seed}, call {row.call:,}" for smiles, (seed, row) in pooled.items()}
    pages = _pages(name, hits, origins)
    anchors = {page.evaluation.smiles: page.anchor for page in pages}
    return {
        "name": label_of_arm(name),
        "heading": heading,
        "note": note,
        "cards": [_card(config, row, origins, anchors) for row in shown],
        "hits": len(hits),
        "pages": pages,
    }


def _pages(name: str, hits: Sequence[Hit], origins: Mapping[str, str]) -> list[HitPage]:
    """Pages of the hits with a pose or a route; for the others, a card shows everything."""
    telling = [hit for hit in hits if hit.row.evaluation.details]
    return [
        HitPage(
            anchor=f"hit-{name}-{number}",
            title=f"{label_of_arm(name)}, hit {number}",
            origin=origins[row.evaluation.smiles],
            evaluation=row.evaluation,
        )
        for number, row in enumerate(worth_a_page(telling, most=_CARDS), start=1)
    ]


def _hits_note(galleries: Sequence[Mapping[str, Any]]) -> str:
    counts = [f"{len(one['pages'])} of {one['hits']:,} ({one['name']})" for one in galleries if one["pages"]]
    return (
        f"Of the distinct hits of all seeds, {listing(counts)} have a page: the best of each circle first, "
        "then the others, best first. Every hit of every run is in hits.csv and hits.sdf, beside this report."
    )


def _card(
    config: MoleculesConfig, row: LedgerRow, origins: Mapping[str, str], anchors: Mapping[str, str]
) -> dict[str, Any]:
    result = row.evaluation
    return {
        "anchor": anchors.get(result.smiles),
        "svg": draw_molecule(result.smiles),
        "smiles": result.smiles,
        "reward": f"{result.reward:.3f}",
        "raw": raw_values(config.oracle, result),
        "origin": origins[result.smiles],
    }


def _seed_row(run: RunResult) -> dict[str, Any]:
    return {
        "algorithm": label_of_arm(run.algorithm),
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
            "example": without_folders(examples.get(kind, ""))[:200],
        }
        for kind in kinds
    ]


def design_settings(config: MoleculesConfig) -> list[tuple[str, str]]:
    """Settings of a run as a page shows them."""
    settings = [
        ("Prior", "shipped with allmodes" if config.prior is None else config.prior.name),
        ("σ (1/β)", f"{config.sigma:g}"),
        ("Batch size", f"{config.batch_size:,}"),
        ("Learning rate", f"{config.learning_rate:g}"),
        ("Precision", config.precision),
        ("Failed molecules", "left out of training" if config.oracle.failed == "exclude" else "train with 0"),
    ]
    if config.lookahead:
        batches = "1 batch" if config.lookahead == 1 else f"{config.lookahead:,} batches"
        settings.append(("Look-ahead", f"{batches} sampled and scored ahead of the update"))
    settings += _method_settings(config)
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
        *oracle_settings(config.oracle),
    ]
    return settings


def _method_settings(config: MoleculesConfig) -> list[tuple[str, str]]:
    """What each method that was run with does, and what an outcome is where one counts them."""
    names = list(dict.fromkeys(name for arm in config.arms for name in method_names(arm.method)))
    methods = [config.methods.make(name) for name in names if name != Plain.name]
    rows = [(method.label, method.describe() or f"optimum: {method.law}") for method in methods]
    if any(method.needs_outcomes for method in methods):
        rows.append(("Outcomes", _outcomes(config.outcomes)))
    return rows


def _outcomes(outcomes: OutcomesConfig) -> str:
    outcome = {
        "molecule": "molecules",
        "scaffold": "Murcko scaffolds",
        "cluster": f"clusters of radius {outcomes.cluster_distance:g} in Tanimoto distance",
        "region": f"regions of “{outcomes.regions}”",
    }[outcomes.outcome]
    counted = "in each batch" if outcomes.frequency == "batch" else "over the whole run"
    return f"{outcome}; their frequency is counted {counted} as sampled"
