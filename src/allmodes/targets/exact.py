"""Optima of regularised objectives, in closed form or to machine precision.

Log-probabilities in, log-probabilities out, outcomes along the last dimension: shape (..., K). β may be a
number or a tensor of the leading shape (...). Outside the reference's support log-probabilities are −inf.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from allmodes.checks import check_finite, check_outcome_dimension, check_same_shape, check_totals
from allmodes.errors import InputError, RunError
from allmodes.targets.inputs import check_outcomes, per_outcome

_PIECE = 2**17  # outcomes per chunk: large enough for two threads, small enough for the cache
_FEW, _STRIDE = 2**15, 64  # with more outcomes than this, every 64th is used to find the start
_CLOSE = 1e-9  # last relative rise; its square is below rounding
_MOST_STEPS = 200  # Newton's method needs about 5; its iterates rise until rounding stops them


@final
@dataclass(frozen=True, kw_only=True)
class ForwardKLTarget:
    """Optimum of E[R] − β KL(π_ref ‖ π).

    logprobs: (..., K). multiplier: Λ, (...). off_support_mass: (...), the mass outside the reference's
    support; it is spread evenly over the best outcomes there, since any split is optimal.
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
    η > 0 is entropy regularisation only; the reference and its support then have no effect.

    Raises InputError for shapes that disagree, rewards that are not finite, a reference that does not sum to
    1, β < 0, η < 0 or β + η = 0. Source: MARA, Remark 3.1.

    >>> ref = torch.tensor([0.8, 0.2]).log()
    >>> reverse_kl_target(ref, torch.tensor([1.0, 1.0]), beta=0.1).exp()  # equal rewards: the reference stays
    tensor([0.8000, 0.2000])
    """
    check_outcomes(ref_logprobs, rewards)
    kl, bonus = per_outcome("beta", beta, rewards), per_outcome("entropy", entropy, rewards)
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
    to the highest reward. Good outcomes outside the reference's support stay at 0, since they are never
    sampled. A row without a good outcome in its support gets the plain reverse-KL optimum. Returns log G,
    (..., K).

    Raises InputError as `reverse_kl_target` does, and for β = 0 or a NaN threshold. Source: MARA, Remark B.3.

    >>> ref = torch.tensor([0.08, 0.01, 0.91]).log()
    >>> rewards = torch.tensor([1.0, 1.0, 0.0])
    >>> reverse_kl_target(ref, rewards, beta=0.1).exp()
    tensor([8.8848e-01, 1.1106e-01, 4.5883e-04])
    >>> mara_target(ref, rewards, beta=0.1, threshold=0.9).exp()
    tensor([4.9987e-01, 4.9987e-01, 2.5815e-04])
    """
    check_outcomes(ref_logprobs, rewards)
    kl, tau = (
        per_outcome("beta", beta, rewards),
        per_outcome("threshold", threshold, rewards, may_be_negative=True),
    )
    if bool((kl <= 0).any()):
        raise InputError("`beta` must be above 0: MARA moves mass by the reference's probabilities")
    log_density = ref_logprobs + _from_best(rewards) / kl
    good = (rewards >= tau) & ~ref_logprobs.isneginf()
    anchor_logprob, anchor_reward = anchor_of(ref_logprobs, rewards, good)
    height = anchor_logprob + (anchor_reward - rewards.amax(-1, keepdim=True)) / kl
    return torch.log_softmax(torch.where(good, height, log_density), -1)


