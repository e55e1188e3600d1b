"""MARA, Figure 7: how a reward difference becomes a ratio of probabilities, for many β."""

import math
from typing import Any

import torch

from allmodes.paper.reproduction import Progress, Reproduction, Scale, verdict
from allmodes.reports.plotting import INK, MUTED
from allmodes.targets import log_ratio, reverse_kl_target

BETAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Closed form and enumerated optimum of two outcomes with one reference probability."""
    differences = torch.linspace(0, 1, 101, dtype=torch.float64)
    curves, worst = {}, 0.0
    for beta in BETAS:
        rewards = torch.stack([differences, torch.zeros_like(differences)], -1)
        even = torch.full_like(rewards, 0.5).log()
        curves[beta] = log_ratio(even, rewards, beta=beta)[:, 0, 1]
        solved = reverse_kl_target(even, rewards, beta=beta)
        ratio = solved[:, 0] - solved[:, 1]
        worst = max(worst, float((ratio - curves[beta]).abs().max()))
        progress(1)
    quoted = float(
        log_ratio(torch.zeros(2, dtype=torch.float64), differences[[10, 0]], beta=1e-3)[0, 1].exp()
    )
    return Reproduction(
        figure=_draw(differences, curves),
        numbers={"log_ratio": {f"{beta:g}": curve[::10] for beta, curve in curves.items()}},
        verdicts=[
            verdict(
                "A linear difference in reward is an exponential difference in probability",
                paper="exp(ΔR/β), equation 8",
                measured=f"closed form and enumerated optimum agree to {worst:.1e} nats for ΔR from 0 to 1, "
                "7 β",
                holds=worst < 1e-9,
            ),
            verdict(
                "ΔR = 0.1 at β = 1e-3",
                paper="2.6e43 times",
                measured=f"{quoted:.4g} times (exp 100; the paper's figure is cut off, not rounded)",
                holds=2.6e43 <= quoted < 2.7e43,
            ),
        ],
    )


def _draw(differences: torch.Tensor, curves: dict[float, torch.Tensor]) -> Any:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2))
    axes = figure.subplots()
    colours = mpl.colormaps["viridis"](torch.linspace(0.05, 0.85, len(BETAS)).numpy())
    top, free = 60.0, 60.0
    for (beta, curve), colour in zip(curves.items(), colours, strict=True):
        powers = curve / math.log(10)
        axes.plot(differences, powers, color=colour)
        end = float(differences[powers <= top][-1])
        if end < 1:
            axes.text(end, top + 1, f"{beta:g}", color=colour, ha="center", va="bottom")
        else:  # at the right edge, pushed down where two labels would overlap
            free = min(float(powers[-1]), free - 2.8)
            axes.text(1.02, free, f"{beta:g}", color=colour, va="center")
    axes.axvline(0.1, color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)))
    for place in ((0.1, 43.43), (0.5, 52)):
        axes.plot(*place, "o", color=INK, markersize=3.5)
    axes.text(0.53, 52, "ΔR = 0.1, β = 0.001: 2.7 · 10⁴³", va="center", fontsize=8)
    axes.text(1.02, top + 1, "β", va="bottom")
    axes.set(
        xlim=(0, 1), ylim=(-1, top), xlabel="reward difference ΔR", ylabel="probability ratio, powers of ten"
    )
    return figure
