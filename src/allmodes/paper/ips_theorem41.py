"""IPS, Theorem 4.1: where the flow of inverse probability scaling goes, exactly and with finite groups."""

import itertools
from typing import Any

import torch
from torch import Tensor

from allmodes.objectives import group_advantages, ips_rewards, leave_one_out_advantages
from allmodes.paper.ips_grids import in_all
from allmodes.paper.ips_theorem31 import differences, draw_path, log_log_slope, log_ratio_slopes, power_label
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, verdict
from allmodes.reports.plotting import BLUE, CYCLE, GREEN, MUTED, ORANGE
from allmodes.targets import ips_target, total_variation
from allmodes.targets.flows import Flow, integrate_flow, ips_flow
from allmodes.targets.ips import IpsRegularizer

REWARDS = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2], dtype=torch.float64)
TARGET = ips_target(REWARDS)
COLLAPSED = torch.tensor([0.01, 0.01, 0.01, 0.01, 0.96], dtype=torch.float64).log()
REFERENCE = torch.tensor([0.05, 0.15, 0.3, 0.3, 0.2], dtype=torch.float64).log()
WITH_ZERO = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
REGULARIZERS: tuple[IpsRegularizer, ...] = ("reverse", "forward", "in_reward")
BETAS, GROUPS, STARTS = (0.1, 0.3, 1.0, 3.0), (4, 8, 16, 32, 64), 20
TIMES = torch.logspace(-1, 2, 61, dtype=torch.float64)
LONG = torch.logspace(0, 3.5, 71, dtype=torch.float64)
Ends = dict[tuple[IpsRegularizer, float], Tensor]


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Integrate the flows; nothing is sampled, so the scale has no effect."""
    del scale
    drawn = -torch.rand(STARTS, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log()
    starts = torch.cat([torch.log_softmax(drawn.log(), -1), COLLAPSED.unsqueeze(0)])
    paths = integrate_flow(_flow, starts, times=TIMES, max_step=0.05)
    thirds = torch.zeros_like(WITH_ZERO).log_softmax(0)
    zero = integrate_flow(lambda p: ips_flow(p, WITH_ZERO), thirds, times=LONG, max_step=0.5)
    progress(1)
    kl: Ends = {(kind, beta): _kl_end(kind, beta) for kind in REGULARIZERS for beta in BETAS}
    progress(1)
    groups = {group: _group_end(group) for group in GROUPS}
    progress(1)
    numbers = _measure(paths, zero, kl, groups)
    return Reproduction(
        figure=_figure(paths, zero, kl, groups),
        numbers=numbers,
        verdicts=_verdicts(numbers),
        notes=[
            "Exact flows of the logits (Runge-Kutta), no sampling: the same at every scale. Rewards (1, "
            f"0.8, 0.6, 0.4, 0.2); {STARTS} starts uniform over the simplex, and one with 0.96 on the worst "
            "outcome.",
            "The formula of the paper's potential could not be recovered. −Σ r log p is the one whose "
            "gradient in the logits is minus the flow, as the paper's proof requires.",
            "With groups of G, each distinct outcome of a group contributes its reward once, so the flow "
            "ends at p ∝ r (1 − (1 − p)^G). The group's mean as the baseline turns G into G − 1, a result of "
            "this project: the expected update is exactly that of a group of G − 1 without baseline; "
            "leave-one-out has G/(G − 1) times it. Checked by enumerating all groups with the code that "
            "training uses. A group of 2 with its mean as the baseline has p r, the update of the plain "
            "expected return: the inverse scaling has no effect.",
        ],
    )


def _flow(logprobs: Tensor) -> Tensor:
    return ips_flow(logprobs, REWARDS.expand_as(logprobs))


def _end(flow: Flow, start: Tensor, time: float, max_step: float) -> Tensor:
    return integrate_flow(flow, start, times=torch.tensor([time]).double(), max_step=max_step)[-1]


def _kl_end(kind: IpsRegularizer, beta: float) -> Tensor:
    def flow(logprobs: Tensor) -> Tensor:
        return ips_flow(logprobs, REWARDS, ref_logprobs=REFERENCE, beta=beta, regularizer=kind)

    return _end(flow, REFERENCE, 150, 0.15)


def _group_end(group: int) -> Tensor:
    start = torch.zeros_like(REWARDS).log_softmax(0)
    return _end(lambda p: ips_flow(p, REWARDS, group_size=group), start, 1000, 0.5)


def enumerated_update(logprobs: Tensor, rewards: Tensor, group_size: int, baseline: str) -> Tensor:
    """Expected update of the logits by IPS with a baseline, over all possible groups, (K,)."""
    outcomes = torch.tensor(list(itertools.product(range(len(rewards)), repeat=group_size)))
    chance = logprobs[outcomes].sum(-1).exp()
    flat, ids = outcomes.flatten(), torch.arange(len(outcomes)).repeat_interleave(group_size)
    scaled = ips_rewards(rewards[flat], flat, group_ids=ids).rewards
    if baseline == "mean":
        advantages = group_advantages(scaled, ids, scale="none")
    else:
        advantages = leave_one_out_advantages(scaled, ids)
    weights = advantages.view(outcomes.shape) * chance.unsqueeze(1) / group_size
    total = torch.zeros_like(rewards).index_add(0, flat, weights.flatten())
    return total - logprobs.exp() * weights.sum()


def _baseline_errors() -> dict[str, float]:
    """Largest difference between enumerated updates and those of a group of G − 1 without baseline."""
    rewards, p = REWARDS[::2], torch.log_softmax(WITH_ZERO, 0)
    errors = {"mean": 0.0, "leave_one_out": 0.0}
    for group, kind in itertools.product((2, 3, 4, 6), errors):
        factor = group / (group - 1) if kind == "leave_one_out" else 1.0
        expected = factor * ips_flow(p, rewards, group_size=group - 1)
        error = float((enumerated_update(p, rewards, group, kind) - expected).abs().max())
        errors[kind] = max(errors[kind], error)
    return errors


def _measure(paths: Tensor, zero: Tensor, kl: Ends, groups: dict[int, Tensor]) -> dict[str, Any]:
    equation = differences(REWARDS) - REWARDS.sum() * differences(paths.exp())
    step = 1e-4
    rise = potential(_end(_flow, paths, step, step)) - potential(_end(lambda p: -_flow(p), paths, step, step))
    shifted = ips_target(REWARDS + 1)
    shifted_end = _end(lambda p: ips_flow(p, REWARDS + 1), COLLAPSED, 100, 0.05)
    kl_distances = {
        f"{kind}, β = {beta}": float(
            total_variation(end, ips_target(REWARDS, ref_logprobs=REFERENCE, beta=beta, regularizer=kind))
        )
        for (kind, beta), end in kl.items()
    }
    optima = {group: ips_target(REWARDS, group_size=group) for group in groups}
    return {
        "total_variation": total_variation(paths[-1], TARGET.expand_as(paths[-1])).tolist(),
        "equation_error": float((log_ratio_slopes(_flow, paths) - equation).abs().max()),
        "potential_rise": float(potential(paths).diff(dim=0).max()),
        "potential_error": float((rise / (2 * step) + _flow(paths).square().sum(-1)).abs().max()),
        "zero_exponent": log_log_slope(LONG, zero[:, 2].exp()),
        "shift_total_variation": float(total_variation(shifted, TARGET)),
        "shift_end": float(total_variation(shifted_end, shifted)),
        "kl_total_variation": kl_distances,
        "kl_limits": [
            float(total_variation(ips_target(REWARDS, ref_logprobs=REFERENCE, beta=beta), end))
            for beta, end in ((1e-4, TARGET), (1e4, REFERENCE))
        ],
        "groups": [
            {
                "group_size": group,
                "total_variation": _distance(group),
                "with_the_mean_as_baseline": _distance(group - 1),
                "extinct": int(optima[group].isneginf().sum()),
                "flow_to_optimum": float(total_variation(end, optima[group])),
            }
            for group, end in groups.items()
        ],
        "baseline_errors": _baseline_errors(),
    }


def _distance(group: int) -> float:
    return float(total_variation(ips_target(REWARDS, group_size=group), TARGET))


def potential(logprobs: Tensor) -> Tensor:
    """−Σ r log p, (...)."""
    return -(REWARDS * logprobs).sum(-1)


def _verdicts(m: dict[str, Any]) -> list[Verdict]:
    groups, errors = m["groups"], m["baseline_errors"]
    distances = [row["total_variation"] for row in groups]
    worst = max(m["total_variation"])
    worst_kl = max(m["kl_total_variation"].values())
    return [
        verdict(
            "The flow converges to p = r/Σr from every start",
            paper="Corollary 4.2 and its global convergence",
            measured=f"largest TV {worst:.0e} at t = 100, {STARTS} random starts and one with 0.96 on the "
            "worst",
            holds=worst < 1e-6,
        ),
        verdict(
            "d/dt log(p_i/p_j) = (r_i − r_j) − Σr (p_i − p_j)",
            paper="Theorem 4.1, equation 6",
            measured=f"largest error {m['equation_error']:.0e}, all pairs, starts and times (central "
            "differences)",
            holds=m["equation_error"] < 1e-6,
        ),
        verdict(
            "A potential never increases",
            paper="appendix A.2: a potential whose derivative is minus the squared length of the flow",
            measured=f"−Σ r log p: largest rise {m['potential_rise']:.0e} over all starts; its derivative "
            f"is −‖θ̇‖² to {m['potential_error']:.0e}",
            holds=m["potential_rise"] < 1e-12 and m["potential_error"] < 1e-6,
        ),
        verdict(
            "An outcome of reward 0 vanishes",
            paper="p = 0 there (implied by Corollary 4.2)",
            measured=f"only as t^{m['zero_exponent']:.2f}, not exponentially",
            holds=abs(m["zero_exponent"] + 1) < 0.05,
        ),
        verdict(
            "A constant added to all rewards changes the target",
            paper="(not discussed; it does not under the expected return)",
            measured=f"with r + 1 the target is TV {m['shift_total_variation']:.3f} away, and the flow ends "
            f"there (TV {m['shift_end']:.0e})",
            holds=m["shift_total_variation"] > 0.01 and m["shift_end"] < 1e-6,
        ),
        verdict(
            "With a KL the flow interpolates between r/Σr and the reference",
            paper="section 4.3: interpolation instead of collapse prevention",
            measured=f"the flow ends at the exact target to within TV {worst_kl:.0e} (reverse, forward and "
            f"in-reward KL, β = 0.1 to 3); reverse KL: TV {m['kl_limits'][0]:.0e} to r/Σr at β = 10⁻⁴, "
            f"{m['kl_limits'][1]:.0e} to the reference at β = 10⁴",
            holds=worst_kl < 1e-6 and max(m["kl_limits"]) < 1e-3,
        ),
        verdict(
            "Group frequencies keep p = r/Σr",
            paper="outcome probabilities are estimated by group frequency (section 4.4)",
            measured="exact TV to r/Σr "
            + ", ".join(
                f"{row['total_variation']:.2g} (G = {row['group_size']}"
                + (f", {row['extinct']} extinct)" if row["extinct"] else ")")
                for row in groups
            )
            + f"; flow ends there to within TV {max(row['flow_to_optimum'] for row in groups):.0e} (t = "
            "1000)",
            holds=in_all([distance < 0.01 for distance in distances]),
        ),
        verdict(
            "The group's mean as the baseline costs one sample: G becomes G − 1",
            paper="(not in the paper; GRPO subtracts the mean)",
            measured="enumeration of all groups, K = 3, G = 2, 3, 4, 6: largest difference "
            f"{errors['mean']:.0e}; leave-one-out, times G/(G − 1): {errors['leave_one_out']:.0e}",
            holds=max(errors.values()) < 1e-12,
        ),
    ]


def _figure(paths: Tensor, zero: Tensor, kl: Ends, groups: dict[int, Tensor]) -> Any:
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9.6, 5.2))
    (first, second, third), (fourth, fifth, sixth) = figure.subplots(2, 3)
    names = [f"r = {r:g}" for r in REWARDS.tolist()]
    draw_path(first, TIMES, paths[:, -1].exp(), names, target=TARGET.exp())
    first.set(title="from a collapsed start to r/Σr", ylabel="probability")

    height = potential(paths) - potential(TARGET)
    second.semilogy(TIMES, height.clamp(min=1e-14), color=BLUE, linewidth=0.7, alpha=0.6)
    second.set(title="−Σ r log p above its minimum", xlabel="time", xlim=(0, 60), ylim=(1e-10, 20))

    third.loglog(LONG, zero[:, 2].exp(), color=BLUE)
    third.text(60, 2e-2, power_label(LONG, zero[:, 2].exp()), color=BLUE)
    third.set(title="an outcome of reward 0", xlabel="time", ylabel="probability")

    _draw_kl(fourth, kl)
    _draw_groups(fifth, groups)

    sixth.loglog(GROUPS, [_distance(group) for group in GROUPS], color=BLUE, marker="o", markersize=4)
    sixth.loglog(GROUPS, [_distance(group - 1) for group in GROUPS], color=ORANGE, marker="o", markersize=3)
    sixth.text(9, 0.17, "group mean as baseline", color=ORANGE)
    sixth.text(24, 0.006, "no baseline", color=BLUE, ha="right", va="top")
    sixth.set(title="distance to r/Σr, groups of G", xlabel="group size", ylabel="total variation")
    for axes in (fifth, sixth):
        axes.set(xticks=GROUPS, xticklabels=GROUPS)
        axes.minorticks_off()
    figure.get_layout_engine().set(wspace=0.05)
    return figure


def _draw_kl(axes: Any, kl: Ends) -> None:
    """The best outcome's probability against β: exact (lines), and at the end of the flows (dots)."""
    betas = torch.logspace(-1.5, 1, 60, dtype=torch.float64)
    rewards, reference = REWARDS.expand(60, -1), REFERENCE.expand(60, -1)
    for kind, colour, nudge in zip(REGULARIZERS, (BLUE, GREEN, ORANGE), (-0.006, 0.006, 0.0), strict=True):
        exact = ips_target(rewards, ref_logprobs=reference, beta=betas, regularizer=kind)[:, 0].exp()
        axes.semilogx(betas.numpy(), exact.numpy(), color=colour)
        axes.scatter(BETAS, [float(kl[kind, beta][0].exp()) for beta in BETAS], s=14, color=colour, zorder=3)
        label = kind.replace("in_reward", "in the reward")
        axes.text(
            1.1 * float(betas[-1]), float(exact[-1]) + nudge, label, color=colour, va="center", fontsize=8
        )
    for end in (TARGET, REFERENCE):
        axes.axhline(float(end[0].exp()), color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
    axes.set(
        title="with a KL: P(best outcome)",
        xlabel="β",
        xlim=(float(betas[0]), float(betas[-1])),
        ylim=(0, 0.37),
    )


def _draw_groups(axes: Any, groups: dict[int, Tensor]) -> None:
    """Probabilities at the optimum of each group size (lines), and at the end of the flows (dots)."""
    exact = torch.stack([ips_target(REWARDS, group_size=group) for group in groups]).exp()
    for k, colour in zip(range(len(REWARDS)), CYCLE, strict=False):
        axes.semilogx(GROUPS, exact[:, k].numpy(), color=colour)
        axes.scatter(GROUPS, [float(end[k].exp()) for end in groups.values()], s=14, color=colour, zorder=3)
        axes.text(72, float(exact[-1, k]), f"r = {REWARDS[k]:g}", color=colour, va="center", fontsize=8)
        axes.axhline(float(TARGET[k].exp()), color=colour, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
    axes.set(title="groups of G: probabilities", xlabel="group size", xlim=(3.6, 66), ylim=(-0.02, 0.53))
