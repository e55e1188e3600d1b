"""Shared by the tables of molecular design: how a study is run, written, drawn and judged."""

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from allmodes.extras import require
from allmodes.methods import color_of
from allmodes.paper import study_settings
from allmodes.paper.reproduction import Holds, Progress, Scale
from allmodes.paper.study_settings import Arm, Settings, with_receptor
from allmodes.reports.formatting import listing, p_relation
from allmodes.reports.plotting import MUTED, distinct_colors

WORK, RECEPTOR = "ALLMODES_TABLE2_WORK", "ALLMODES_RECEPTOR"
METRICS = {"hits": "Yield", "ob100": "OB100", "intdiv1": "IntDiv1", "circles": "Circles"}
_MARKERS = ("o", "s", "D")

Paper = Callable[[Any, str], tuple[float, float] | None]  # a row and a metric: mean and sd in the paper


def settings_of(scale: Scale, arms: tuple[Arm, ...]) -> Settings:
    """The paper's settings or the quick ones, with docking if a receptor is given.

    Raises ConfigError if the folder of the receptor lacks a file.
    """
    if scale.name == "paper":
        settings = replace(study_settings.PAPER, arms=arms)
    else:
        quick = study_settings.QUICK
        seeds = quick.seeds[: scale.seeds]
        settings = replace(quick, arms=arms, seeds=seeds, budget=scale.own_steps(quick.budget))
    receptor = os.environ.get(RECEPTOR)
    return settings if receptor is None else with_receptor(settings, Path(receptor))


def run_study(item: str, settings: Settings, scale: Scale, progress: Progress) -> Any:
    """Run the study; at paper scale both items share a folder, so that common runs are done once."""
    require(f"{item} needs", "rdkit", "sqlalchemy", "syntheseus", extras="retrosynthesis,report")
    from allmodes.paper.study import study

    if scale.name == "paper":
        return study(settings, Path(os.environ.get(WORK, "runs/table2-work")), advance=progress)
    with tempfile.TemporaryDirectory(prefix=f"allmodes-{item}-") as folder:
        return study(settings, Path(folder), advance=progress)


@final
@dataclass(frozen=True, kw_only=True)
class Contest:
    """Whether a row is better than another in a metric: None if that cannot be judged; p: NaN likewise."""

    better: bool | None
    p: float
    text: str


def contest(one: Any, other: Any, metric: str) -> Contest:
    """Compare the means of two rows of a study; a metric that any seed lacks cannot be judged."""
    where = f"{one.task} {one.screen:.2f}"
    for row in (one, other):
        if len(row.defined(metric)) < len(row.runs):
            undefined = _undefined(row, metric)
            return Contest(better=None, p=math.nan, text=f"{where}: {row.arm} {undefined}, cannot be judged")
    ours, theirs = one.summary(metric).mean, other.summary(metric).mean
    p = one.p_better(other, metric)
    said = f"{where}: {cell(one, metric)} against {cell(other, metric)} ({p_text(p)})"
    return Contest(better=ours < theirs if metric == "ob100" else ours > theirs, p=p, text=said)


def holds_in_all(won: Sequence[bool | None]) -> Holds:
    """Whether all comparisons were won; one that cannot be judged was not."""
    return "yes" if all(won) else "partly" if any(won) else "no"


def said_of(settings: Settings) -> str:
    """Prefix of every measurement that names what scored the molecules."""
    return {"surrogate": "docking stand-in: ", "docking": "Vina: "}.get(settings.docking or "", "")


def p_text(p: float) -> str:
    """`p = 0.42`, or the statement that there is no test."""
    return "no test" if math.isnan(p) else f"p {p_relation(p)}"


def cell(row: Any, metric: str) -> str:
    """Mean ± sd over the seeds, and in how many the metric is undefined."""
    summary = row.summary(metric)
    undefined = _undefined(row, metric)
    if summary is None:
        return undefined
    # As many digits as the papers give, one more for small counts.
    places = 3 if metric == "intdiv1" else 1 if summary.mean < 100 else 0
    text = f"{summary.mean:.{places}f}"
    if summary.count > 1:
        text += f" ± {summary.std:.{places}f}"
    return f"{text}, {undefined}" if undefined else text


def _undefined(row: Any, metric: str) -> str:
    missing = len(row.runs) - len(row.defined(metric))
    return f"undefined in {missing} of {len(row.runs)} seeds" if missing else ""


