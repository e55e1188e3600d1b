"""MARA's workshop version, Figure 6: plain, MARA, and the augmentation that is flat under a forward KL."""

from dataclasses import replace

import torch
from torch import Tensor

from allmodes.paper.didactic import (
    LEFT,
    LEGEND,
    NO_SHAPES,
    RIGHT,
    WORKSHOP_STEPS,
    colors_of,
    draw_policies,
    half_reference,
    mass,
    optimum,
    plateaus,
    policies,
    table,
    train_figure,
)
from allmodes.paper.mara_fig5 import MARA_FORWARD, METHODS, ROWS, THRESHOLD, mara_verdicts
from allmodes.paper.reproduction import Progress, Reproduction, Scale, verdict
from allmodes.reports.plotting import MUTED
from allmodes.targets import forward_kl_mara_rewards
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.training import FORWARD_KL

BETAS = (0.05, 0.1, 0.2, 0.5, 1.0)
CORRECTED = replace(MARA_FORWARD, name="forward KL, corrected")  # only drawn: its world has other rewards


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train the four methods of Figure 5 for 1000 steps, and the corrected forward-KL augmentation."""
    world = Categorical(half_reference(), plateaus(1.0, 1.0))
    sweep = train_figure(world, METHODS, BETAS, steps=WORKSHOP_STEPS, scale=scale, progress=progress)
    corrected: dict[float, tuple[Tensor, Tensor]] = {}
    for beta in BETAS:
        rewards = forward_kl_mara_rewards(
            world.ref_outcome_logprobs, world.rewards, beta=beta, threshold=THRESHOLD
        )
        raised = Categorical(world.ref_outcome_logprobs, rewards)
        alone = train_figure(
            raised, (FORWARD_KL,), (beta,), steps=WORKSHOP_STEPS, scale=scale, progress=progress
        )
        corrected[beta] = (policies(alone, FORWARD_KL, beta), optimum(raised, FORWARD_KL, beta))
    ratios = torch.stack([mass(trained, RIGHT) / mass(trained, LEFT) for trained, _ in corrected.values()])
    exact = torch.stack([mass(best, RIGHT) / mass(best, LEFT) for _, best in corrected.values()])

    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 * len(BETAS) + 0.8, 7.2))
    panels = figure.subplots(5, len(BETAS), sharex=True)
    colours = colors_of((*METHODS, CORRECTED))
    for row, (method, label) in zip(panels, ROWS, strict=False):
        for axes, beta in zip(row, BETAS, strict=True):
            draw_policies(
                axes,
                policies(sweep, method, beta),
                optimum(world, method, beta),
                world,
                colour=colours[method.name],
            )
        row[0].set_ylabel(label)
    for axes, (trained, best) in zip(panels[4], corrected.values(), strict=True):
        draw_policies(axes, trained, best, world, colour=colours[CORRECTED.name])
    panels[4][0].set_ylabel(CORRECTED.name.replace(", ", "\n"))
    for axes, beta in zip(panels[0], BETAS, strict=True):
        axes.set_title(f"β = {beta:g}")
    figure.supxlabel(LEGEND, fontsize=7.5, color=MUTED)
    return Reproduction(
        figure=figure,
        numbers={
            "settings": table(world, sweep, METHODS, BETAS),
            "corrected_right_to_left": {
                beta: {"trained": trained, "exact": best}
                for beta, trained, best in zip(BETAS, ratios, exact, strict=True)
            },
        },
        verdicts=[
            *mara_verdicts(world, sweep, BETAS),
            verdict(
                "The corrected augmentation is flat under a forward KL (ours, not the paper's)",
                paper="(not there)",
                measured=f"right : left, trained {float(ratios.min()):.3f} to {float(ratios.max()):.3f} "
                f"over all β and seeds, exact off 1 by at most {float((exact - 1).abs().max()):.1e}",
                holds=(
                    bool(((exact - 1).abs() < 1e-9).all()) and bool(((ratios.mean(-1) - 1).abs() < 0.1).all())
                )
                or "partly",
            ),
        ],
        notes=[
            NO_SHAPES,
            "The paper notes 'some unexpected behaviour at higher β' of MARA under a forward KL: it is the "
            "optimum itself, not the training.",
        ],
    )
