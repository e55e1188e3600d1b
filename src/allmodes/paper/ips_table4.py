"""IPS, Table 4: group size and clipping of the probabilities, with a language model on HypoSpace."""

import itertools
from typing import TYPE_CHECKING, Any

from allmodes.extras import require
from allmodes.paper.ips_grids import in_all
from allmodes.paper.ips_table4_world import draw_cells
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, verdict
from allmodes.reports.formatting import plural
from allmodes.reports.plotting import MUTED
from allmodes.tasks import HasTestPrompts

if TYPE_CHECKING:
    from allmodes.paper.ips_table4_runs import Cell, Runs


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train every group size with every clipping, and without inverse scaling.

    Raises ConfigError at real and paper scale where a model, a package or an accelerator is missing.
    """
    require("ips-table4 needs", "transformers", "trl", extras="text")
    from allmodes.paper import hypospace_runs, ips_table4_runs

    runs = ips_table4_runs.run(scale, progress, item="ips-table4")
    whose = hypospace_runs.whose(scale)
    return Reproduction(
        figure=_draw(runs, whose),
        numbers=_numbers(runs),
        verdicts=judge(runs, whose=whose),
        notes=_notes(scale, runs),
        tables=[markdown(runs)],
    )


def judge(runs: "Runs", *, whose: str) -> list[Verdict]:
    """The paper's claims against recovery on the test prompts, and against the steps' rewards."""
    from allmodes.paper.ips_table4_runs import representative

    groups, clips = runs.grid.groups, runs.grid.clips
    mean = {cell: runs.mean(cell) for cell in runs.grid.cells()}
    hardest, largest = max(clips), max(groups)
    plain = [mean[group, 0.0] for group in groups]
    lost = [round(mean[group, 0.0] - mean[group, hardest], 6) for group in groups]
    # A clipping that changes nothing is the same run as no clipping.
    distinct = [(g, clip) for g, clip in mean if clip is not None and representative((g, clip)) == (g, clip)]
    best_group, best_clip = best = max(distinct, key=lambda cell: mean[cell])
    steadiness = {clip: runs.unsteadiness((largest, clip)) for group, clip in distinct if group == largest}
    clipped = [value for clip, value in steadiness.items() if clip and clip < hardest]
    mild = clipped or [steadiness[hardest]]  # without a mild clipping in the grid, its only one

    def by_group(clip: float | None) -> str:
        return ", ".join(f"{_cell(runs, (group, clip))} (G = {group})" for group in groups)

    return [
        verdict(
            "Larger groups improve recovery (no clipping)",
            paper="larger groups improve estimation accuracy",
            measured=f"{whose}: {by_group(0.0)}; base {runs.base.metrics['recovery_rate']:.2f}",
            holds=in_all([after > before for before, after in itertools.pairwise(plain)]),
        ),
        verdict(
            "Clipping stabilises large groups",
            paper="probability clipping stabilizes training: less variance where probabilities are small",
            measured=f"{whose}: sd of a step's mean reward, second half of training, G = {largest}: "
            + ", ".join(f"{value:.3f} (p_min {clip:g})" for clip, value in steadiness.items()),
            holds=in_all([value < steadiness[0.0] for value in mild]),
        ),
        verdict(
            "Aggressive clipping limits recovery",
            paper="aggressive clipping weakens the intended correction",
            measured=f"{whose}: p_min = {hardest:g}: {by_group(hardest)}",
            holds=in_all([loss > 0 for loss in lost]),
        ),
        verdict(
            "Aggressive clipping costs most where groups are small",
            paper="can limit performance when group sizes are small",
            measured=f"{whose}: recovery lost from p_min = 0 to {hardest:g}: "
            + ", ".join(f"{loss:z.2f} (G = {group})" for loss, group in zip(lost, groups, strict=True)),
            holds=lost[0] == max(lost) > 0,
        ),
        verdict(
            "Moderate groups with mild clipping are best",
            paper="moderate group sizes combined with mild clipping provide the best balance",
            measured=f"{whose}: best G = {best_group}, p_min = {best_clip:g}, {_cell(runs, best)}",
            holds=in_all([min(groups) < best_group < largest, 0 < best_clip < hardest]),
        ),
        verdict(
            "IPS-GRPO recovers more than GRPO",
            paper="substantially higher recovery (Table 2)",
            measured=f"{whose}: GRPO: {by_group(None)}; worst cell of IPS-GRPO "
            f"{min(mean[cell] for cell in distinct):.2f}",
            holds=in_all([mean[group, clip] > mean[group, None] for group, clip in distinct]),
        ),
    ]  # fmt: skip


def _cell(runs: "Runs", cell: "Cell") -> str:
    return f"{runs.mean(cell):.2f} ± {runs.error(cell):.2f}"


def _numbers(runs: "Runs") -> dict[str, Any]:
    from allmodes.paper.ips_table4_runs import name_of

    return {
        "base": dict(runs.base.metrics),
        "cells": {
            name_of(cell): [
                {
                    "seed": result.seed,
                    **result.metrics,
                    "errors": dict(result.errors),
                    "rewards": list(rewards),
                }
                for result, rewards in zip(results, runs.rewards[cell], strict=True)
            ]
            for cell, results in runs.results.items()
        },
    }


def markdown(runs: "Runs") -> str:
    """Recovery by group size and p_min as Markdown."""
    names = [f"p_min = {clip:g}" for clip in runs.grid.clips] + ["GRPO"]
    lines = [f"| Group size | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for group in runs.grid.groups:
        cells = [_cell(runs, (group, clip)) for clip in (*runs.grid.clips, None)]
        lines.append(f"| {group} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _notes(scale: Scale, runs: "Runs") -> list[str]:
    from allmodes.paper import hypospace_runs, text_runs

    config, grid = runs.config, runs.grid
    task = config.task.make()
    tested = task.test_prompts if isinstance(task, HasTestPrompts) else ()
    known = [len(task.known_answers(prompt) or ()) for prompt in tested]
    shown = [
        f"{task.name}: {len(task.prompts)} training prompts and {len(tested)} test prompts, with "
        f"{sum(known) / len(known):.1f} good answers on average. Recovery: share of these among "
        f"{config.samples} samples; ± is the bootstrap standard error over prompts, "
        f"{plural(len(config.seeds), 'seed')}; it does not include the variation between seeds."
        + ("" if scale.kind == "paper" else " The paper uses causal graphs of 4 nodes here."),
        f"{grid.batch} responses per step for every group size (so {grid.batch} / G prompts), {config.steps} "
        f"steps, learning rate {config.learning_rate:g}, rewards not scaled, β = {config.beta[0]:g}; GRPO is "
        "the same without inverse scaling. The paper gives the group sizes; its values of p_min could not be "
        "recovered, and it does not give the other settings.",
        "p_min ≤ 1/G changes nothing, because no frequency is below 1/G: such cells share one run.",
        "Item ips-table4-world makes the same comparison with a categorical policy, several seeds and the "
        "exact flow.",
    ]
    if scale.kind == "quick":
        shown += hypospace_runs.quick_notes()
    return [*shown, *text_runs.warm_start_note(config, runs.before)]


def _draw(runs: "Runs", whose: str) -> Any:
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(7.2, 3.2))
    panels = figure.subplots(1, 2)
    titles = {"recovery_rate": "recovery on test prompts", "valid_rate": "valid responses"}
    for axes, (metric, title) in zip(panels, titles.items(), strict=True):
        values = {cell: runs.mean(cell, metric) for cell in runs.grid.cells()}
        draw_cells(axes, values, runs.grid.groups, runs.grid.clips)
        axes.set_title(title)
    figure.supxlabel(f"{whose}; {plural(len(runs.config.seeds), 'seed')}", fontsize=7.5, color=MUTED)
    return figure
