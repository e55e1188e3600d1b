"""Optima of regularised objectives, in closed form or to the last digit.

Log-probabilities in, log-probabilities out, outcomes along the last dimension: shape (..., K). β may be a
number or a tensor of the leading shape (...). Outside the reference's support log-probabilities are −inf.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from allmodes.checks import check_finite, check_log_distribution, check_same_shape
from allmodes.errors import InputError

_MOST_STEPS = 200  # Newton's method needs about 5; its iterates rise until they no longer can


@final
@dataclass(frozen=True, kw_only=True)
class ForwardKLTarget:
    """Optimum of E[R] − β KL(π_ref ‖ π).

    logprobs: (..., K). multiplier: Λ, (...). off_support_mass: (...), the mass outside the reference's
    support; it is spread evenly over the best outcomes there, for the objective does not care how.
    """

    logprobs: Tensor
    multiplier: Tensor
    off_support_mass: Tensor


def reverse_kl_target(
    ref_logprobs: Tensor, rewards: Tensor, *, beta: float | Tensor, entropy: float | Tensor = 0.0
) -> Tensor:
    """Optimum of E[R] − β KL(π ‖ π_ref) + η H(π).

    log G = (β log π_ref + R) / (β + η) − log Z

    ref_logprobs, rewards: (..., K), nats. Returns log G, (..., K), differentiable in the rewards. β = 0 with
    η > 0 is entropy regularisation alone, and then the reference has no say, its support included.

    Raises InputError for shapes that disagree, rewards that are not finite, a reference that does not sum to
    1, β < 0, η < 0 or β + η = 0. Source: MARA, Remark 3.1.
    """
    _check(ref_logprobs, rewards)
    kl, bonus = _column("beta", beta, rewards), _column("entropy", entropy, rewards)
    if bool((kl + bonus <= 0).any()):
        raise InputError("`beta` + `entropy` must be above 0: without them the optimum is not unique")
    pull = torch.where(kl > 0, kl * ref_logprobs, 0)  # 0 · −inf is 0 here, not NaN
    return torch.log_softmax((pull + _from_best(rewards)) / (kl + bonus), -1)


def mara_target(
    ref_logprobs: Tensor, rewards: Tensor, *, beta: float | Tensor, threshold: float | Tensor
) -> Tensor:
    """Optimum of reverse-KL-regularised RL with MARA's rewards.

    G ∝ π_ref(z) exp(R(z)/β) where R ≥ τ,  π_ref exp(R/β) elsewhere,  z = argmax_{R ≥ τ} π_ref

    ref_logprobs, rewards: (..., K), nats. threshold: a number or a tensor of the leading shape. Ties for z go
    to the highest reward. Good outcomes outside the reference's support stay at 0, for no sample shows them.
    A row without a good outcome in its support is plain reverse KL. Returns log G, (..., K).

    Raises InputError as `reverse_kl_target` does, and for β = 0 or a NaN threshold. Source: MARA, Remark B.3.
    """
    _check(ref_logprobs, rewards)
    kl, tau = _column("beta", beta, rewards), _column("threshold", threshold, rewards, may_be_negative=True)
    if bool((kl <= 0).any()):
        raise InputError("`beta` must be above 0: MARA moves mass by the reference's probabilities")
    log_density = ref_logprobs + _from_best(rewards) / kl
    good = (rewards >= tau) & ~ref_logprobs.isneginf()
    anchor_logprob = ref_logprobs.masked_fill(~good, -torch.inf).amax(-1, keepdim=True)
    is_anchor = good & (ref_logprobs == anchor_logprob)
    height = log_density.masked_fill(~is_anchor, -torch.inf).amax(-1, keepdim=True)
    return torch.log_softmax(torch.where(good, height, log_density), -1)


def forward_kl_target(ref_logprobs: Tensor, rewards: Tensor, *, beta: float | Tensor) -> ForwardKLTarget:
    """Optimum of E[R] − β KL(π_ref ‖ π).

    G = β π_ref / (Λ − R),   Λ > max R on the support such that Σ G = 1

    If the best reward outside the support exceeds that Λ, then Λ is that reward, and the mass that is left,
    1 − Σ β π_ref / (Λ − R), goes there. ref_logprobs, rewards: (..., K), nats, float64 for full accuracy.
    Differentiable in rewards and reference where no mass is off support.

    Solved for the gap s = Λ − max R, never for Λ, which would lose s to rounding when β is small: with
    d = max R − R, 1/Σ βπ_ref/(s + d) − 1 is concave and rises in s, so Newton's method started at the lower
    bracket max (β π_ref − d) climbs to the root and stops where it no longer rises.

    Raises InputError for shapes that disagree, rewards that are not finite, a reference that does not sum to
    1, or β ≤ 0. Source: MARA, Remark 3.3, and for the off-support part its appendix B.3.
    """
    _check(ref_logprobs, rewards)
    kl = _column("beta", beta, rewards)
    if bool((kl <= 0).any()):
        raise InputError("`beta` must be above 0: without it the optimum is not unique")
    support = ~ref_logprobs.isneginf()
    best = rewards.masked_fill(~support, -torch.inf).amax(-1, keepdim=True)
    weights = kl * ref_logprobs.exp()
    distance = torch.where(support, best - rewards, 0)
    gap = _solve_gap(weights, distance)
    # Λ may not be below the best reward off the support: its lead is the smallest gap that is allowed.
    outside = rewards.masked_fill(support, -torch.inf).amax(-1, keepdim=True)
    has_mass_outside = outside - best > gap
    gap = torch.where(has_mass_outside, outside - best, gap)
    inside = torch.where(support, weights / (gap + distance), 0)
    off_mass = torch.where(has_mass_outside, (1 - inside.sum(-1, keepdim=True)).clamp(min=0), 0)
    winners = has_mass_outside & ~support & (rewards == outside)
    share = off_mass / winners.sum(-1, keepdim=True).clamp(min=1)
    logprobs = torch.where(
        support, ref_logprobs + kl.log() - (gap + distance).log(), torch.where(winners, share, 0).log()
    )
    return ForwardKLTarget(
        logprobs=logprobs,
        multiplier=(gap + best).squeeze(-1),
        off_support_mass=off_mass.squeeze(-1),
    )


def _solve_gap(weights: Tensor, distance: Tensor) -> Tensor:
    """The s > 0 with Σ weights / (s + distance) = 1, (..., 1); differentiable by one last Newton step."""
    with torch.no_grad():
        gap = (weights - distance).amax(-1, keepdim=True)
        for _ in range(_MOST_STEPS):
            risen = _newton(gap, weights, distance)
            if not bool((risen > gap).any()):
                break
            gap = torch.maximum(gap, risen)
    return _newton(gap, weights, distance) if torch.is_grad_enabled() else gap


def _newton(gap: Tensor, weights: Tensor, distance: Tensor) -> Tensor:
    """One step on 1/f(s) − 1, f(s) = Σ weights/(s + distance): s + f (f − 1) / Σ weights/(s + distance)²."""
    terms = weights / (gap + distance)
    total = terms.sum(-1, keepdim=True)
    slope = (terms / (gap + distance)).sum(-1, keepdim=True).detach()
    return gap + total * (total - 1) / slope


def _check(ref_logprobs: Tensor, rewards: Tensor) -> None:
    check_same_shape("ref_logprobs", ref_logprobs, "rewards", rewards)
    check_log_distribution("ref_logprobs", ref_logprobs)
    check_finite("rewards", rewards)


def _from_best(rewards: Tensor) -> Tensor:
    """R − max R: the same optimum, and R/β loses no digits to a common offset when β is small."""
    return rewards - rewards.amax(-1, keepdim=True)


def _column(name: str, value: float | Tensor, like: Tensor, *, may_be_negative: bool = False) -> Tensor:
    """A number, or a tensor of the leading shape, as something that broadcasts over outcomes."""
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    check_finite(name, tensor)
    if not may_be_negative and bool((tensor < 0).any()):
        raise InputError(f"`{name}` must not be negative; got {float(tensor.min())}")
    if tensor.ndim == 0:
        return tensor
    if tensor.shape != like.shape[:-1]:
        raise InputError(
            f"`{name}` must be a number or have shape {tuple(like.shape[:-1])}; got {tuple(tensor.shape)}"
        )
    return tensor.unsqueeze(-1)
