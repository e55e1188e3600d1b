"""The optimum of outcome marginal matching, under both KLs."""

import math
from dataclasses import dataclass
from typing import Literal, cast, final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from allmodes.checks import check_choice, check_not_negative, check_same_shape
from allmodes.targets.exact import forward_kl_target
from allmodes.targets.inputs import check_outcomes
from allmodes.targets.roots import find_root
from allmodes.targets.wright_omega import wright_omega

_MOST_ODDS = 100.0  # largest log-odds of being good
_MOST_STEPS, _LEAST_RISE = 60, 1e-15  # of Newton's method, which needs about 8


def outcome_matching_target(
    ref_logprobs: Tensor,
    rewards: Tensor,
    *,
    good: Tensor,
    beta: float,
    outcome_ids: Tensor | None = None,
    log_weights: Tensor | None = None,
    kl: Literal["reverse", "forward"] = "reverse",
    strength: float = 1.0,
    max_log_ratio: float = 3.0,
    max_penalty: float = 0.5,
    max_multiplier: float = 0.0,
) -> Tensor | None:
    """Optimum of E[R] − a π(A) KL(s ‖ g) − β KL(π ‖ π_ref), with A the good strings and s(o) = π(o)/π(A).

    within a good outcome   π(y|o) ∝ q(y) e^(R(y)/β)
    among good outcomes     s(o) ∝ (g(o)^a Z(o)^β)^(1/(a + β)),   Z(o) = Σ_{y in o} q(y) e^(R(y)/β)
    log-odds of being good  ((a + β) log Σ_o (g^a Z^β)^(1/(a + β)) + shift)/β − log Σ_{y not in A} q e^(R/β)

    q = π_ref. shift = max(0, a KL(s ‖ g) − max_penalty) is the guard, which does not change s. If |log(g/s)|
    exceeds `max_log_ratio`, the bonus is cut off there, and s solves the same conditions with the cut. With
    β = 0 all mass is on A, and within outcomes the best strings keep the reference's shares. Under a forward
    KL, −β KL(π_ref ‖ π), the objective is solved to machine precision; max/min of s/g is then at most
    exp(β/a max q(o)/π(o)).

    ref_logprobs, rewards: (..., K), nats. good: (..., K), which strings get the bonus if they have an
    outcome.
    outcome_ids: (K,), strings of one id are one outcome, a negative id is none; None if each is its own.
    log_weights: (..., K), log g of a string's outcome up to a constant, averaged with the reference's shares
    if its strings differ; None is uniform. Outcomes that the reference never writes get no target share.
    strength, max_penalty, max_multiplier: in units of reward. max_multiplier above 0 is the dual: then s = g.

    Returns None if an outcome has good and wrong strings; without both bonus and KL; if the dual's
    multipliers would exceed their limit; without a KL, if a limit of the bonus is reached; and under a
    forward KL if a limit is reached, with the dual, without a bonus, or if strings of an outcome differ in
    reward. Raises InputError as `reverse_kl_target` does.

    >>> ref = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
    >>> rewards = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    >>> outcome_matching_target(ref, rewards, good=rewards > 0.9, beta=0.0).exp()
    tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64)
    """
    check_outcomes(ref_logprobs, rewards)
    check_same_shape("good", good, "rewards", rewards)
    check_choice("kl", kl, ("reverse", "forward"))
    check_not_negative("beta", beta)
    check_not_negative("strength", strength)
    if strength + beta == 0:
        return None
    dtype = torch.promote_types(ref_logprobs.dtype, rewards.dtype)
    strings = _strings(
        torch.log_softmax(ref_logprobs.double(), -1), rewards.double(), good, outcome_ids, log_weights
    )
    if strings is None:
        return None
    solve = _forward if kl == "forward" and beta > 0 else _reverse
    found = solve(
        strings,
        beta=beta,
        strength=strength,
        limit=max_log_ratio,
        max_penalty=max_penalty,
        max_multiplier=max_multiplier,
    )
    return None if found is None else found.to(dtype)


@final
@dataclass(frozen=True, kw_only=True)
class _Strings:
    """Strings, (..., K), and the good outcomes among their U outcomes.

    index: (..., K), each string's outcome, from 0 to U − 1. paid: (..., K), strings of good outcomes.
    log_target: (..., U), −inf where no string is paid.
    """

    log_ref: Tensor
    rewards: Tensor
    paid: Tensor
    index: Tensor
    log_target: Tensor

    def log_sum(self, values: Tensor) -> Tensor:
        """Log-sum over the paid strings of each outcome, (..., K) → (..., U)."""
        return _log_sum(values.masked_fill(~self.paid, -torch.inf), self.index, self.log_target.shape)

    def best(self) -> Tensor:
        """The largest reward of the paid strings of each outcome, (..., U); 0 if there are none."""
        rewards = self.rewards.masked_fill(~self.paid, -torch.inf)
        best = torch.full_like(self.log_target, -torch.inf).scatter_reduce(-1, self.index, rewards, "amax")
        return best.masked_fill(best.isneginf(), 0)


