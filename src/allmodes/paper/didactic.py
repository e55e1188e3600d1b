"""MARA's didactic world of 100 outcomes, which several figures share: settings, training, drawing."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from allmodes.metrics import summarise
from allmodes.paper.reproduction import Progress, Scale
from allmodes.reports.plotting import FAINT, INK, MUTED, ORANGE, distinct_colors
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.optimum import exact_optimum
from allmodes.worlds.sweep import Setting, Sweep, replicas, train
from allmodes.worlds.training import Training

OUTCOMES, BATCH_SIZE, LEARNING_RATE = 100, 32, 5e-3  # MARA, appendix C.1
STEPS, WORKSHOP_STEPS = 3000, 1000
LEFT, RIGHT = slice(20, 30), slice(70, 80)
# log q(left) − log q(right); with 50 outcomes each, log q is −4.05 and −5.95, as in Figure 2.
SUPPORT_GAP = 1.90
LEGEND = (
    "filled: trained policies, mean of the seeds (thin: each seed)   dark line: exact optimum   grey: the "
    "best outcomes"
)
NO_SHAPES = (
    "The paper shows its rewards and references only as plots. Here: 100 outcomes, two plateaus of ten good "
    "outcomes (20 to 29, 70 to 79), reward 0 elsewhere; where the reference has 'support over the first "
    "half', its log-probabilities are −4.05 there and −5.95 in the second half, the two numbers that the "
    "paper gives."
)


def half_reference() -> Tensor:
    """Reference with most of its mass on the first half: log q = −4.05 there, −5.95 beyond."""
    logits = torch.zeros(OUTCOMES, dtype=torch.float64)
    logits[OUTCOMES // 2 :] -= SUPPORT_GAP
    return torch.log_softmax(logits, 0)


def uniform_reference() -> Tensor:
    """Uniform over all outcomes."""
    return torch.full((OUTCOMES,), -math.log(OUTCOMES), dtype=torch.float64)


def plateaus(left: float, right: float) -> Tensor:
    """Two plateaus of ten good outcomes, 0 elsewhere."""
    rewards = torch.zeros(OUTCOMES, dtype=torch.float64)
    rewards[LEFT], rewards[RIGHT] = left, right
    return rewards


def bumps(*heights: float) -> Tensor:
    """Evenly spaced smooth bumps, the largest of them at each outcome."""
    x = torch.arange(OUTCOMES, dtype=torch.float64)
    centres = [round((i + 0.5) * OUTCOMES / len(heights)) for i in range(len(heights))]
    shapes = [h * torch.exp(-0.5 * ((x - c) / 4) ** 2) for h, c in zip(heights, centres, strict=True)]
    return torch.stack(shapes).amax(0)


def train_figure(
    world: Categorical,
    methods: Sequence[Training],
    betas: Sequence[float],
    *,
    steps: int,
    scale: Scale,
    progress: Progress,
) -> Sweep:
    """Train every method × β × seed of a figure in one sweep, with the paper's batch size and rate."""
    settings = [
        setting
        for method in methods
        for beta in betas
        for setting in replicas(Setting(training=method, beta=beta), scale.seeds)
    ]
    return train(
        world,
        settings,
        steps=scale.own_steps(steps),
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        seed=0,
        record=20,
        progress=progress,
    )


def policies(sweep: Sweep, method: Training, beta: float) -> Tensor:
    """Final probabilities of the replicas of one setting, (seeds, K)."""
    rows = sweep.where(lambda setting: setting.training == method and setting.beta == beta)
    return sweep.logprobs[rows].exp()


def optimum(world: Categorical, method: Training, beta: float) -> Tensor:
    """The exact optimum's probabilities, (K,)."""
    found = exact_optimum(world, method, beta=beta)
    if found is None:
        raise ValueError(f"{method.name} has no known optimum")
    return found.exp()


def mass(probabilities: Tensor, part: slice) -> Tensor:
    """Mass of a range of outcomes, (...)."""
    return probabilities[..., part].sum(-1)


