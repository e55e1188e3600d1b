"""IPS, Table 4: group size and clipping of the probabilities, with a categorical policy and its exact flow.

It complements `ips_table4`, which trains a language model: the exact results show which differences are
noise.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from allmodes.methods import IPS, Plain
from allmodes.metrics import summarise
from allmodes.paper.didactic import policies
from allmodes.paper.ips_grids import in_all, mean_sd
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, verdict
from allmodes.reports.plotting import INK
from allmodes.targets import ips_target, total_variation
from allmodes.targets.flows import integrate_flow, ips_flow
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.sweep import Setting, replicas, train
from allmodes.worlds.training import Training

HYPOTHESES, ADMISSIBLE, DRAWS = 543, 16, 64
GROUPS, CLIPS = (4, 8, 16, 32, 64), (0.0, 0.05, 0.1, 0.2, 0.5)
BATCH_SIZE, STEPS, LEARNING_RATE, BETA = 64, 1000, 0.02, 0.01
SPREAD, START_SEED = 1.5, 0
FLOW_TIME = 100.0
Cell = tuple[int, float | None]  # group size and p_min; None is GRPO
UNEVEN = (1.0, 0.8, 0.6, 0.4, 0.2)


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train every group size with every clipping, and without inverse scaling, in one batch."""
    world = stand_in()
    cells = {cell: _method(cell) for cell in itertools.product(GROUPS, (*CLIPS, None))}
    sweep = train(
        world,
        [s for method in cells.values() for s in replicas(Setting(training=method, beta=BETA), scale.seeds)],
        steps=scale.own_steps(STEPS),
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        seed=0,
        record=20,
        progress=progress,
    )
    trained = {key: recovery(policies(sweep, method, BETA)) for key, method in cells.items()}
    flow = flow_recovery(world)
    adam = {group: adam_recovery(world, group, scale.own_steps(STEPS)) for group in GROUPS}
    start = float(recovery(world.ref_outcome_logprobs.exp()))
    distances = group_distances()
    return Reproduction(
        figure=_figure(trained, flow, distances),
        numbers={
            "start": start,
            "trained": {_name(cell): values for cell, values in trained.items()},
            "flow": {_name(cell): value for cell, value in flow.items()},
            "adam_on_the_exact_update": adam,
            "total_variation_of_uneven_rewards": distances,
        },
        verdicts=_verdicts(trained, flow),
        notes=[
            "A stand-in: the paper fine-tunes a language model of 4B parameters on HypoSpace's causal "
            f"graphs. Here a categorical policy over the {HYPOTHESES} directed acyclic graphs of 4 nodes, "
            f"{ADMISSIBLE} of them admissible (the largest instance) with reward 1, the others 0. Its start, "
            f"which is the reference, is uneven: logits N(0, {SPREAD}²), seed {START_SEED}. Recovery rate: "
            f"expected share of the admissible among {DRAWS} parallel samples of the final policy, mean of 1 "
            f"− (1 − p)^{DRAWS}; {start:.3f} at the start.",
            f"{BATCH_SIZE} samples per step for every group size (so {BATCH_SIZE} / G groups), {STEPS} steps "
            f"of Adam with rate {LEARNING_RATE}, advantages divided by the group's standard deviation, k3 in "
            f"the loss with β = {BETA}; GRPO is the same without inverse scaling. The paper gives the group "
            "sizes; its values of p_min could not be recovered, and it does not give the other settings.",
            "p_min ≤ 1/G changes nothing, because no frequency is below 1/G: such cells differ by noise "
            "alone.",
            "Exact flow: the expected update without noise, baseline and standard deviation, from the same "
            f"start, with the same KL, at time {FLOW_TIME:g}. It keeps one to four outcomes and would find "
            "the rest only after very long times. Adam raises rare outcomes: along the exact expected update "
            "with p_min = 0 it recovers "
            + ", ".join(f"{value:.2f} (G = {group})" for group, value in adam.items())
            + " in as many steps.",
        ],
    )


def stand_in() -> Categorical:
    """The categorical stand-in for the language model's hypotheses; the first 16 are admissible."""
    generator = torch.Generator().manual_seed(START_SEED)
    logits = SPREAD * torch.randn(HYPOTHESES, generator=generator, dtype=torch.float64)
    rewards = torch.zeros(HYPOTHESES, dtype=torch.float64)
    rewards[:ADMISSIBLE] = 1
    start = torch.log_softmax(logits, 0)
    return Categorical(start, rewards, start=start)


