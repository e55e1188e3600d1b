"""MARA, Figure 3: with an equal reference, log-ratios are reward differences over β."""

from collections.abc import Sequence

import torch

from allmodes.paper.didactic import (
    STEPS,
    bumps,
    optimum,
    policies,
    policy_grid,
    spread,
    train_figure,
    uniform_reference,
)
from allmodes.paper.reproduction import Holds, Progress, Reproduction, Scale, Verdict, verdict
from allmodes.targets import effective_modes, log_ratio
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.sweep import Sweep
from allmodes.worlds.training import ENTROPY, REVERSE_KL, Training

BETAS = (0.01, 0.03, 0.1, 0.2, 0.5)
PEAKS = (17, 50, 83)  # of rewards 0.9, 1 and 0.8


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train with a reverse KL and with entropy alone, uniform reference, three reward bumps."""
    methods = (REVERSE_KL, ENTROPY)
    world, sweep = train_bumps(scale, progress, methods=methods, steps=STEPS)
    two = torch.tensor([0.1, 0.0], dtype=torch.float64)
    ratio = float(log_ratio(torch.zeros(2, dtype=torch.float64), two, beta=1e-3)[0, 1].exp())
    return bump_reproduction(
        world,
        sweep,
        methods,
        verdicts=[
            verdict(
                "At β = 1e-3, ΔR = 0.1 makes one of two samples 2.6e43 times likelier",
                paper="2.6e43",
                measured=f"{ratio:.4g} = exp(100) (the paper's figure is cut off, not rounded)",
                holds=2.6e43 <= ratio < 2.7e43,
            ),
            *(_slope(world, sweep, method) for method in methods),
        ],
    )


def train_bumps(
    scale: Scale, progress: Progress, *, methods: Sequence[Training], steps: int
) -> tuple[Categorical, Sweep]:
    """Three bumps of different heights under a uniform reference."""
    world = Categorical(uniform_reference(), bumps(0.9, 1.0, 0.8))
    return world, train_figure(world, methods, BETAS, steps=steps, scale=scale, progress=progress)


def bump_reproduction(
    world: Categorical, sweep: Sweep, methods: Sequence[Training], *, verdicts: Sequence[Verdict] = ()
) -> Reproduction:
    """The figure, the effective numbers of outcomes, and verdicts on collapse, after `verdicts`."""
    covered = {
        method.name: {
            beta: {
                "trained": effective_modes(policies(sweep, method, beta).log()),
                "exact": float(effective_modes(optimum(world, method, beta).log())),
            }
            for beta in BETAS
        }
        for method in methods
    }
    rows = [(method, method.name) for method in methods]
    return Reproduction(
        figure=policy_grid(world, sweep, rows, BETAS),
        numbers={"effective_modes": covered},
        verdicts=[*verdicts, *(_collapse(world, sweep, method) for method in methods)],
        notes=[
            "The paper shows its reward only as a plot. Here: three smooth bumps of heights 0.9, 1 and 0.8 "
            "(standard deviation 4), and a uniform reference."
        ],
    )


def _slope(world: Categorical, sweep: Sweep, method: Training) -> Verdict:
    """Trained log-ratios between the peaks against ΔR/β, at the β where all peaks keep mass."""
    low, best, middle = PEAKS[2], PEAKS[1], PEAKS[0]
    errors, said = [], []
    for beta in (0.1, 0.2, 0.5):
        trained = policies(sweep, method, beta).log()
        for peak in (low, middle):
            predicted = float(world.rewards[best] - world.rewards[peak]) / beta
            measured = trained[:, best] - trained[:, peak]
            errors.append(float((measured.mean() - predicted).abs()))
            if beta == 0.1:
                said.append(f"{spread(measured)} for {predicted:.3g}")
    return verdict(
        f"Trained log-ratios between peaks are ΔR/β ({method.name})",
        paper="equation 8",
        measured=f"at β = 0.1: {', '.join(said)}; largest error of a mean {max(errors):.2g} nats (β ≥ 0.1)",
        holds=max(errors) < 0.15,
    )


def _collapse(world: Categorical, sweep: Sweep, method: Training) -> Verdict:
    peak = PEAKS[1]
    near = slice(peak - 8, peak + 9)
    shares = {beta: policies(sweep, method, beta)[:, near].sum(-1) for beta in (BETAS[0], BETAS[-1])}
    exact = {beta: float(optimum(world, method, beta)[near].sum()) for beta in shares}
    lowest, highest = BETAS[0], BETAS[-1]
    return verdict(
        f"A low β keeps only the highest bump, a high β does not ({method.name})",
        paper="collapse onto the highest reward at low β; better coverage at high β",
        measured=f"share of the highest bump {spread(shares[lowest])} at β = {lowest:g} (exact "
        f"{exact[lowest]:.3f}), {spread(shares[highest])} at β = {highest:g} (exact {exact[highest]:.3f})",
        holds=_holds(shares[lowest], shares[highest], exact[lowest]),
    )


def _holds(at_low: torch.Tensor, at_high: torch.Tensor, exact_at_low: float) -> Holds:
    """Partly: the optimum is collapsed and training moves toward it, but has not reached it."""
    if bool((at_low > 0.95).all() and (at_high < 0.6).all()):
        return "yes"
    return "partly" if exact_at_low > 0.95 and bool(at_low.min() > at_high.max()) else "no"
