"""Figures of an experiment: training and its Pareto front, answers by β, recovery.

The first two are as MARA's Figures 6 and 10, the last as Figure 2 of the IPS paper.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from allmodes.methods import color_of, label_of
from allmodes.reports.plotting import FAINT, INK, MUTED, distinct_colors
from allmodes.text.config import KL, Trainer
from allmodes.text.reporting.curves import Bin, pareto_front
from allmodes.text.reporting.results import Arm, TextResult
from allmodes.text.reporting.views import View, answer_share

_STYLES = ("-", (0, (6, 2)), (0, (3, 1, 1, 1)), (0, (2, 2)))  # of the lines of each trainer and KL

Runs = Mapping[tuple[Arm, int], Sequence[Bin]]


@final
@dataclass(frozen=True)
class _Panel:
    """A curve over training. even: where only known answers come, equally often; top: of the axis."""

    title: str
    value: Callable[[Bin], float]
    even: float | None = None
    top: float | None = None


_NAMES: dict[Trainer, str] = {"grpo": "GRPO", "rloo": "RLOO", "flowrl": "FlowRL"}


def group_name(trainer: Trainer, kl: KL) -> str:
    """The name of a trainer and its KL, as reports show it."""
    return f"{_NAMES[trainer]}, {kl} KL"


def colours_of(methods: Iterable[str]) -> dict[str, str]:
    """The colour of each method, and of several in a row a shade of the first's where that is taken."""
    return distinct_colors({method: color_of(method) for method in methods})


def groups_of(arms: Sequence[Arm]) -> list[tuple[Trainer, KL]]:
    """Trainers with their KLs, each once, in order."""
    return list(dict.fromkeys((arm.trainer, arm.kl) for arm in arms))


def draw_training(runs: Runs, *, view: View, base: TextResult, samples: int) -> Any:
    """A row for each trainer and KL: answers, diversity and reward over training, and the Pareto front.

    runs: the bins of each run. view: its first answer is counted in the first panel, which is left out where
    it has none. samples: of a step. Thin lines are runs, thick ones the mean over all runs
    of a method.
    """
    from matplotlib.figure import Figure

    groups = groups_of([arm for arm, _ in runs])
    colours = colours_of(arm.method for arm, _ in runs)
    panels = _panels(view, samples)
    columns = len(panels) + 1
    figure = Figure(figsize=(3.1 * columns, 2.6 * len(groups)))
    grid = figure.subplots(len(groups), columns, squeeze=False)
    for row, (trainer, kl) in zip(grid, groups, strict=True):
        inside = {key: bins for key, bins in runs.items() if (key[0].trainer, key[0].kl) == (trainer, kl)}
        for axes, panel in zip(row, panels, strict=False):
            _curves(axes, inside, panel.value, colours)
            if panel.even is not None:
                axes.axhline(panel.even, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
                axes.set_ylim(0, panel.top)
            axes.set(title=panel.title, xlabel="step")
        _pareto(row[-1], inside, (base.reward, view.diversity), colours)
        row[0].annotate(
            group_name(trainer, kl), (-0.26, 0.5), xycoords="axes fraction", rotation=90, va="center",
            ha="center", fontweight="bold",
        )  # fmt: skip
    return figure


def _panels(view: View, samples: int) -> list[_Panel]:
    answers, (diversity, _) = view.answers, view.diversity
    reward = _Panel("Mean reward", lambda b: b.reward)
    if not answers:
        return [_Panel(diversity, lambda b: b.diversity), reward]
    first, count = answers[0], len(answers)
    entropy = math.log(count)
    return [
        _Panel(
            f"“{first}” among the {samples} samples of a step",
            lambda b: b.counts.get(first, 0) / b.steps,
            even=samples / count,
            top=1.03 * samples,
        ),
        _Panel(diversity, lambda b: b.diversity, even=entropy, top=1.06 * entropy),
        reward,
    ]


def _by_method(runs: Runs) -> dict[str, list[Sequence[Bin]]]:
    found: dict[str, list[Sequence[Bin]]] = {}
    for (arm, _), bins in runs.items():
        found.setdefault(arm.method, []).append(bins)
    return found


def _curves(axes: Any, runs: Runs, value: Callable[[Bin], float], colours: Mapping[str, str]) -> None:
    for method, lines in _by_method(runs).items():
        colour = colours[method]
        steps = [b.step for b in lines[0]]
        curves = np.array([[value(b) for b in line] for line in lines])
        for curve in curves:
            axes.plot(steps, curve, color=colour, linewidth=0.6, alpha=0.35)
        known = ~np.isnan(curves).all(axis=0)
        axes.plot(np.array(steps)[known], np.nanmean(curves[:, known], axis=0), color=colour, linewidth=2)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)