def table(
    world: Categorical, sweep: Sweep, methods: Sequence[Training], betas: Sequence[float]
) -> list[dict[str, Any]]:
    """Masses of both plateaus, trained (each seed) and exact, and the distance of the two policies."""
    rows: list[dict[str, Any]] = []
    for method in methods:
        for beta in betas:
            trained, exact = policies(sweep, method, beta), optimum(world, method, beta)
            distance = 0.5 * (trained - exact).abs().sum(-1)
            rows.append(
                {
                    "method": method.name,
                    "beta": beta,
                    "trained_left": mass(trained, LEFT),
                    "trained_right": mass(trained, RIGHT),
                    "exact_left": mass(exact, LEFT),
                    "exact_right": mass(exact, RIGHT),
                    "total_variation": distance,
                }
            )
    return rows


def spread(values: Tensor | Sequence[float]) -> str:
    """Mean ± standard deviation, as text."""
    summary = summarise(values.tolist() if isinstance(values, Tensor) else values)
    return f"{summary.mean:.3g} ± {summary.std:.1g}"


def draw_world(top: Any, bottom: Any, world: Categorical, *, threshold: float | None = None) -> None:
    """Reward above, reference below."""
    x = range(OUTCOMES)
    top.fill_between(x, world.rewards, step="mid", color=ORANGE, alpha=0.35, linewidth=0)
    top.plot(x, world.rewards, color=ORANGE, drawstyle="steps-mid", linewidth=1.2)
    if threshold is not None:
        top.axhline(threshold, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
        top.text(49.5, threshold + 0.03, "τ", ha="center", va="bottom")
    top.set(title="reward", ylim=(0, 1.15), yticks=(0, 0.5, 1))
    reference = world.ref_outcome_logprobs.exp()
    bottom.fill_between(x, reference, step="mid", color=MUTED, alpha=0.35, linewidth=0)
    bottom.plot(x, reference, color=MUTED, drawstyle="steps-mid", linewidth=1.2)
    bottom.set(title="reference", ylim=(0, 1.35 * float(reference.max())))
    for axes in (top, bottom):
        axes.set(xlim=(0, OUTCOMES - 1), xticks=(0, 50, 99))


def colors_of(trainings: Iterable[Training]) -> dict[str, str]:
    """A colour for each training, by its name: its method's, darker for each further one of it."""
    return distinct_colors({training.name: training.color for training in trainings})


def draw_policies(axes: Any, trained: Tensor, exact: Tensor, world: Categorical, *, colour: str) -> None:
    """Each replica as a faint line, their mean filled, and the exact optimum as a dark line above."""
    x = range(OUTCOMES)
    good = world.rewards >= 0.7 * world.rewards.max()
    top = 1.25 * float(max(exact.max(), trained.mean(0).max()))
    axes.fill_between(x, 0, top, where=good, step="mid", color=FAINT, alpha=0.45, linewidth=0)
    for row in trained:
        axes.plot(x, row, color=colour, alpha=0.35, linewidth=0.6, drawstyle="steps-mid")
    axes.fill_between(x, trained.mean(0), step="mid", color=colour, alpha=0.45, linewidth=0)
    axes.plot(x, exact, color=INK, linewidth=1.0, drawstyle="steps-mid")
    axes.set(xlim=(0, OUTCOMES - 1), ylim=(0, top), xticks=(0, 50, 99))
    axes.yaxis.set_major_locator(_few_ticks())


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(2)


def policy_grid(
    world: Categorical,
    sweep: Sweep,
    rows: Sequence[tuple[Training, str]],
    betas: Sequence[float],
    *,
    threshold: float | None = None,
) -> Any:
    """Reward and reference at the left; a row for each training with its label, a column for each β."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.1 + 1.32 * len(betas), 0.75 + 1.3 * max(len(rows), 2)))
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.55, 1.32 * len(betas) + 0.4))
    left, right = halves
    top, bottom = left.subplots(2, 1)
    draw_world(top, bottom, world, threshold=threshold)
    panels = right.subplots(len(rows), len(betas), squeeze=False, sharex=True)
    colours = colors_of(method for method, _ in rows)
    for panel_row, (method, label) in zip(panels, rows, strict=True):
        for axes, beta in zip(panel_row, betas, strict=True):
            draw_policies(
                axes,
                policies(sweep, method, beta),
                optimum(world, method, beta),
                world,
                colour=colours[method.name],
            )
        panel_row[0].set_ylabel(label)
    for axes, beta in zip(panels[0], betas, strict=True):
        axes.set_title(f"β = {beta:g}")
    right.supxlabel(LEGEND, fontsize=7.5, color=MUTED)
    return figure
