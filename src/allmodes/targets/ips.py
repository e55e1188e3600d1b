"""Exact optima of inverse probability scaling, with a KL, and with finite groups."""

import math
from typing import Literal

import torch
from torch import Tensor

from allmodes.checks import check_choice, check_finite, check_outcome_dimension
from allmodes.errors import InputError
from allmodes.targets.climb import climb, normalised
from allmodes.targets.inputs import check_outcomes, per_outcome
from allmodes.targets.wright_omega import wright_omega

IpsRegularizer = Literal["reverse", "forward", "in_reward"]

_LEAST = 1e-12  # c/β if all rewards on the support are 0; the result is then the reference


def ips_target(
    rewards: Tensor,
    *,
    ref_logprobs: Tensor | None = None,
    beta: float | Tensor = 0.0,
    regularizer: IpsRegularizer = "reverse",
    group_size: int | None = None,
) -> Tensor:
    """Fixed point of a policy gradient on rewards divided by their outcome's probability.

    no KL:       p = r / Σ r
    "reverse":   p = r / (β ω(log(r/(βq)) + c/β)),  Σ p = 1        max Σ r log p − β KL(p ‖ q)
    "forward":   p = (r + βq) / (Σ r + β)                          max Σ r log p − β KL(q ‖ p)
    "in_reward": p = (β/c) ω(log(c/β) + log q + r/β),  Σ p = 1     max Σ [r log p − ½β (log p − log q)²]
    group of G:  p ∝ r (1 − (1 − p)^G)                             p̂ = n/G instead of p, no KL

    with q = π_ref and ω Wright's omega, ω(a) = W₀(e^a). "in_reward" divides r − β log(p/q) by p, the others r
    alone. rewards, ref_logprobs: (..., K), nats; β a number or of the leading shape. Returns log p, (..., K);
    −inf for an extinct outcome. An entropy bonus of weight η is "reverse" with a uniform q and β = η.

    In groups of G, outcome i survives only if G r_i > Σ r (1 − (1 − p)^G): small groups lose the worse
    outcomes. This holds without a baseline; with the group's mean or a leave-one-out baseline, the fixed
    point of G samples is that of G − 1 samples without.

    Differentiable in the rewards and the reference, except for finite groups. Never shift rewards: a constant
    changes the target. Raises InputError for shapes that disagree, negative rewards (their outcomes go
    extinct, and the rest is no longer proportional to reward), rewards that sum to 0, β < 0, β > 0 without a
    reference or with a group size, or a group of fewer than 2. Source: IPS, Corollary 4.2, equations 8 and 9.

    >>> rewards = torch.tensor([1.0, 0.8, 0.2])
    >>> ips_target(rewards).exp()
    tensor([0.5000, 0.4000, 0.1000])
    >>> ips_target(rewards, group_size=4).exp()
    tensor([0.5762, 0.4238, 0.0000])
    """
    check_choice("regularizer", regularizer, ("reverse", "forward", "in_reward"))
    _check_rewards(rewards)
    weight = per_outcome("beta", beta, rewards)
    if group_size is not None:
        if bool((weight > 0).any()):
            raise InputError("`group_size` must be None if `beta` is above 0: that fixed point is not known")
        return _group_target(rewards, group_size)
    if ref_logprobs is not None:
        check_outcomes(ref_logprobs, rewards)
    if not bool((weight > 0).any()):
        return _exact_target(rewards)
    if ref_logprobs is None:
        raise InputError("`ref_logprobs` must be given if `beta` is above 0; got None")
    solve = {"reverse": _reverse_target, "forward": _forward_target, "in_reward": _in_reward_target}[
        regularizer
    ]
    if bool((weight > 0).all()):
        return solve(rewards, ref_logprobs, weight)
    # Rows of the other case get harmless numbers, so that they do not affect gradients.
    solved = solve(rewards, ref_logprobs, torch.where(weight > 0, weight, 1))
    return torch.where(weight > 0, solved, _exact_target(torch.where(weight > 0, 1, rewards)))


def _check_rewards(rewards: Tensor) -> None:
    check_outcome_dimension("rewards", rewards)
    check_finite("rewards", rewards)
    if bool((rewards < 0).any()):
        raise InputError(
            f"`rewards` must not be negative under inverse scaling; got {float(rewards.min()):.6g}"
        )
    if bool((rewards.sum(-1) == 0).any()):
        raise InputError("`rewards` must not all be 0 under inverse probability scaling")


def _exact_target(rewards: Tensor) -> Tensor:
    return rewards.log() - rewards.sum(-1, keepdim=True).log()


def _forward_target(rewards: Tensor, ref_logprobs: Tensor, beta: Tensor) -> Tensor:
    mass = rewards + beta * ref_logprobs.exp()
    return mass.log() - mass.sum(-1, keepdim=True).log()