def _strings(
    log_ref: Tensor, rewards: Tensor, good: Tensor, outcome_ids: Tensor | None, log_weights: Tensor | None
) -> _Strings | None:
    ids = torch.arange(rewards.shape[-1], device=rewards.device) if outcome_ids is None else outcome_ids
    check_same_shape("outcome_ids", ids, "rewards (of one row)", rewards.reshape(-1, rewards.shape[-1])[0])
    found = torch.unique(ids, return_inverse=True)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    distinct, inverse = cast("tuple[Tensor, Tensor]", found)
    index, written = inverse.expand(rewards.shape), ~log_ref.isneginf()
    paid = good & (ids >= 0) & written
    shape = (*rewards.shape[:-1], len(distinct))

    def has(mask: Tensor) -> Tensor:
        return rewards.new_zeros(shape).scatter_add(-1, index, mask.to(rewards.dtype)) > 0

    if bool((has(paid) & has(~good & (ids >= 0) & written)).any()):
        return None
    weights = torch.zeros_like(rewards) if log_weights is None else log_weights.double()
    log_q = log_ref.masked_fill(~paid, -torch.inf)
    within = torch.where(paid, (log_q - _log_sum(log_q, index, shape).gather(-1, index)).exp(), 0)
    weight = rewards.new_zeros(shape).scatter_add(-1, index, within * torch.where(paid, weights, 0))
    log_target = torch.log_softmax(weight.masked_fill(~has(paid), -torch.inf), -1)
    log_target = torch.where(has(paid), log_target, -torch.inf)  # a row without good strings has NaN
    return _Strings(log_ref=log_ref, rewards=rewards, paid=paid, index=index, log_target=log_target)


def _reverse(
    strings: _Strings,
    *,
    beta: float,
    strength: float,
    limit: float,
    max_penalty: float,
    max_multiplier: float,
) -> Tensor | None:
    log_target, wanted, best = strings.log_target, ~strings.log_target.isneginf(), strings.best()
    above = strings.rewards - best.gather(-1, strings.index)
    tilt = above / beta if beta > 0 else torch.where(above == 0, 0.0, -torch.inf)
    log_within = strings.log_ref + tilt
    log_mass = strings.log_sum(log_within)
    value = best + (beta * torch.where(wanted, log_mass, 0) if beta > 0 else 0)  # β log Z
    if max_multiplier > 0:
        # λ = level − β log Z + β log g minus its mean under g, which is the remaining pull.
        left = torch.where(wanted, value - beta * log_target, 0)
        level = (log_target.exp() * left).sum(-1, keepdim=True)
        if bool(((level - left).abs() > max_multiplier)[wanted].any()):
            return None
        log_share, bonus = log_target, torch.zeros_like(log_target)
    else:
        free = (torch.where(wanted, strength * log_target, -torch.inf) + value) / (strength + beta)
        level = (strength + beta) * torch.logsumexp(free, -1, keepdim=True)
        log_share = torch.where(wanted, free - level / (strength + beta), -torch.inf)
        ratio = torch.where(wanted, log_target - log_share, 0)
        if bool((ratio.abs() > limit).any()):
            if beta == 0:
                return None
            log_share, level = _limited(log_target, value, log_share, beta, strength, limit)
            ratio = torch.where(wanted, log_target - log_share, 0).clamp(-limit, limit)
        bonus = strength * ratio
    shift = (-(log_share.exp() * bonus).sum(-1, keepdim=True) - max_penalty).clamp(min=0)
    spread = (log_share - torch.where(wanted, log_mass, 0)).gather(-1, strings.index) + log_within
    has_good, other = wanted.any(-1, keepdim=True), ~strings.paid
    if beta > 0:
        spread = spread + (level + shift) / beta
        kept = strings.log_ref + strings.rewards / beta
    else:  # the best of the others, where no string is good
        best_other = strings.rewards.masked_fill(strings.log_ref.isneginf(), -torch.inf)
        best_other = best_other.amax(-1, keepdim=True)
        kept = torch.where((strings.rewards == best_other) & ~has_good, strings.log_ref, -torch.inf)
    return torch.log_softmax(torch.where(other, kept, spread), -1)