def numbers(study: Any, paper: Paper) -> dict[str, Any]:
    """All figures of every seed, ready for JSON."""
    settings = study.settings
    return {
        "docking": settings.docking,
        "surrogate": None if study.surrogate is None else asdict(study.surrogate),
        "budget": settings.budget,
        "seeds": settings.seeds,
        "rows": [
            {"task": row.task, "screen": row.screen, "sigma": row.sigma, "arm": row.arm}
            | {metric: _figure(study, row, metric, paper) for metric in METRICS}
            | {"runs": [run.as_json() for run in row.runs]}
            for row in study.rows
        ],
    }


def _figure(study: Any, row: Any, metric: str, paper: Paper) -> dict[str, Any]:
    summary, reference = row.summary(metric), study.reference(row)
    return {
        "mean": None if summary is None else summary.mean,
        "sd": None if summary is None else summary.std,
        "seeds": row.seeds(metric),
        "p_better": None if reference is row else row.p_better(reference, metric),
        "paper": paper(row, metric),
    }


def markdown(study: Any, paper: Paper, *, with_paper: bool) -> list[str]:
    """A table for each task and screen: ours, tested against the first arm, and the paper's beside it."""
    settings, first = study.settings, study.settings.arms[0].name
    columns = [name for label in METRICS.values() for name in ((label, "paper") if with_paper else (label,))]
    head = f"| σ | Algorithm | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 2)}\n"
    tables = []
    for task in settings.tasks:
        for screen in settings.screens:
            rows = [row for row in study.rows if (row.task, row.screen) == (task, screen)]
            lines = "".join(_line(study, row, paper, with_paper=with_paper) for row in rows)
            tables.append(
                f"{task}, screen {screen:.2f}, mean ± sd over {len(settings.seeds)} seeds; in brackets the "
                f"one-sided p-value of Welch's test that it is no better than {first} at the same σ:\n\n"
                f"{head}{lines}"
            )
    return tables


def _line(study: Any, row: Any, paper: Paper, *, with_paper: bool) -> str:
    reference = study.reference(row)
    cells = [f"{row.sigma:g}", row.arm]
    for metric in METRICS:
        test = "" if reference is row else f" ({p_text(row.p_better(reference, metric))})"
        cells.append(f"{cell(row, metric)}{test}")
        if with_paper:
            found = paper(row, metric)
            cells.append("–" if found is None else paper_cell(found, metric))
    return f"| {' | '.join(cells)} |\n"


def paper_cell(found: tuple[float, float], metric: str) -> str:
    """`6569 ± 186`, as the paper prints it."""
    places = 3 if metric == "intdiv1" else 0
    return f"{found[0]:.{places}f} ± {found[1]:.{places}f}"


def notes(study: Any) -> list[str]:
    """Notes on the stand-ins and the settings."""
    settings, card = study.settings, study.surrogate
    runs = [run for row in study.rows if row.screen == settings.screens[0] for run in row.runs]
    short = [run for run in runs if run.stopped_by != "budget"]
    failures = sum(sum(run.failures.values()) for run in runs)
    found = [
        *_of_docking(settings, card),
        "Other stand-ins: reaction templates for MEGAN, a stock that allmodes enumerates itself for "
        f"eMolecules, and the prior “{settings.prior or 'lstm'}”, trained on ZINC-250k, for Saturn's Mamba. "
        "So our Yields and the papers' belong to different tasks: only the order of the algorithms can be "
        "compared.",
        f"{len(settings.seeds)} seeds, {settings.budget:,} oracle calls, batches of {settings.batch_size}, "
        f"Adam with rate {settings.learning_rate:g}, {settings.augmentation_rounds} rounds of augmentation, "
        "the geometric mean of the four components. Every run is measured at both screens, and the scaffold "
        f"filter counts rewards from {settings.filter_from:g} on in all of them.",
        f"± is the standard deviation over seeds. {failures:,} of {sum(run.calls for run in runs):,} calls "
        "failed and have no score. OB100 is undefined for a seed with fewer than 100 hits, IntDiv1 for one "
        "without hits; a metric that is undefined for any seed is not tested.",
    ]
    if short:
        why = listing(sorted({run.stopped_by.replace("_", " ") for run in short}))
        found.append(f"{len(short)} of {len(runs)} runs ended before their budget was spent: {why}.")
    if settings.budget < study_settings.PAPER.budget:
        found.append(
            f"{settings.budget:,} calls are too few for an agent to learn, and {len(settings.seeds)} seeds "
            "are too few for a meaningful test. `--scale paper` runs the papers' budget and seeds."
        )
    return found


