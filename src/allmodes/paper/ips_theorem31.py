"""IPS, Theorem 3.1: where the gradient flow of the expected return goes, and how fast."""

import math
from typing import Any

import torch
from torch import Tensor

from allmodes.paper.ips_grids import in_all
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, verdict
from allmodes.reports.plotting import BLUE, CYCLE, ORANGE
from allmodes.targets import reverse_kl_target, total_variation
from allmodes.targets.flows import Flow, expected_return_flow, integrate_flow, natural_gradient_flow

REWARDS = torch.tensor([1.0, 0.9, 0.8, 0.5], dtype=torch.float64)
START = torch.tensor([0.22, 0.28, 0.26, 0.24], dtype=torch.float64).log()
UNIFORM = torch.full_like(START, -math.log(4))
TIED = torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64)
TIED_START = torch.tensor([0.40, 0.32, 0.28], dtype=torch.float64).log()
BETAS, BASELINES, STARTS = (0.1, 0.3), (1.0, -10.0), 50
LINEAR = torch.linspace(0.1, 100, 120, dtype=torch.float64)
DECADES = torch.logspace(0, 10, 101, dtype=torch.float64)
FIRST = DECADES[:31]  # to 1000


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Integrate the flows; nothing is sampled, so the scale has no effect."""
    del scale
    paths = {
        "long": follow(_plain, START, DECADES),
        "tied": follow(lambda p: expected_return_flow(p, TIED), TIED_START, DECADES),
        "plain": integrate_flow(_plain, START, times=LINEAR, max_step=0.2),
        "natural": integrate_flow(
            lambda p: natural_gradient_flow(p, REWARDS), START, times=LINEAR, max_step=0.2
        ),
    }
    kl = {beta: integrate_flow(_with_kl(beta), START, times=DECADES[:41], max_step=2) for beta in BETAS}
    progress(1)
    numbers = _measure(paths, kl)
    progress(1)
    return Reproduction(
        figure=_figure(paths, kl),
        numbers=numbers,
        verdicts=_verdicts(numbers),
        notes=[
            "Exact flows of the logits (Runge-Kutta), no sampling: the same at every scale. Rewards "
            "(1, 0.9, 0.8, 0.5) from (0.22, 0.28, 0.26, 0.24), where the second best is ahead; ties: rewards "
            "(1, 1, 0.5) from (0.40, 0.32, 0.28).",
            "The theorem's equation is right. 'Linear in the reward difference' (abstract) and 'linearly "
            "over time' (section 3.1) hold for the natural gradient, not for the plain gradient that the "
            "theorem is about.",
        ],
    )


def _plain(logprobs: Tensor) -> Tensor:
    return expected_return_flow(logprobs, REWARDS.expand_as(logprobs))


def _with_kl(beta: float) -> Flow:
    def flow(logprobs: Tensor) -> Tensor:
        rewards, reference = REWARDS.expand_as(logprobs), UNIFORM.expand_as(logprobs)
        return expected_return_flow(logprobs, rewards, ref_logprobs=reference, beta=beta)

    return flow


def follow(flow: Flow, start: Tensor, times: Tensor) -> Tensor:
    """Log-probabilities at given times, (T, ..., K), of a flow that slows down: its steps grow with time."""
    now, path = 0.0, []
    for time in times.tolist():
        span = torch.tensor([time - now], dtype=torch.float64)
        start = integrate_flow(flow, start, times=span, max_step=max(0.05, 0.02 * time))[-1]
        path.append(start)
        now = time
    return torch.stack(path)


def log_ratio_slopes(flow: Flow, logprobs: Tensor) -> Tensor:
    """d/dt log(p_i/p_j) by central differences along a flow, (..., K, K)."""
    step = 1e-4
    span = torch.tensor([step], dtype=torch.float64)
    after = integrate_flow(flow, logprobs, times=span, max_step=step)[-1]
    before = integrate_flow(lambda p: -flow(p), logprobs, times=span, max_step=step)[-1]
    return differences(after - before) / (2 * step)


def differences(values: Tensor) -> Tensor:
    """v_i − v_j, (..., K, K)."""
    return values.unsqueeze(-1) - values.unsqueeze(-2)


def log_log_slope(times: Tensor, values: Tensor) -> float:
    """Slope of log values against log times over the last two decades, least squares."""
    late = times >= times[-1] / 101
    x, y = times[late].log(), values[late].log()
    x = x - x.mean()
    return float((x * y).sum() / x.square().sum())


def _equation_error(flow: Flow, path: Tensor) -> float:
    """Largest |d/dt log(p_i/p_j) − (p_i A_i − p_j A_j)| along a path."""
    p = path.exp()
    signals = p * (REWARDS - (p * REWARDS).sum(-1, keepdim=True))
    return float((log_ratio_slopes(flow, path) - differences(signals)).abs().max())


def _slope_range(path: Tensor) -> list[float]:
    slopes = (path[:, 0] - path[:, 1]).diff() / LINEAR.diff()
    return [float(slopes.min()), float(slopes.max())]


def _measure(paths: dict[str, Tensor], kl: dict[float, Tensor]) -> dict[str, Any]:
    drawn = -torch.rand(STARTS, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log()
    random = torch.log_softmax(drawn.log(), -1)  # uniform over the simplex
    winner = follow(_plain, random, DECADES)[-1].exp()[:, 0]
    moved = integrate_flow(
        lambda p: expected_return_flow(p, torch.ones_like(p)), START, times=LINEAR, max_step=0.2
    )
    shifted = [
        integrate_flow(
            lambda p, b=b: expected_return_flow(p, REWARDS, baseline=b), START, times=LINEAR, max_step=0.02
        ).exp()
        for b in (0.0, *BASELINES)
    ]
    linear = LINEAR[:, None, None] * differences(REWARDS)
    ratio = (paths["long"][:, 0] - paths["long"][:, 1]).exp()
    optima = {beta: reverse_kl_target(UNIFORM, REWARDS, beta=beta) for beta in BETAS}
    return {
        "equation_error": _equation_error(_plain, paths["plain"]),
        "equation_error_with_kl": {beta: _equation_error(_with_kl(beta), kl[beta]) for beta in BETAS},
        "plain_slopes": _slope_range(paths["plain"]),
        "natural_slopes": _slope_range(paths["natural"]),
        "natural_error": float((differences(paths["natural"] - START) - linear).abs().max()),
        "ratio_exponent": log_log_slope(DECADES, ratio),
        "kl_total_variation": {beta: float(total_variation(kl[beta][-1], optima[beta])) for beta in BETAS},
        "kl_best": {beta: float(kl[beta][-1].exp().max()) for beta in BETAS},
        "ahead_at_the_start": [int((random.argmax(-1) == k).sum()) for k in range(4)],
        "least_mass_of_the_best": float(winner.min()),
        "equal_rewards_move": float((moved - START).abs().max()),
        "tied_exponents": [log_log_slope(DECADES, paths["tied"][:, k].exp()) for k in (1, 2)],
        "tied_end": paths["tied"][-1].exp(),
        "baseline_difference": float(max((path - shifted[0]).abs().max() for path in shifted[1:])),
    }


def _verdicts(m: dict[str, Any]) -> list[Verdict]:
    (low, high), natural = m["plain_slopes"], m["natural_slopes"]
    least, move, tied = m["least_mass_of_the_best"], m["equal_rewards_move"], m["tied_exponents"]
    off = max(m["equation_error_with_kl"].values())
    kl = ", ".join(
        f"TV {m['kl_total_variation'][b]:.0e}, best at {m['kl_best'][b]:.3f} (β = {b})" for b in BETAS
    )
    return [
        verdict(
            "d/dt log(p_i/p_j) = p_i A_i − p_j A_j",
            paper="Theorem 3.1, equation 2",
            measured=f"largest error {m['equation_error']:.0e}, all pairs, 120 times (central differences)",
            holds=m["equation_error"] < 1e-6,
        ),
        verdict(
            "The log-ratio evolves linearly in the reward difference, and linearly over time",
            paper="linearly in the reward difference (abstract); increases linearly over time (section 3.1)",
            measured=f"slope of log(p₁/p₂) from {low:.4f} to {high:.4f} for the plain gradient, "
            f"{natural[0]:.4f} to {natural[1]:.4f} for the natural one, whose log-ratios grow by t (r_i − "
            f"r_j) to {m['natural_error']:.0e}",
            holds=high - low < 1e-3,
        ),
        verdict(
            "Ratios of probabilities diverge exponentially",
            paper="exponential ratio divergence",
            measured=f"p₁/p₂ grows as t^{m['ratio_exponent']:.2f} (fit, t = 10⁸ to 10¹⁰): a power law",
            holds=m["ratio_exponent"] > 10,
        ),
        verdict(
            "With unequal rewards the policy collapses onto one outcome",
            paper="inevitable collapse",
            measured=f"from {STARTS} random starts at most {1 - least:.0e} of the mass is off the best "
            "outcome at t = 10¹⁰",
            holds=least > 0.99,
        ),
        verdict(
            "The initial probabilities determine which outcome wins",
            paper="which outcome wins is determined by the initial values",
            measured=f"ahead at the start: outcomes 1 to 4 in {m['ahead_at_the_start']} of {STARTS} starts; "
            "the best wins all" + ("" if least > 0.5 else " but some"),
            holds=least < 0.5,
        ),
        verdict(
            "Equation 2 and the collapse hold with a KL",
            paper="independently of exploration, entropy bonuses, or KL regularization",
            measured=f"equation 2 has an error of {off:.2f}; the flow ends in the reverse-KL target: {kl}",
            holds=off < 1e-6 and min(m["kl_best"].values()) > 0.99,
        ),
        verdict(
            "Collapse even when rewards are equal",
            paper="the argument does not depend on rewards being unequal",
            measured=f"all equal: log-probabilities move by {move:.0e}; two tied winners and a worse "
            f"outcome: the second winner falls as t^{tied[0]:.2f}, the worse one as t^{tied[1]:.2f}",
            holds=in_all([move > 0.01, tied[0] < -0.1]),
        ),
        verdict(
            "A baseline drops out of the exact flow",
            paper="(advantages stand instead of rewards, equation A.1)",
            measured=f"probabilities differ by at most {m['baseline_difference']:.0e} for baselines 1 and "
            "−10",
            holds=m["baseline_difference"] < 1e-9,
        ),
    ]


def _figure(paths: dict[str, Tensor], kl: dict[float, Tensor]) -> Any:
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9.6, 5.2))
    (first, slopes, powers), (*regularised, tied) = figure.subplots(2, 3)
    names = [f"r = {r:g}" for r in REWARDS.tolist()]
    draw_path(first, FIRST, paths["long"][: len(FIRST)].exp(), names)
    first.set(title="expected return: the best wins", ylabel="probability")
    for axes, (beta, path) in zip(regularised, kl.items(), strict=True):
        target = reverse_kl_target(UNIFORM, REWARDS, beta=beta).exp()
        draw_path(axes, FIRST, path[: len(FIRST)].exp(), names, target=target)
        axes.set(title=f"with a KL, β = {beta:g}: no collapse", ylabel="probability")

    for name, colour, height in (("plain", BLUE, 0.037), ("natural", ORANGE, 0.103)):
        slopes.plot(LINEAR[1:], (paths[name][:, 0] - paths[name][:, 1]).diff() / LINEAR.diff(), color=colour)
        slopes.text(99, height, f"{name} gradient", color=colour, ha="right")
    slopes.set(title="slope of log (p₁/p₂)", xlabel="time", xlim=(0, 100), ylim=(0, 0.118))

    ratio = (paths["long"][:, 0] - paths["long"][:, 1]).exp()
    powers.loglog(DECADES, ratio, color=BLUE)
    powers.text(1e7, 1e5, power_label(DECADES, ratio), color=BLUE)
    powers.set(title="p₁/p₂: a power of time", xlabel="time")

    labels = (("winner ahead", 1e10, 4.0), ("tied", 1e10, 8e-6), ("r = 0.5", 2e4, 1e-7))
    for k, (label, x, y) in enumerate(labels):
        values = paths["tied"][:, k].exp()
        tied.loglog(DECADES, values, color=CYCLE[k])
        tied.text(x, y, label + (f" {power_label(DECADES, values)}" if k else ""), color=CYCLE[k], ha="right")
    tied.set(title="two tied winners, one worse", xlabel="time", ylim=(1e-11, 100))
    return figure


def power_label(times: Tensor, values: Tensor) -> str:
    """The final power of time of some values, as a matplotlib label."""
    return f"$\\propto t^{{{log_log_slope(times, values):.2f}}}$"


def draw_path(
    axes: Any, times: Tensor, probabilities: Tensor, labels: list[str], *, target: Tensor | None = None
) -> None:
    """Plot probabilities against the logarithm of time, with labels and the target as dashed lines."""
    ends = probabilities[-1].tolist()
    lowest = -math.inf
    for k in sorted(range(len(ends)), key=lambda k: ends[k]):
        axes.plot(times, probabilities[:, k], color=CYCLE[k])
        lowest = max(ends[k], lowest + 0.065)  # labels do not overlap
        axes.text(1.12 * float(times[-1]), lowest, labels[k], color=CYCLE[k], va="center", fontsize=8)
        if target is not None:
            axes.axhline(float(target[k]), color=CYCLE[k], linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    axes.set(xscale="log", xlabel="time", xlim=(float(times[0]), float(times[-1])), ylim=(-0.02, 1.02))
