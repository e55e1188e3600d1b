"""All methods of allmodes compared at equal numbers of samples: what each keeps, and what it costs.

At paper scale, results are kept in the folder that the environment variable ALLMODES_BEYOND_WORK names, by
default runs/beyond-work: a killed run resumes there, world by world.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allmodes.methods import MARA, OutcomeMatching, Plain
from allmodes.metrics import summarise, welch_test
from allmodes.paper.beyond_figure import draw
from allmodes.paper.beyond_training import DRAWS, Measured, run_cells
from allmodes.paper.beyond_worlds import Cell, cells
from allmodes.paper.reproduction import Holds, Progress, Reproduction, Scale, Verdict, verdict

WORK = "ALLMODES_BEYOND_WORK"
QUICK_CELLS = ("categorical-reverse-0.2", "grid-8-0.1", "prompts-tabular-8", "strings")
QUICK_SHARE = 0.2  # of the steps, so that the quick scale takes minutes
SEEDS = 5
OURS = OutcomeMatching.label
# Columns of a cell's table: metric, heading, digits, and whether higher is better.
COLUMNS: tuple[tuple[str, str, int, bool], ...] = (
    ("valid", "good mass", 3, True),
    ("recovery", f"recovery in {DRAWS}", 3, True),
    ("tv", "TV to target", 3, False),
    ("lost", "lost", 1, False),
    ("tv_own", "TV to own optimum", 3, False),
    ("within", "KL within outcomes", 3, False),
)


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train every method in every world: a few of the worlds at quick scale, all of them at paper scale."""
    is_whole = scale.name == "paper"
    chosen = [cell for cell in cells() if is_whole or cell.name in QUICK_CELLS]
    seeds = scale.seeds if scale.steps < 1 else SEEDS
    share = (
        scale
        if is_whole
        else Scale(name=scale.name, seeds=seeds, steps=scale.steps * QUICK_SHARE, grid_steps=scale.grid_steps)
    )
    if is_whole:
        folder = Path(os.environ.get(WORK, "runs/beyond-work"))
        found = run_cells(chosen, share, folder, seeds=seeds, progress=progress)
    else:
        with tempfile.TemporaryDirectory(prefix="allmodes-beyond-") as work:
            found = run_cells(chosen, share, Path(work), seeds=seeds, progress=progress)
    return Reproduction(
        figure=draw(chosen, found),
        numbers={
            cell.name: {"title": cell.title, "arms": {one.arm: _numbers(one) for one in found[cell.name]}}
            for cell in chosen
        },
        verdicts=_verdicts(chosen, found),
        notes=_notes(seeds, is_whole=is_whole),
        tables=[_table(cell, found[cell.name]) for cell in chosen],
    )


def _numbers(one: Measured) -> dict[str, Any]:
    return {"refused": one.refused} if one.refused is not None else {**one.values, "optimum": one.optimum}


def _table(cell: Cell, arms: Sequence[Measured]) -> str:
    """Markdown: mean ± standard deviation of the seeds, the best of each column in bold, then each seed."""
    trained = [one for one in arms if one.refused is None]
    shown = [column for column in COLUMNS if any(column[0] in one.values for one in trained)]
    best = {
        name: (max if is_more else min)(
            summarise(one.values[name]).mean for one in trained if name in one.values
        )
        for name, _, _, is_more in shown
    }
    lines = [f"### {cell.title}\n", "| method | " + " | ".join(head for _, head, _, _ in shown) + " |"]
    lines.append("| --- |" + " ---: |" * len(shown))
    for one in trained:
        entries = [_entry(one, name, digits, best[name]) for name, _, digits, _ in shown]
        lines.append(f"| {one.arm} | {' | '.join(entries)} |")
    lines += [f"\n{one.arm} was not trained: {one.refused}." for one in arms if one.refused is not None]
    by_seed = "; ".join(
        f"{one.arm} {' '.join(f'{value:.3f}' for value in one.values['recovery'])}" for one in trained
    )
    lines.append(f"\nRecovery by seed: {by_seed}.\n")
    return "\n".join(lines)