def _limited(
    log_target: Tensor, value: Tensor, free: Tensor, beta: float, strength: float, limit: float
) -> tuple[Tensor, Tensor]:
    """Log-shares and the level C with V(o) + a clip(log(g/s)) − β log s = C for each wanted outcome.

    The left side falls with s, so each s follows from C; Σ s falls with C, which is found by bisection.
    """
    wanted = ~log_target.isneginf()
    target = torch.where(wanted, log_target, 0)

    def shares(level: Tensor) -> Tensor:
        height = level - value
        inside = (strength * target - height) / (strength + beta)
        ratio = target - inside
        cut = (strength * limit * ratio.sign() - height) / beta
        return torch.where(wanted, torch.where(ratio.abs() > limit, cut, inside), -torch.inf)

    start = torch.where(wanted, free, 0)
    levels = value + strength * (target - start).clamp(-limit, limit) - beta * start
    low = levels.masked_fill(~wanted, torch.inf).amin(-1, keepdim=True)
    high = levels.masked_fill(~wanted, -torch.inf).amax(-1, keepdim=True)
    level = find_root(lambda c: torch.logsumexp(shares(c), -1, keepdim=True), low, high)
    return torch.log_softmax(shares(level), -1), level


def _forward(
    strings: _Strings,
    *,
    beta: float,
    strength: float,
    limit: float,
    max_penalty: float,
    max_multiplier: float,
) -> Tensor | None:
    """β q/π = c − R − bonus for every string: solved for c given π(A), and for π(A).

    With P = π(A) and c' = c − shift, s (c' − R − a log g + a log s) = β q/P, Wright's omega in log s.
    """
    best = strings.best()
    differs = strings.paid & (strings.rewards != best.gather(-1, strings.index))
    if max_multiplier > 0 or strength == 0 or bool(differs.any()):
        return None
    log_target, wanted = strings.log_target, ~strings.log_target.isneginf()
    target, other = torch.where(wanted, log_target, 0), ~strings.paid & ~strings.log_ref.isneginf()
    log_pull = strings.log_sum(strings.log_ref) + math.log(beta / strength)
    has_other = other.any(-1, keepdim=True)

    def shares(level: Tensor, log_good: Tensor) -> tuple[Tensor, Tensor]:
        """Log-shares and their derivative in the level."""
        height = (level - best) / strength - target
        omega = wright_omega(torch.where(wanted, height + log_pull - log_good, 0))
        return torch.where(wanted, omega - height, -torch.inf), -1 / (strength * (1 + omega))

    def climb(level: Tensor, log_good: Tensor) -> Tensor:
        """The level with Σ s = 1: log Σ s is decreasing and convex, so Newton from below never overshoots."""
        for _ in range(_MOST_STEPS):
            log_share, slope = shares(level, log_good)
            total = torch.logsumexp(log_share, -1, keepdim=True)
            rise = -total / ((log_share - total).exp() * slope).sum(-1, keepdim=True)
            level = level + rise
            if bool((rise.nan_to_num() <= _LEAST_RISE * (1 + level.nan_to_num().abs())).all()):
                break
        return level

    def at(odds: Tensor) -> tuple[Tensor, Tensor]:
        """Log-shares, and the mass of each other string, for given log-odds of being good."""
        log_good = torch.where(has_other, logsigmoid(odds), 0)
        levels = best + strength * torch.where(wanted, (log_pull - target - log_good).exp(), 0)
        level = climb(levels.masked_fill(~wanted, torch.inf).amin(-1, keepdim=True), log_good)
        log_share = torch.log_softmax(shares(level, log_good)[0], -1)
        ratio = torch.where(wanted, target - log_share, 0)
        shift = (-strength * (log_share.exp() * ratio).sum(-1, keepdim=True) - max_penalty).clamp(min=0)
        gap = torch.where(other, level + shift - strings.rewards, 1)
        mass = torch.where(other, beta * strings.log_ref.exp() / gap, 0)
        return log_share, mass.masked_fill(other & (gap <= 0), torch.inf)

    def lacking(odds: Tensor) -> Tensor:
        return torch.sigmoid(-odds) - at(odds)[1].sum(-1, keepdim=True)

    most = target.new_full((*target.shape[:-1], 1), _MOST_ODDS)
    odds = find_root(lacking, -most, most)
    log_share, mass = at(odds)
    if bool(((target - log_share).abs() > limit)[wanted].any()):
        return None
    within = strings.log_ref - torch.where(wanted, strings.log_sum(strings.log_ref), 0).gather(
        -1, strings.index
    )
    good = logsigmoid(odds).masked_fill(~has_other, 0) + log_share.gather(-1, strings.index) + within
    matched = torch.log_softmax(torch.where(strings.paid, good, mass.log()), -1)
    plain = forward_kl_target(strings.log_ref.exp().log(), strings.rewards, beta=beta).logprobs
    return torch.where(wanted.any(-1, keepdim=True), matched, plain)


def _log_sum(logs: Tensor, index: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    top = logs.new_full(shape, -torch.inf).scatter_reduce(-1, index, logs, "amax")
    safe = top.masked_fill(top.isneginf(), 0)
    total = logs.new_zeros(shape).scatter_add(-1, index, (logs - safe.gather(-1, index)).exp())
    return safe + total.log()