def forward_kl_target(ref_logprobs: Tensor, rewards: Tensor, *, beta: float | Tensor) -> ForwardKLTarget:
    """Optimum of E[R] − β KL(π_ref ‖ π).

    G = β π_ref / (Λ − R),   Λ > max R on the support such that Σ G = 1

    If the best reward outside the support exceeds this Λ, Λ is that reward, and the remaining mass,
    1 − Σ β π_ref / (Λ − R), goes there. ref_logprobs, rewards: (..., K), nats, float64 for full accuracy.
    Differentiable in rewards and reference where no mass is off support.

    Solved for the gap s = Λ − max R instead of Λ, since Λ would lose s to rounding if β is small: with
    d = max R − R, 1/Σ βπ_ref/(s + d) − 1 is concave and rises in s, so Newton's method climbs to the root.

    Raises InputError for shapes that disagree, rewards that are not finite, a reference that does not sum to
    1, or β ≤ 0. Source: MARA, Remark 3.3, and for the off-support part its appendix B.3.

    >>> ref = torch.tensor([0.8, 0.2]).log()
    >>> forward_kl_target(ref, torch.tensor([1.0, 1.0]), beta=0.1).logprobs.exp()
    tensor([0.8000, 0.2000])
    """
    check_same_shape("ref_logprobs", ref_logprobs, "rewards", rewards)
    check_outcome_dimension("ref_logprobs", ref_logprobs)
    check_outcome_dimension("rewards", rewards)
    check_finite("rewards", rewards)
    kl = per_outcome("beta", beta, rewards)
    if bool((kl <= 0).any()):
        raise InputError("`beta` must be above 0: without it the optimum is not unique")
    with torch.no_grad():
        weights = ref_logprobs.exp()
        check_totals("ref_logprobs", weights.sum(-1))
        weights.mul_(kl)
    least = _least(weights)
    hole = weights < least if bool(weights.amin() < least) else None
    if hole is not None and bool(hole.all(-1).any()):
        raise InputError(
            "`beta` is too small for this precision: β π_ref vanishes for every outcome of a row"
        )
    if hole is None:
        best, inside = rewards.amax(-1, keepdim=True), rewards
    else:  # outcomes off the support have no weight, but must not precede the best
        best = rewards.masked_fill(hole, -torch.inf).amax(-1, keepdim=True)
        inside = torch.where(hole, best, rewards)
    with torch.no_grad():
        gap = _solve_gap(weights, inside, best)
    if torch.is_grad_enabled() and (ref_logprobs.requires_grad or rewards.requires_grad or kl.requires_grad):
        gap = _newton(gap, kl * ref_logprobs.exp(), best - inside)
    if hole is not None:
        return _with_off_support(ref_logprobs, rewards, kl, best, gap, hole)
    if gap.requires_grad:
        logprobs = ref_logprobs + kl.log() - (gap + (best - rewards)).log()
    else:
        logprobs = weights  # reuses its memory
        log_kl = kl.log()
        for out, logs, scores in _pieces(logprobs, ref_logprobs, rewards):
            torch.sub(best, scores, out=out).add_(gap).log_()
            torch.sub(logs, out, out=out).add_(log_kl)
    return ForwardKLTarget(
        logprobs=logprobs,
        multiplier=(gap + best).squeeze(-1),
        off_support_mass=torch.zeros_like(gap).squeeze(-1),
    )


def _with_off_support(
    ref_logprobs: Tensor, rewards: Tensor, kl: Tensor, best: Tensor, gap: Tensor, hole: Tensor
) -> ForwardKLTarget:
    """The optimum if the reference has holes: Λ must be at least the best reward in a hole.

    A hole is an outcome with zero probability under the reference, or too small for this precision.
    """
    outside = rewards.masked_fill(~hole, -torch.inf).amax(-1, keepdim=True)
    has_mass_outside = outside - best > gap
    gap = torch.where(has_mass_outside, outside - best, gap)
    distance = gap + (best - rewards)  # Λ − R
    apart = distance > 0
    log_inside = ref_logprobs + kl.log() - torch.where(apart, distance, 1).log()
    log_inside = torch.where(apart & ~ref_logprobs.isneginf(), log_inside, -torch.inf)
    inside = torch.where(hole, 0, log_inside.exp()).sum(-1, keepdim=True)
    off_mass = torch.where(has_mass_outside, (1 - inside).clamp(min=0), 0)
    winners = has_mass_outside & hole & (rewards == outside)
    share = off_mass / winners.sum(-1, keepdim=True).clamp(min=1)
    return ForwardKLTarget(
        logprobs=torch.where(winners, torch.where(winners, share, 1).log(), log_inside),
        multiplier=(gap + best).squeeze(-1),
        off_support_mass=off_mass.squeeze(-1),
    )


def forward_kl_mara_rewards(
    ref_logprobs: Tensor, rewards: Tensor, *, beta: float | Tensor, threshold: float | Tensor
) -> Tensor:
    """Rewards whose forward-KL-regularised optimum is uniform above a threshold.

    R̄(y) = R(z) + (β/u) (π_ref(z) − π_ref(y)) where R ≥ τ,  R elsewhere,  z = argmax_{R ≥ τ} π_ref
    |S| u + Σ_{R < τ} β π_ref / (R(z) + β π_ref(z)/u − R) = 1,   S = {R ≥ τ} within the support

    u is the probability of each good outcome at that optimum, which `forward_kl_target` of R̄ gives. MARA's
    own rewards are not uniform under a forward KL: as β → 0 the *least* likely good outcome takes nearly all.
    u depends on all outcomes at once, so this is for enumerable spaces, not for sampled batches.

    ref_logprobs, rewards: (..., K), nats; threshold a number or of the leading shape. Ties for z go to the
    highest reward. A good outcome outside the support gets R(z), which keeps it at 0; a row without a good
    outcome in its support keeps its rewards. R̄ − R(z) is about |S| β π_ref(z), so R(z) should not dwarf it:
    in float64 the masses then have errors of about 1e-16 R(z) / (β π_ref). Returns R̄, (..., K).

    Raises InputError as `forward_kl_target` does, and for a NaN threshold. Source: MARA's Remark 3.3 solved
    for the rewards of a uniform optimum; not in the papers.

    >>> ref = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
    >>> rewards = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    >>> new = forward_kl_mara_rewards(ref, rewards, beta=0.1, threshold=0.9)
    >>> forward_kl_target(ref, new, beta=0.1).logprobs.exp()
    tensor([0.4955, 0.4955, 0.0089], dtype=torch.float64)
    """
    check_outcomes(ref_logprobs, rewards)
    kl = per_outcome("beta", beta, rewards)
    tau = per_outcome("threshold", threshold, rewards, may_be_negative=True)
    if bool((kl <= 0).any()):
        raise InputError("`beta` must be above 0: MARA moves mass by the reference's probabilities")
    support = ~ref_logprobs.isneginf()
    good = (rewards >= tau) & support
    anchor_logprob, anchor_reward = anchor_of(ref_logprobs, rewards, good)
    has_good = good.any(-1, keepdim=True)
    # Each good outcome is replaced by one with the anchor's probability and reward, the best of all.
    weights = kl * torch.where(good, anchor_logprob, ref_logprobs).exp()
    best = torch.where(has_good, anchor_reward, 0)
    inside = torch.where(good | ~support | ~has_good, best, rewards)
    with torch.no_grad():
        gap = _solve_gap(weights, inside, best)
    gap = _newton(gap, weights, best - inside)
    lift = torch.where(good, -gap * torch.expm1(ref_logprobs - anchor_logprob), 0)
    augmented = has_good & (rewards >= tau)
    return torch.where(augmented, anchor_reward + lift, rewards)