def _of_docking(settings: Settings, card: Any) -> list[str]:
    if settings.docking == "docking":
        return ["Docking is AutoDock Vina at exhaustiveness 1; the papers' is QuickVina2-GPU."]
    if card is None:
        return []
    return [
        f"Docking stand-in: ridge regression instead of {card.target}, trained on {card.molecules} molecules "
        f"that this project docked. Held-out error (five folds): RMSE {card.rmse:.2f}, mean "
        f"{card.mean_error:.2f} kcal/mol, where the scores' standard deviation is {card.spread:.2f}; R² "
        f"{card.r2:.2f}, rank correlation {card.rank_correlation:.2f}. An agent also exploits the errors of "
        f"its scorer: on the molecules that it finds, the error may be larger. With `{RECEPTOR}` set to a "
        "folder of `allmodes chem receptor` Vina docks instead."
    ]


def draw(study: Any) -> Any:
    """Yield of each arm, a panel for each task and screen: mean ± sd, and every seed as a dot."""
    from matplotlib.figure import Figure

    settings = study.settings
    size = (3.3 * len(settings.screens) + 0.4, 2.5 * len(settings.tasks) + 0.5)
    figure: Any = Figure(figsize=size)
    panels = figure.subplots(len(settings.tasks), len(settings.screens), squeeze=False)
    for line, task in zip(panels, settings.tasks, strict=True):
        for axes, screen in zip(line, settings.screens, strict=True):
            _panel(axes, [row for row in study.rows if (row.task, row.screen) == (task, screen)], settings)
            axes.set_title(f"{task}, screen {screen:.2f}")
        line[0].set_ylabel(f"Yield in {settings.budget:,} calls")
    if len(settings.sigmas) > 1:
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper")
    note = f"{said_of(settings).replace(':', ';')}bars: mean ± sd; dots: {len(settings.seeds)} seeds"
    figure.supxlabel(note, fontsize=7.5, color=MUTED)
    return figure


def _panel(axes: Any, rows: Sequence[Any], settings: Settings) -> None:
    names = [arm.name for arm in settings.arms]
    colours = distinct_colors({arm.name: color_of(arm.trained.method) for arm in settings.arms})
    markers = dict(zip(settings.sigmas, _MARKERS, strict=False))
    seen: set[float] = set()
    for row in rows:
        values, summary = row.seeds("hits"), row.summary("hits")
        place = settings.sigmas.index(row.sigma) - (len(settings.sigmas) - 1) / 2
        x = names.index(row.arm) + 0.24 * place
        colour = colours[row.arm]
        marker = markers.get(row.sigma, "o")
        axes.errorbar(
            [x + 0.05], [summary.mean], yerr=None if math.isnan(summary.std) else [summary.std],
            fmt="_", color=colour, markersize=11, markeredgewidth=1.8, elinewidth=1, capsize=2,
        )  # fmt: skip
        axes.scatter([x - 0.05] * len(values), values, s=11, marker=marker, color=colour, alpha=0.6, lw=0)
        if row.sigma not in seen:
            axes.scatter([], [], s=11, marker=marker, color=MUTED, label=f"σ = {row.sigma:g}")
            seen.add(row.sigma)
    axes.set_xticks(range(len(names)), [name.replace(" (", "\n(") for name in names])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(0, max(1.05 * axes.get_ylim()[1], 1))  # also where no run has a hit


def paired(
    study: Any, arm_of: Mapping[float, Arm] | Arm, other: Arm, metric: str, *, sigma: float
) -> list[Contest]:
    """A comparison at each task and screen; arm_of: one arm, or the arm for each screen."""
    return [
        contest(
            study.row(
                task, screen=screen, sigma=sigma, arm=arm_of if isinstance(arm_of, Arm) else arm_of[screen]
            ),
            study.row(task, screen=screen, sigma=sigma, arm=other),
            metric,
        )
        for task in study.settings.tasks
        for screen in study.settings.screens
    ]
