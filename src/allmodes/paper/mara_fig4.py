"""MARA, Figure 4: with equal rewards, two good outcomes keep the reference's ratio at every β."""

import math
from collections.abc import Sequence

import torch

from allmodes.paper.didactic import (
    LEFT,
    NO_SHAPES,
    RIGHT,
    STEPS,
    SUPPORT_GAP,
    half_reference,
    mass,
    optimum,
    plateaus,
    policies,
    policy_grid,
    table,
    train_figure,
)
from allmodes.paper.reproduction import Progress, Reproduction, Scale, verdict
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.training import REVERSE_KL, Training


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train with a reverse KL at five β."""
    return equal_rewards(
        scale, progress, methods=(REVERSE_KL,), betas=(0.01, 0.05, 0.1, 0.2, 0.5), steps=STEPS
    )


def equal_rewards(
    scale: Scale, progress: Progress, *, methods: Sequence[Training], betas: Sequence[float], steps: int
) -> Reproduction:
    """Two equally good modes, one of them likelier under the reference."""
    world = Categorical(half_reference(), plateaus(1.0, 1.0))
    sweep = train_figure(world, methods, betas, steps=steps, scale=scale, progress=progress)
    pairs = [(method, beta) for method in methods for beta in betas]
    exact = torch.stack([optimum(world, method, beta) for method, beta in pairs])
    off = (mass(exact, RIGHT) / mass(exact, LEFT) - math.exp(-SUPPORT_GAP)).abs().max()
    trained = torch.stack([policies(sweep, method, beta) for method, beta in pairs])
    ratios = mass(trained, RIGHT) / mass(trained, LEFT)  # (pairs, seeds)
    favoured = ratios >= 1
    where = [
        f"{m.name} β = {b:g}" for (m, b), any_seed in zip(pairs, favoured.any(-1), strict=True) if any_seed
    ]
    lowest = torch.tensor([beta == min(betas) for _, beta in pairs])
    return Reproduction(
        figure=policy_grid(world, sweep, [(method, method.name) for method in methods], betas),
        numbers={"settings": table(world, sweep, methods, betas)},
        verdicts=[
            verdict(
                "At the optimum the ratio of two equally good modes is the reference's, at every β",
                paper="equation 9, independent of β",
                measured=f"right : left = {math.exp(-SUPPORT_GAP):.4f} in all {len(pairs)} optima (largest "
                f"deviation {float(off):.1e})",
                holds=float(off) < 1e-12,
            ),
            verdict(
                "Trained policies never favour the mode that the reference finds unlikely",
                paper="never",
                measured=f"{int(favoured.sum())} of {favoured.numel()} runs do"
                + (f" ({', '.join(where)})" if where else ""),
                holds="yes" if not favoured.any() else ("partly" if favoured.double().mean() < 0.1 else "no"),
            ),
            verdict(
                "Lowering β does not raise the unlikely mode",
                paper="no effect",
                measured=f"trained right : left, mean over seeds, {float(ratios[lowest].mean()):.3f} at the "
                f"lowest β, {float(ratios[~lowest].mean(-1).min()):.3f} to "
                f"{float(ratios[~lowest].mean(-1).max()):.3f} at the others; exact "
                f"{math.exp(-SUPPORT_GAP):.3f}",
                holds=bool((ratios.mean(-1) < 1.5 * math.exp(-SUPPORT_GAP)).all()) or "partly",
            ),
        ],
        notes=[
            NO_SHAPES,
            "Training starts from the uniform policy. At a small β the reference has little influence within "
            "3000 steps, so runs stay closer to their start than the optimum is. This is a property of "
            "training, not of the optimum.",
        ],
    )
