"""IPS, Figure 3: two outcomes of equal reward, A with 35 paths and B with 7."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import SGD, Adam

from allmodes.paper.ips_grids import BATCH_SIZE, LEARNING_RATE, each, in_all, mean_sd
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, verdict
from allmodes.reports.plotting import BLUE, INK, MUTED, ORANGE
from allmodes.worlds.grid import GridWorld, two_paths
from allmodes.worlds.optimum import exact_optimum
from allmodes.worlds.sweep import Setting, Sweep, replicas, train
from allmodes.worlds.training import ENTROPY, GRPO_ENTROPY, IPS_GRPO_ENTROPY, Training

A, B = (4, 3), (6, 1)
WEIGHT = 0.1
GRPO_PLAIN = Training(name="GRPO, no entropy", kl="none", advantages="group_std")
RUNS: tuple[tuple[str, Training, float], ...] = (
    ("GRPO", GRPO_ENTROPY, WEIGHT),
    ("IPS-GRPO", IPS_GRPO_ENTROPY, WEIGHT),
    ("GRPO, no entropy", GRPO_PLAIN, 0.0),
    ("entropy 0.1", ENTROPY, 0.1),
    ("entropy 0.3", ENTROPY, 0.3),
)
EXACT_STEPS = 2000
RETURNS: tuple[tuple[str, bool, type[Adam] | type[SGD], float], ...] = (
    ("gradient ascent, rate 1", False, SGD, 1.0),
    ("Adam, rate 0.03", False, Adam, 0.03),
    ("Adam, rate 0.1", False, Adam, 0.1),
)


@final
@dataclass(frozen=True, kw_only=True)
class Ends:
    """Probability of A and of B over training, (T, seeds), of one run."""

    a: Tensor
    b: Tensor

    @property
    def share(self) -> Tensor:
        """A's share of the final mass of A and B, (seeds,)."""
        return (self.a / (self.a + self.b))[-1]


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train with and without inverse scaling, and follow the exact gradients."""
    world = two_paths()
    sweep = train(
        world,
        [s for _, method, beta in RUNS for s in replicas(Setting(training=method, beta=beta), scale.seeds)],
        steps=scale.own_steps(scale.grid_steps),
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        seed=0,
        record=60,
        progress=progress,
    )
    a, b = world.outcomes.index(A), world.outcomes.index(B)
    runs = {name: _ends(sweep, method, beta, a, b) for name, method, beta in RUNS}
    steps = scale.own_steps(EXACT_STEPS)
    exact = {
        name: ascend(world, scaled=scaled, optimizer=optimizer, rate=rate, steps=steps)[[a, b]]
        for name, scaled, optimizer, rate in (("IPS", True, Adam, 0.03), *RETURNS)
    }
    return Reproduction(
        figure=_figure(world, sweep, runs),
        numbers={
            "paths": {"A": world.path_counts[a], "B": world.path_counts[b]},
            "runs": {name: {**vars(run), "A_share": run.share} for name, run in runs.items()},
            "exact_gradient": exact,
        },
        verdicts=_verdicts(world, runs, exact),
        notes=[
            "The paper does not give the number of steps, the batch, the rate or the entropy weight. Here: "
            f"{BATCH_SIZE} walks per step in one group, Adam with learning rate {LEARNING_RATE}, a tabular "
            "policy that starts uniform, the entropy of the whole walk as a term of the loss with weight "
            f"{WEIGHT} for both.",
            "The verdict on entropy alone is for the plain policy gradient with the entropy inside the "
            "rewards and a leave-one-out baseline, whose optimum is known: A and B in proportion to their "
            "numbers of paths, 35 : 7. GRPO divides by a standard deviation, so its optimum is not known "
            "exactly.",
            f"Exact gradients: {steps} steps from the uniform policy. Adam rescales each logit's gradient, "
            "and which outcome wins the expected return then depends on its rate.",
            "'Comparable' means that neither outcome is more than twice as frequent as the other.",
        ],
    )


def ascend(
    world: GridWorld, *, scaled: bool, optimizer: type[Adam] | type[SGD], rate: float, steps: int
) -> Tensor:
    """Outcome probabilities after exact ascent on Σ r log p (scaled) or Σ r p, (K,)."""
    logits = world.initial_logits(1).double().requires_grad_()
    ascent = optimizer([logits], lr=rate, maximize=True)
    for _ in range(steps):
        logprobs = world.outcome_logprobs(logits)[0]
        ascent.zero_grad()
        (world.rewards * (logprobs if scaled else logprobs.exp())).sum().backward()
        ascent.step()
    return world.outcome_logprobs(logits.detach())[0].exp()


def _ends(sweep: Sweep, method: Training, beta: float, a: int, b: int) -> Ends:
    rows = sweep.where(lambda setting: setting.training == method and setting.beta == beta)
    history = sweep.history[:, rows].exp()
    return Ends(a=history[..., a], b=history[..., b])


def _verdicts(world: GridWorld, runs: dict[str, Ends], exact: dict[str, Tensor]) -> list[Verdict]:
    grpo, ips, plain = runs["GRPO"], runs["IPS-GRPO"], runs["GRPO, no entropy"]
    a, b = world.outcomes.index(A), world.outcomes.index(B)
    by_paths = float(world.path_counts[a] / (world.path_counts[a] + world.path_counts[b]))
    entropies = [(beta, runs[name]) for name, method, beta in RUNS if method == ENTROPY]
    optima = [exact_optimum(world, ENTROPY, beta=beta) for beta, _ in entropies]
    shares = [float(torch.sigmoid(p[a] - p[b])) for p in optima if p is not None]
    uneven = float((ips.a / ips.b)[len(ips.a) // 2 :].log().abs().max().exp())
    return [
        verdict(
            "GRPO with entropy ends with nearly only A, and B goes to zero",
            paper="nearly 100% of samples are A; a rich-get-richer loop drives the frequency of B to zero",
            measured=f"A {each(grpo.a[-1])}; B {each(grpo.b[-1])} (each seed): by numbers of paths, "
            f"{by_paths:.3f} and {1 - by_paths:.3f}",
            holds=in_all((grpo.a[-1] > 0.95) & (grpo.b[-1] < 0.05)),
        ),
        verdict(
            "Entropy alone does not drive B to zero: its optimum is 35 : 7 at every weight",
            paper="(the paper says that GRPO with entropy collapses)",
            measured="A's share "
            + "; ".join(
                f"{mean_sd(run.share)} at weight {beta:g} (exact {share:.4f})"
                for (beta, run), share in zip(entropies, shares, strict=True)
            ),
            holds=all(bool(((run.share - by_paths).abs() < 0.02).all()) for _, run in entropies),
        ),
        verdict(
            "Without an entropy, GRPO ends with nearly only A",
            paper="A accumulates a larger global gradient signal",
            measured=f"A {each(plain.a[-1])} (each seed)",
            holds=in_all(plain.a[-1] > 0.95),
        ),
        verdict(
            "Without an entropy, the exact gradient of the expected return ends with nearly only A",
            paper="A accumulates a larger global gradient signal",
            measured="(A, B) = " + "; ".join(f"{_pair(exact[name])} by {name}" for name, *_ in RETURNS),
            holds=in_all(torch.stack([exact[name][0] > 0.95 for name, *_ in RETURNS])),
        ),
        verdict(
            "IPS-GRPO keeps A and B at comparable frequencies",
            paper="stable, comparable frequencies for both throughout training",
            measured=f"A {each(ips.a[-1])}; B {each(ips.b[-1])}; in the second half of training the larger "
            f"is at most {uneven:.2f} times the smaller",
            holds=uneven < 2,
        ),
        verdict(
            "Exact inverse scaling ends at equal halves",
            paper="reward-proportional (Corollary 4.2)",
            measured=f"(A, B) = {_pair(exact['IPS'])} by exact gradient ascent",
            holds=bool(((exact["IPS"] - 0.5).abs() < 0.005).all()),
        ),
    ]


def _pair(ends: Tensor) -> str:
    return f"({float(ends[0]):.4f}, {float(ends[1]):.4f})"


def _figure(world: GridWorld, sweep: Sweep, runs: dict[str, Ends]) -> Any:
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9.6, 5.2))
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    shown = ("GRPO", "IPS-GRPO", "GRPO, no entropy")
    panels = top.subplots(1, len(shown), sharey=True)
    for axes, name in zip(panels, shown, strict=True):
        _draw_history(axes, sweep.steps, runs[name])
        axes.set_title(name if name == GRPO_PLAIN.name else f"{name}, entropy weight {WEIGHT:g}")
    panels[0].set_ylabel("probability")
    for paths in (35, 7):
        label = f"{paths} of 42 paths"
        across = panels[1].get_yaxis_transform()
        panels[1].text(0.03, paths / 42 + 0.02, label, transform=across, color=MUTED, fontsize=7.5)
    fields = bottom.subplots(1, 3)
    logits = {name: _first(sweep, method, beta) for name, method, beta in RUNS[:2]}
    start = ("untrained", world.initial_logits(1)[0])
    for axes, (name, field) in zip(fields, (start, *logits.items()), strict=True):
        _draw_field(axes, world, field)
        axes.set_title(f"{name}" + ("" if name == "untrained" else ", seed 0"), loc="center")
    note = "arrows: probability of moving +x and +y   shade: how often a walk passes   numbers: P(A), P(B)"
    bottom.supxlabel(note, fontsize=7.5, color=MUTED)
    return figure


def _first(sweep: Sweep, method: Training, beta: float) -> Tensor:
    rows = sweep.where(lambda setting: setting.training == method and setting.beta == beta)
    return sweep.logits[rows[0]]


def _draw_history(axes: Any, steps: Tensor, run: Ends) -> None:
    for values, colour, label in ((run.a, ORANGE, "A"), (run.b, BLUE, "B")):
        for seed in values.unbind(1):
            axes.plot(steps, seed, color=colour, alpha=0.4, linewidth=0.7)
        axes.plot(steps, values.mean(1), color=colour, linewidth=2)
        other = run.b if label == "A" else run.a
        gap = float(values[-1].mean() - other[-1].mean())
        nudge = 0.05 if abs(gap) < 0.1 else 0.0
        height = float(values[-1].mean()) + (nudge if gap > 0 else -nudge)
        axes.text(1.02 * float(steps[-1]), height, label, color=colour, va="center", fontweight="bold")
    for paths in (35, 7):
        axes.axhline(paths / 42, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
    axes.set(ylim=(0, 1), xlim=(0, float(steps[-1])), xlabel="step")


def _draw_field(axes: Any, world: GridWorld, logits: Tensor) -> None:
    """Arrows of (P(+x), P(+y)) in each cell, shaded by how often a walk passes it."""
    moves = world.action_logprobs(logits.unsqueeze(0))[0].exp().tolist()
    visits: dict[tuple[int, ...], float] = dict.fromkeys((*world.cells, *world.outcomes), 0.0)
    visits[world.cells[0]] = 1.0
    for cell, (right, up) in zip(world.cells, moves, strict=True):
        visits[cell[0] + 1, cell[1]] += visits[cell] * right
        visits[cell[0], cell[1] + 1] += visits[cell] * up
    x, y = torch.tensor(list(visits)).unbind(1)
    axes.scatter(
        x, y, c=list(visits.values()), s=165, cmap="Greys", vmin=0, vmax=1.6, linewidths=0, marker="s"
    )
    for cell, (right, up) in zip(world.cells, moves, strict=True):
        axes.quiver(
            *cell,
            right,
            up,
            angles="xy",
            scale_units="xy",
            scale=1.35,
            color=INK,
            alpha=0.35 + 0.65 * min(1.0, 3 * visits[cell]),
            width=0.007,
            headwidth=4,
        )
    for cell, colour, label in ((A, ORANGE, "A"), (B, BLUE, "B")):
        axes.scatter(*cell, s=165, facecolors="none", edgecolors=colour, linewidths=1.3, marker="s")
        axes.text(
            cell[0] + 0.55, cell[1] + 0.35, f"{label}  {visits[cell]:.2f}", color=colour, fontweight="bold"
        )
    axes.text(-0.1, -0.6, "start", ha="center", va="top", fontsize=7.5, color=MUTED)
    axes.set(xlim=(-0.8, 8.6), ylim=(-1.2, 7.6), xticks=(), yticks=(), aspect="equal")
    axes.spines[:].set_visible(False)