def _pareto(axes: Any, runs: Runs, base: tuple[float, tuple[str, float]], colours: Mapping[str, str]) -> None:
    reward, (name_of_diversity, diversity) = base
    for method, lines in _by_method(runs).items():
        name, colour = label_of(method), colours[method]
        points = [(b.reward, b.diversity) for line in lines for b in line]
        axes.plot(*zip(*points, strict=True), ".", color=colour, markersize=2.5, alpha=0.25)
        front = pareto_front(points)
        if front:
            axes.step(
                *zip(*front, strict=True), where="pre", color=colour, linewidth=1.8, marker="o",
                markersize=3, label=name,
            )  # fmt: skip
    if not math.isnan(diversity):
        axes.plot(reward, diversity, "*", color=INK, markersize=8, label="base")
    axes.set(title="Pareto front", xlabel="mean reward", ylabel=name_of_diversity)
    axes.grid(color=FAINT, linewidth=0.5)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left")


def draw_answers(results: Sequence[TextResult], *, answer: str, base: TextResult) -> Any:
    """Plot the share of one answer among the valid ones at the end of training by β, one dot per seed."""
    from matplotlib.figure import Figure

    arms = [result.arm for result in results if result.arm is not None]
    groups = groups_of(arms)
    betas = sorted({arm.beta for arm in arms})
    methods = list(dict.fromkeys(arm.method for arm in arms))
    colours = colours_of(methods)
    figure = Figure(figsize=(1.6 + 2.9 * len(groups), 2.8))
    row = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for axes, (trainer, kl) in zip(row, groups, strict=True):
        axes.axhline(1 / len(base.answers), color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.axhline(answer_share(base, answer), color=MUTED, linewidth=0.8)
        for place, method in enumerate(methods):
            name, colour = label_of(method), colours[method]
            shift = (place - (len(methods) - 1) / 2) * 0.7 / len(methods)
            points = [
                (betas.index(arm.beta) + shift, answer_share(result, answer))
                for result in results
                if (arm := result.arm) is not None
                and (arm.trainer, arm.kl, arm.method) == (trainer, kl, method)
            ]
            axes.plot(*zip(*points, strict=True), "o", color=colour, markersize=5, alpha=0.7, label=name)
        axes.set(
            title=group_name(trainer, kl), xlabel="β", ylim=(-0.03, 1.03), xlim=(-0.6, len(betas) - 0.4),
            xticks=range(len(betas)), xticklabels=[f"{beta:g}" for beta in betas],
        )  # fmt: skip
    row[0].set_ylabel(f"share of “{answer}” among valid answers")
    row[0].legend(loc="lower left")
    row[-1].text(len(betas) - 0.42, answer_share(base, answer), " base", color=MUTED, va="center", fontsize=8)
    row[-1].text(len(betas) - 0.42, 1 / len(base.answers), " even", color=MUTED, va="center", fontsize=8)
    return figure


def draw_recovery(results: Sequence[TextResult], *, base: TextResult) -> Any:
    """Cumulative recovery over the number of samples, a panel for each β.

    A line is the mean over the seeds of a method, in another style for each trainer and KL; its band is the
    mean of their bootstrap standard errors over prompts, on either side.
    """
    from matplotlib.figure import Figure

    arms = list(dict.fromkeys(result.arm for result in results if result.arm is not None))
    groups = groups_of(arms)
    betas = sorted({arm.beta for arm in arms})
    colours = colours_of(arm.method for arm in arms)
    figure = Figure(figsize=(1.2 + 4.2 * len(betas), 3.6))
    row = figure.subplots(1, len(betas), squeeze=False, sharex=True, sharey=True)[0]
    for axes, beta in zip(row, betas, strict=True):
        plot_recovery(axes, [base.recovery], color=MUTED, label="base", linestyle=(0, (1, 1)))
        for arm in (arm for arm in arms if arm.beta == beta):
            group = (arm.trainer, arm.kl)
            name = label_of(arm.method)
            plot_recovery(
                axes,
                [result.recovery for result in results if result.arm == arm],
                color=colours[arm.method],
                label=name if len(groups) == 1 else f"{group_name(*group)}, {name}",
                linestyle=_STYLES[groups.index(group) % len(_STYLES)],
            )
        axes.set(title=f"β = {beta:g}", xscale="log", ylim=(0, 1.02), xlabel="samples per prompt")
        axes.grid(color=FAINT, linewidth=0.5)
    ticks = [2**power for power in range(base.recovery[-1][0].bit_length())]
    row[0].set_xticks(ticks, [str(k) for k in ticks])
    row[0].minorticks_off()
    row[0].set_ylabel("recovery of good answers")
    row[0].legend(loc="upper left", fontsize=7)
    return figure


def plot_recovery(
    axes: Any, curves: Sequence[Sequence[tuple[int, float, float]]], *, color: str, label: str, **style: Any
) -> None:
    """The mean of the curves of all seeds, with the mean of their errors as its band."""
    samples = [k for k, _, _ in curves[0]]
    means, errors = np.array([[point[1:] for point in curve] for curve in curves]).mean(axis=0).T
    axes.plot(samples, means, color=color, linewidth=1.8, label=label, **style)
    axes.fill_between(samples, means - errors, means + errors, color=color, alpha=0.15, linewidth=0)