def recovery(probabilities: Tensor) -> Tensor:
    """Expected share of the admissible outcomes among parallel draws, (...)."""
    return (1 - (1 - probabilities[..., :ADMISSIBLE]) ** DRAWS).mean(-1)


def _name(cell: Cell) -> str:
    group, clip = cell
    return f"groups of {group}, " + ("GRPO" if clip is None else f"p_min {clip:g}")


def _method(cell: Cell) -> Training:
    group, clip = cell
    method = Plain() if clip is None else IPS(min_probability=clip)
    return Training(name=_name(cell), kl="forward", method=method, advantages="group_std", group_size=group)


def _update(world: Categorical, logprobs: Tensor, group: int, clip: float) -> Tensor:
    return ips_flow(
        logprobs,
        world.rewards,
        ref_logprobs=world.ref_outcome_logprobs,
        beta=BETA,
        regularizer="forward",
        group_size=group,
        min_probability=clip,
    )


def flow_recovery(world: Categorical) -> dict[Cell, float]:
    """Recovery of the flow of the expected update; p_min = 1 is no inverse scaling at all."""
    found: dict[Cell, float] = {}
    for group, clip in itertools.product(GROUPS, (*CLIPS, None)):
        used = 1.0 if clip is None else clip
        if 0 < used <= 1 / group:  # no frequency is lower
            found[group, clip] = found[group, 0.0]
            continue
        path = integrate_flow(
            lambda logprobs, group=group, used=used: _update(world, logprobs, group, used),
            world.ref_outcome_logprobs,
            times=torch.tensor([FLOW_TIME], dtype=torch.float64),
            max_step=0.5,
        )
        found[group, clip] = float(recovery(path[-1].exp()))
    return found


def adam_recovery(world: Categorical, group: int, steps: int) -> float:
    """Recovery after Adam's steps along the exact expected update without clipping."""
    logits = world.ref_outcome_logprobs.clone().requires_grad_()
    adam = torch.optim.Adam([logits], lr=LEARNING_RATE, maximize=True)
    for _ in range(steps):
        logits.grad = _update(world, torch.log_softmax(logits.detach(), -1), group, 0.0)
        adam.step()
    return float(recovery(torch.softmax(logits.detach(), -1)))


def group_distances() -> list[tuple[int, float, int]]:
    """Group size, exact total variation of its optimum to r/Σr, and outcomes extinct there."""
    rewards = torch.tensor(UNEVEN, dtype=torch.float64)
    optima = [(group, ips_target(rewards, group_size=group)) for group in GROUPS]
    return [(g, float(total_variation(p, ips_target(rewards))), int(p.isneginf().sum())) for g, p in optima]


