"""Optima of rewards that fall with an outcome's own probability: water-filling and sparsemax."""

from typing import Literal

import torch
from torch import Tensor

from allmodes.checks import check_choice, check_finite, check_not_negative, check_outcome_dimension
from allmodes.errors import InputError
from allmodes.targets.climb import climb, normalised
from allmodes.targets.inputs import check_outcomes
from allmodes.targets.wright_omega import wright_omega


def crowding_target(
    rewards: Tensor,
    *,
    penalty: float | Tensor,
    ref_logprobs: Tensor | None = None,
    beta: float = 0.0,
    kl: Literal["reverse", "forward"] = "reverse",
) -> Tensor:
    """Optimum of Σ r p − ½ Σ c p² − β KL: the gain r − c p of an outcome falls with its probability.

    no KL:     p = (r − Λ)₊ / c                                           Σ p = 1
    "reverse": p = (β/c) ω((r − Λ)/β + log q + log(c/β))                  gain r − c p − β log(p/q)
    "forward": c p² + (Λ − r) p − β q = 0                                 gain r − c p + β q/p

    with q = π_ref, ω Wright's omega and Λ the common gain of outcomes with p > 0. Without a KL, a constant c
    gives sparsemax(r/c), and c = r gives water-filling, p = (1 − Λ/r)₊. rewards, ref_logprobs: (..., K),
    nats. penalty: c ≥ 0, a number or of the shape of `rewards`. Returns log p, (..., K), −inf for an extinct
    outcome. No gradient.

    Σ p is decreasing and convex in Λ, so Newton's method, started from the Λ at which a single outcome would
    have p = 1, rises to the root. Raises InputError for unequal shapes, values that are not finite, c < 0,
    β < 0, β > 0 without a reference, or, without a KL, c = 0 at the best reward (optimum not unique).

    >>> rewards = torch.tensor([1.0, 1.0, 0.8])
    >>> crowding_target(rewards, penalty=rewards).exp()
    tensor([0.3846, 0.3846, 0.2308])
    """
    check_choice("kl", kl, ("reverse", "forward"))
    check_outcome_dimension("rewards", rewards)
    check_finite("rewards", rewards)
    check_not_negative("beta", beta)
    c = torch.as_tensor(penalty, dtype=rewards.dtype, device=rewards.device).expand_as(rewards)
    check_finite("penalty", c)
    if bool((c < 0).any()):
        raise InputError(f"`penalty` must not be negative; got {float(c.min()):g}")
    with torch.no_grad():
        rewards = rewards - rewards.amax(-1, keepdim=True)  # keeps the digits of a small c in r − c
        if beta == 0:
            return _without_kl(rewards, c)
        if ref_logprobs is None:
            raise InputError("`ref_logprobs` must be given if `beta` is above 0; got None")
        check_outcomes(ref_logprobs, rewards)
        solve = _reverse if kl == "reverse" else _forward
        return solve(rewards, c, ref_logprobs, beta)


def _without_kl(rewards: Tensor, c: Tensor) -> Tensor:
    has_penalty = c > 0
    safe = torch.where(has_penalty, c, 1)

    def masses(level: Tensor) -> Tensor:
        return torch.where(has_penalty, (rewards - level).clamp(min=0) / safe, 0)

    def step(level: Tensor) -> Tensor:
        in_use = has_penalty & (rewards > level)
        excess = masses(level).sum(-1, keepdim=True) - 1
        return level + excess / torch.where(in_use, 1 / safe, 0).sum(-1, keepdim=True)

    start = (rewards - c).amax(-1, keepdim=True)
    if bool((masses(start).sum(-1) < 1 - 1e-6).any()):  # Λ is the reward of an outcome without a penalty
        raise InputError("`penalty` must be above 0 at the best reward: without it the optimum is not unique")
    return normalised(masses(climb(step, start)).log())


def _reverse(rewards: Tensor, c: Tensor, ref_logprobs: Tensor, beta: float) -> Tensor:
    has_penalty = c > 0
    share = torch.where(has_penalty, c, 1) / beta

    def log_masses(level: Tensor) -> Tensor:
        plain = ref_logprobs + (rewards - level) / beta
        omega = torch.where(has_penalty, wright_omega(plain + share.log()), 0)
        # Two forms of the same number, chosen so that no large numbers are subtracted.
        large = omega > 1
        return torch.where(large, torch.where(large, omega, 1).log() - share.log(), plain - omega)

    def step(level: Tensor) -> Tensor:
        p = log_masses(level).exp()
        return level + (p.sum(-1, keepdim=True) - 1) / (p / (c * p + beta)).sum(-1, keepdim=True)

    start = (rewards - c + beta * ref_logprobs).amax(-1, keepdim=True)
    return normalised(log_masses(climb(step, start)))


def _forward(rewards: Tensor, c: Tensor, ref_logprobs: Tensor, beta: float) -> Tensor:
    pull = beta * ref_logprobs.exp()

    def masses(level: Tensor) -> Tensor:
        slack = level - rewards
        root = (slack.square() + 4 * c * pull).sqrt()
        # The positive root of the quadratic, without a difference of large numbers.
        below = 2 * pull / torch.where(slack > 0, slack + root, 1)
        above = (root - slack) / torch.where(c > 0, 2 * c, 1)
        return torch.where(slack > 0, below, torch.where(c > 0, above, 0))

    def step(level: Tensor) -> Tensor:
        p = masses(level)
        slope = torch.where(p > 0, p.square() / (c * p.square() + pull), 0)
        return level + (p.sum(-1, keepdim=True) - 1) / slope.sum(-1, keepdim=True)

    start = (rewards - c + pull).amax(-1, keepdim=True)
    return normalised(masses(climb(step, start)).log())