def anchor_of(ref_logprobs: Tensor, rewards: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
    """MARA's anchor z of each row: log π_ref(z) and R(z), (..., 1); −inf where no outcome is good."""
    anchor_logprob = ref_logprobs.masked_fill(~good, -torch.inf).amax(-1, keepdim=True)
    is_anchor = good & (ref_logprobs == anchor_logprob)
    return anchor_logprob, rewards.masked_fill(~is_anchor, -torch.inf).amax(-1, keepdim=True)


def _solve_gap(weights: Tensor, rewards: Tensor, best: Tensor) -> Tensor:
    """The s > 0 with f(s) = Σ weights / (s + best − rewards) = 1, (..., 1); no gradient.

    Newton's method on 1/f(s) − 1, which is concave: from wherever it starts, all steps but the first rise
    from below, and a relative rise of x leaves a relative error of x² at most. It starts at the root of every
    64th outcome alone, with the weight of all, or at the lower bracket, the largest weight − distance.
    """
    gap = _sampled_gap(weights, rewards, best) if weights.shape[-1] > _FEW else None
    if gap is not None:
        gap = gap + _newton_step(gap, weights, rewards, best)
    if gap is None or not bool((gap > _least(weights)).all()):  # no start, or the step overflowed
        brackets = [(w - (best - r)).amax(-1, keepdim=True) for w, r in _pieces(weights, rewards)]
        low = torch.stack(brackets).amax(0).clamp(min=_least(weights))
        gap = low if gap is None else torch.maximum(gap.nan_to_num(posinf=0), low)
    for _ in range(_MOST_STEPS):
        step = _newton_step(gap, weights, rewards, best)
        gap = gap + step.clamp(min=0)
        if bool((step <= _CLOSE * gap).all()):
            return gap
    raise RunError(f"Λ was not reached in {_MOST_STEPS} steps of Newton's method")


def _sampled_gap(weights: Tensor, rewards: Tensor, best: Tensor) -> Tensor | None:
    """The gap for every 64th outcome with the total weight; None if these have no weight."""
    few = weights[..., ::_STRIDE]
    total = few.sum(-1, keepdim=True)
    if not bool((total > _least(weights)).all()):
        return None
    share = weights.sum(-1, keepdim=True) / total
    return _solve_gap(few * share, rewards[..., ::_STRIDE], best)


def _newton_step(gap: Tensor, weights: Tensor, rewards: Tensor, best: Tensor) -> Tensor:
    """F (f − 1) / Σ weights / (s + best − rewards)² at s = gap, (..., 1)."""
    total, slope = torch.zeros_like(gap), torch.zeros_like(gap)
    for w, r in _pieces(weights, rewards):
        inverse = (best - r).add_(gap).reciprocal_()
        terms = w * inverse
        total += terms.sum(-1, keepdim=True)
        slope += terms.mul_(inverse).sum(-1, keepdim=True)
    return total * (total - 1) / slope


def _least(weights: Tensor) -> float:
    """The smallest weight or gap with a finite reciprocal; smaller values count as 0."""
    return 16 * torch.finfo(weights.dtype).tiny


def _newton(gap: Tensor, weights: Tensor, distance: Tensor) -> Tensor:
    """One more step of `_solve_gap` at its root, which carries the gradients."""
    terms = weights / (gap + distance)
    total = terms.sum(-1, keepdim=True)
    return gap + total * (total - 1) / (terms / (gap + distance)).sum(-1, keepdim=True).detach()


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same chunks of several tensors, small enough to stay in a core's cache."""
    return zip(*(torch.split(tensor, _PIECE, -1) for tensor in tensors), strict=True)


def _from_best(rewards: Tensor) -> Tensor:
    """R − max R: the same optimum, without loss of digits of R/β to a common offset if β is small."""
    return rewards - rewards.amax(-1, keepdim=True)