def _verdicts(trained: dict[Cell, Tensor], flow: dict[Cell, float]) -> list[Verdict]:
    mean = {key: float(values.mean()) for key, values in trained.items()}
    spread = {key: summarise(values.tolist()).std for key, values in trained.items()}
    plain = [mean[group, 0.0] for group in GROUPS]
    lost = [mean[group, 0.0] - mean[group, 0.5] for group in GROUPS]
    best = max((key for key in mean if key[1] is not None), key=lambda key: mean[key])
    best_flow = max((key for key in flow if key[1] is not None), key=lambda key: flow[key])
    is_moderate, is_mild = best[0] in (8, 16, 32), best[1] in (0.05, 0.1)
    rising = [b > a for a, b in itertools.pairwise(plain)]
    steadier = [spread[group, clip] < spread[group, 0.0] for group in (32, 64) for clip in (0.05, 0.1)]

    def by_group(clip: float | None) -> str:
        return ", ".join(f"{mean_sd(trained[group, clip])} (G = {group})" for group in GROUPS)

    return [
        verdict(
            "Larger groups improve recovery (no clipping)",
            paper="larger groups improve estimation accuracy",
            measured=by_group(0.0),
            holds=in_all(rising),
        ),
        verdict(
            "Clipping stabilises large groups",
            paper="probability clipping stabilizes training: less variance where probabilities are small",
            measured="sd over the seeds "
            + "; ".join(
                f"G = {group}: "
                + ", ".join(f"{spread[group, clip]:.3f} (p_min {clip:g})" for clip in CLIPS[:3])
                for group in (32, 64)
            ),
            holds=in_all(steadier),
        ),
        verdict(
            "Aggressive clipping limits recovery",
            paper="aggressive clipping weakens the intended correction",
            measured=f"p_min = 0.5: {by_group(0.5)}",
            holds=in_all([loss > 0 for loss in lost]),
        ),
        verdict(
            "Aggressive clipping costs most where groups are small",
            paper="can limit performance when group sizes are small",
            measured="recovery lost from p_min = 0 to 0.5: "
            + ", ".join(f"{loss:.2f} (G = {group})" for loss, group in zip(lost, GROUPS, strict=True)),
            holds=lost[0] == max(lost),
        ),
        verdict(
            "Moderate groups with mild clipping are best",
            paper="moderate group sizes combined with mild clipping provide the best balance",
            measured=f"best: G = {best[0]}, p_min = {best[1]:g}, {mean_sd(trained[best])}; of the exact "
            f"flow: G = {best_flow[0]}, p_min = {best_flow[1]:g}, {flow[best_flow]:.2f}",
            holds=in_all([is_moderate, is_mild]),
        ),
        verdict(
            "IPS-GRPO recovers more than GRPO",
            paper="substantially higher recovery (Table 2)",
            measured=f"GRPO: {by_group(None)}; worst cell of IPS-GRPO "
            f"{min(value for key, value in mean.items() if key[1] is not None):.2f}",
            holds=in_all([mean[group, clip] > mean[group, None] for group in GROUPS for clip in CLIPS]),
        ),
    ]


def _figure(
    trained: dict[Cell, Tensor],
    flow: dict[Cell, float],
    distances: Sequence[tuple[int, float, int]],
) -> Any:
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9.6, 3.3))
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.15, 1.15, 1))
    draw_cells(left, {key: float(values.mean()) for key, values in trained.items()}, GROUPS, CLIPS)
    left.set_title("recovery, trained (mean of the seeds)")
    draw_cells(middle, flow, GROUPS, CLIPS)
    middle.set_title(f"recovery, exact flow at time {FLOW_TIME:g}")
    _draw_distances(right, distances)
    return figure


def draw_cells(
    axes: Any, values: Mapping[Cell, float], groups: Sequence[int], clips: Sequence[float]
) -> None:
    """A heat map of shares, by group size and p_min, GRPO last."""
    columns = (*clips, None)
    table = torch.tensor([[values[group, clip] for clip in columns] for group in groups])
    axes.imshow(table.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
    for y, row in enumerate(table.tolist()):
        for x, value in enumerate(row):
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else INK)
    axes.axvline(len(clips) - 0.5, color="white", linewidth=4)
    axes.set(
        xticks=range(len(columns)),
        xticklabels=[f"{clip:g}" for clip in clips] + ["GRPO"],
        yticks=range(len(groups)),
        yticklabels=groups,
        xlabel="p_min",
        ylabel="group size",
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_distances(axes: Any, distances: Sequence[tuple[int, float, int]]) -> None:
    axes.plot(GROUPS, [distance for _, distance, _ in distances], color=IPS.color, marker="o", markersize=4)
    for group, distance, extinct in distances:
        text = f"{distance:.2g}" + (f", {extinct} extinct" if extinct else "")
        axes.annotate(text, (group, distance), (5, 3), textcoords="offset points", fontsize=8)
    collapsed = 1 - max(UNEVEN) / sum(UNEVEN)
    axes.axhline(collapsed, color=Plain.color, linewidth=1)
    axes.text(
        GROUPS[0], collapsed * 1.1, f"the best outcome alone, {collapsed:.3f}", color=Plain.color, fontsize=8
    )
    axes.set(xscale="log", yscale="log", xticks=GROUPS, xticklabels=GROUPS)
    axes.set(xlim=(3.3, 220), ylim=(4e-4, 1.5), xlabel="group size", ylabel="total variation, exact")
    axes.minorticks_off()
    axes.set_title("distance to r/Σr, r = 1, 0.8, 0.6, 0.4, 0.2")