def _reverse_target(rewards: Tensor, ref_logprobs: Tensor, beta: Tensor) -> Tensor:
    """Solved for t = c/β ≥ 0: log Σ p is convex and falls in t, so Newton from 0 climbs to the root."""
    largest = math.log(torch.finfo(rewards.dtype).max) - 10  # largest exponent without overflow
    supported = ~ref_logprobs.isneginf()
    rewarded = rewards > 0
    log_share = torch.where(rewarded, rewards, 1).log() - beta.log()

    def log_mass(t: Tensor) -> tuple[Tensor, Tensor]:
        a = torch.where(supported & rewarded, log_share - ref_logprobs + t, -torch.inf)
        # ω(log x) = W₀(x), which is x to first order at x = 0, so a reward of 0 also has a gradient.
        at_zero = rewards / beta * (t - ref_logprobs).clamp(max=largest).exp()
        omega = torch.where(rewarded, wright_omega(a), at_zero)
        # Two forms of the same number, log p = log(r/β) − log ω = log q − t + ω, chosen so that no large
        # numbers are subtracted.
        large = a > 0
        log_p = torch.where(
            large,
            torch.where(large, log_share, 0) - torch.where(large, omega, 1).log(),
            ref_logprobs - t + omega,
        )
        return torch.where(supported, log_p, -torch.inf), -1 / (1 + omega)

    def step(t: Tensor) -> Tensor:
        log_p, slope = log_mass(t)
        log_total = torch.logsumexp(log_p, -1, keepdim=True)
        return t - log_total / (torch.exp(log_p - log_total) * slope).sum(-1, keepdim=True).detach()

    return normalised(log_mass(climb(step, torch.zeros_like(rewards[..., :1])))[0])


def _in_reward_target(rewards: Tensor, ref_logprobs: Tensor, beta: Tensor) -> Tensor:
    """Solved for v = c/β: 1/Σ p is concave and rises in v, so Newton from below climbs to the root."""
    heights = ref_logprobs + rewards / beta

    def log_mass(v: Tensor) -> tuple[Tensor, Tensor]:
        v = v.clamp(min=_LEAST)
        a = v.log() + heights
        omega = wright_omega(a)
        large = a > 0  # log p = log ω − log v = height − ω
        log_p = torch.where(
            large, torch.where(large, omega, 1).log() - torch.where(large, v, 1).log(), heights - omega
        )
        return log_p, -torch.where(large, 1 / (1 + 1 / omega.clamp(min=1e-30)), omega / (1 + omega)) / v

    def step(v: Tensor) -> Tensor:
        log_p, slope = log_mass(v)
        log_total = torch.logsumexp(log_p, -1, keepdim=True)
        # Newton on 1/Σp − 1 by its logarithms: d(1/Σp)/dv = −(Σ p s)/(Σp)², s = d log p / dv.
        relative_slope = (torch.exp(log_p - log_total) * slope).sum(-1, keepdim=True)
        return v + torch.expm1(log_total) / (-relative_slope.detach())

    # If a single outcome had mass 1, v would be its height. For heights below 0, v is just above 0.
    start = heights.detach().amax(-1, keepdim=True).clamp(min=_LEAST)
    return normalised(log_mass(climb(step, start))[0])


def _group_target(rewards: Tensor, group_size: int) -> Tensor:
    """Solve p c = r (1 − (1 − p)^G) for each outcome, with the c at which Σ p = 1.

    h(p) = (1 − (1 − p)^G)/p falls from G to 1 and is convex, so Newton's method from p = 0 climbs to h(p) =
    c/r; and Σ p(c) is convex and falls in c, so Newton's method from c = max r, where Σ p ≥ 1, climbs again.
    """
    if group_size < 2:
        raise InputError(f"`group_size` must be at least 2; got {group_size}")
    g = float(group_size)

    def height_and_slope(p: Tensor) -> tuple[Tensor, Tensor]:
        log_rest = torch.log1p(-p)
        h = torch.where(p > 0, -torch.expm1(g * log_rest) / torch.where(p > 0, p, 1), g)
        slope = torch.where(
            p > 1e-5 / g,
            (g * torch.exp((g - 1) * log_rest) - h) / p.clamp(min=1e-300),
            -g * (g - 1) / 2,
        )
        return h, slope

    def masses(c: Tensor) -> tuple[Tensor, Tensor]:
        wanted = c / rewards  # inf where the reward is 0
        survives = wanted < g
        wanted = torch.where(survives, wanted, g)

        def step(p: Tensor) -> Tensor:
            h, slope = height_and_slope(p)
            return (p - (h - wanted) / slope).clamp(max=1)

        p = climb(step, torch.zeros_like(rewards))
        slope = torch.where(survives, 1 / (rewards * height_and_slope(p)[1]), 0)
        return torch.where(survives, p, 0), slope

    def step(c: Tensor) -> Tensor:
        p, slope = masses(c)
        return c - (p.sum(-1, keepdim=True) - 1) / slope.sum(-1, keepdim=True)

    with torch.no_grad():
        p, _ = masses(climb(step, rewards.amax(-1, keepdim=True)))
        return normalised(p.log())