def _entry(one: Measured, name: str, digits: int, best: float) -> str:
    if name not in one.values:
        return "not known" if name == "tv_own" else ""
    summary = summarise(one.values[name])
    # Adding 0 removes the sign of a number that rounds to −0.
    text = f"{round(summary.mean, digits) + 0:.{digits}f} ± {summary.std:.{digits}f}"
    return f"**{text}**" if abs(summary.mean - best) < 10**-digits / 2 else text


def _verdicts(chosen: Sequence[Cell], found: Mapping[str, Sequence[Measured]]) -> list[Verdict]:
    """Claims about our method in each world: what it gains, and what it costs."""
    rows: list[Verdict] = []
    for cell in chosen:
        arms = {one.arm: one for one in found[cell.name] if one.refused is None}
        if OURS not in arms:
            continue
        name = "recovery" if cell.is_search else "tv"
        ours = arms[OURS].values[name]
        others = {label: one.values[name] for label, one in arms.items() if not label.startswith(OURS)}
        pick = max if cell.is_search else min
        label = pick(others, key=lambda other: summarise(others[other]).mean)
        best = others[label]
        leads = summarise(ours).mean > summarise(best).mean
        wins = leads if cell.is_search else not leads
        p = welch_test(ours, best) if leads else welch_test(best, ours)
        holds: Holds = "yes" if wins and p < 0.05 else "no" if not wins and p < 0.05 else "partly"
        what = "finds more of the good outcomes" if cell.is_search else "comes closer to the wanted shares"
        rows.append(
            verdict(
                f"{cell.title}: {OURS} {what} than any other method",
                paper="ours",
                measured=f"{_shown(ours)} against {label}, {_shown(best)}"
                + ("" if p != p else f" (p = {p:.2g})"),
                holds=holds,
            )
        )
        plain, valid = arms.get(Plain.label), arms[OURS].values["valid"]
        if cell.is_search and plain is not None:
            paid = summarise(plain.values["valid"]).mean - summarise(valid).mean
            rows.append(
                verdict(
                    f"{cell.title}: {OURS} is right as often as plain RL, to within 0.05",
                    paper="ours",
                    measured=f"{_shown(valid)} against {_shown(plain.values['valid'])}",
                    holds=bool(paid <= 0.05),
                )
            )
    return rows


def _shown(values: Sequence[float]) -> str:
    summary = summarise(values)
    return f"{summary.mean:.3f} ± {summary.std:.3f}" if len(values) > 1 else f"{summary.mean:.3f}"


def _notes(seeds: int, *, is_whole: bool) -> list[str]:
    notes = [
        f"{seeds} seeds; ± is the standard deviation over them. All methods of a world have the same number "
        "of samples, learning rate, KL and baseline (leave-one-out), except methods that define their own "
        "baseline. Methods have their default settings and the world's threshold, unless a label says "
        f"otherwise. Nothing was tuned here for {OURS}, whose defaults come from earlier trials in similar "
        "worlds.",
        f"Recovery: expected share of a prompt's good outcomes among {DRAWS} samples of the final policy, "
        "from its exact probabilities. TV: total variation between the shares among good outcomes and the "
        "wanted shares, which are uniform or proportional to reward. Lost: good outcomes with less than a "
        "tenth of their target share. KL within outcomes: how far the distribution over the strings of one "
        "outcome has moved from the reference's.",
        f"A method that works on strings (such as {MARA.label} without outcomes) makes strings equally "
        "likely, not the outcomes that several strings express.",
        f"{OURS} remembers outcomes by prompt over the whole training, and the others do not. That memory is "
        "a large part of its gain.",
    ]
    if not is_whole:
        notes.append(
            f"Quick scale: {len(QUICK_CELLS)} of the {len(cells())} worlds, and {QUICK_SHARE:g} of their "
            "steps. `allmodes paper beyond --scale paper` runs all of them."
        )
    return notes
