"""The main figures of a finished run, or of a scored file, on a terminal."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from allmodes.chem.arms import label_of_arm
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.design.results import RunResult
from allmodes.chem.reporting.comparison import Groups, compare_arms, verdicts
from allmodes.chem.scoring_config import ScoringConfig
from allmodes.reports.formatting import plural
from allmodes.reports.tables import print_table
from allmodes.runs.experiment import saved_config


def print_design(folder: Path, console: Console) -> None:
    """Each algorithm's figures as mean ± standard deviation over its seeds, and what their tests say.

    Where the recipe names regions, also the mean hits of each.
    """
    config = saved_config(MoleculesConfig, folder)
    rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    results = [RunResult(**row) for row in rows]
    groups: Groups = {
        name: [run for run in results if run.algorithm == name]
        for name in dict.fromkeys(run.algorithm for run in results)
    }
    comparison = compare_arms(groups, config.outcomes)
    labels = [label_of_arm(name) for name in groups]
    headings = ("algorithm", *(row.metric.name for row in comparison))
    cells = [(label, *(row.cells[label].text for row in comparison)) for label in labels]
    print_table(console, headings, cells, texts=("algorithm",))
    notes = [
        f"{row.metric.name} of {label}: {row.cells[label].note}"
        for label in labels
        for row in comparison
        if row.cells[label].note
    ]
    notes.append(
        f"± is the standard deviation over {plural(len(config.seeds), 'seed')}; a hit has a reward of at "
        f"least {config.hit_threshold:g}."
    )
    regions = results[0].regions
    if regions is not None:
        notes.append(
            f"Regions: of {len(regions)}, those with at least {plural(config.outcomes.kept_from, 'hit')}. "
            "Mean hits of each:"
        )
        for line in ("", *notes, ""):
            console.print(line, markup=False, highlight=False)
        means = [[f"{_mean_hits(groups[name], region):,.0f}" for name in groups] for region in regions]
        rows_by_region = [(region, *cells) for region, cells in zip(regions, means, strict=True)]
        print_table(console, ("region", *labels), rows_by_region, texts=("region",))
        notes = []
    for line in ("", *notes, *verdicts(comparison)):
        console.print(line, markup=False, highlight=False)


def _mean_hits(runs: Sequence[RunResult], region: str) -> float:
    return statistics.fmean((run.regions or {}).get(region, 0) for run in runs)


def print_scores(folder: Path, console: Console) -> None:
    """How many molecules were scored and are hits, the best reward and the median."""
    hit_threshold = saved_config(ScoringConfig, folder).hit_threshold
    evaluations = [row.evaluation for row in read_ledger(folder / "ledger.sqlite")]
    rewards = [one.reward for one in evaluations if one.reward is not None]
    failed = len(evaluations) - len(rewards)
    figures = [("molecules", f"{len(evaluations):,}"), ("without a score", f"{failed:,}")]
    if hit_threshold is not None:
        figures.append(
            (f"hits (reward ≥ {hit_threshold:g})", f"{sum(reward >= hit_threshold for reward in rewards):,}")
        )
    if rewards:
        figures.append(("best reward", f"{max(rewards):.3f}"))
        figures.append(("median reward", f"{statistics.median(rewards):.3f}"))
    print_table(console, [name for name, _ in figures], [[value for _, value in figures]])
