"""Probability ratios at the reverse-KL optimum, and whether an optimum is multimodal in reward."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from allmodes.checks import check_finite, check_outcome_dimension, check_positive, check_same_shape
from allmodes.errors import InputError
from allmodes.targets.exact import anchor_of
from allmodes.targets.inputs import per_outcome


def log_ratio(ref_logprobs: Tensor, rewards: Tensor, *, beta: float | Tensor) -> Tensor:
    """Log-ratios of all pairs of outcomes at the reverse-KL optimum.

    log G(y_i)/G(y_j) = log π_ref(y_i)/π_ref(y_j) + (R(y_i) − R(y_j))/β

    ref_logprobs, rewards: (..., K), nats, normalised or not; β a number or of the leading shape. Returns
    (..., K, K), row i over column j.

    Raises InputError for shapes that disagree, values that are not finite, or β ≤ 0.
    Source: MARA, equation 7.

    >>> ref = torch.tensor([0.8, 0.2]).log()
    >>> log_ratio(ref, torch.tensor([0.0, 1.0]), beta=0.5)
    tensor([[ 0.0000, -0.6137],
            [ 0.6137,  0.0000]])
    """
    check_same_shape("ref_logprobs", ref_logprobs, "rewards", rewards)
    check_finite("ref_logprobs", ref_logprobs)
    check_finite("rewards", rewards)
    check_positive("beta", beta)
    weight = per_outcome("beta", beta, rewards)
    return (ref_logprobs.unsqueeze(-1) - ref_logprobs.unsqueeze(-2)) + (
        rewards.unsqueeze(-1) - rewards.unsqueeze(-2)
    ) / (weight.unsqueeze(-1) if weight.ndim else weight)


@final
@dataclass(frozen=True, kw_only=True)
class PredictedRatios:
    """The likeliest samples of an optimum, in descending order.

    log_ratios: (..., top), nats, relative to the last of them, which has 0. indices: (..., top), the samples.
    """

    log_ratios: Tensor
    indices: Tensor


def predicted_ratios(
    ref_logprobs: Tensor, rewards: Tensor, *, beta: float | Tensor, top: int
) -> PredictedRatios:
    """Log-ratios of the top samples at the reverse-KL optimum, relative to the last of them.

    sᵢ = log π_ref(yᵢ) + R(yᵢ)/β,   log G(y₍ₖ₎)/G(y₍top₎) = s₍ₖ₎ − s₍top₎,   s₍₁₎ ≥ … ≥ s₍top₎

    ref_logprobs, rewards: (..., N), nats, of samples: they need not sum to 1, and one that was drawn twice
    counts twice; β a number or of the leading shape. Ties: the lower index first.

    Raises InputError for shapes that disagree, values that are not finite, β ≤ 0, or top outside 1 .. N.
    Source: MARA, Proposition 4.1, appendix C.4 and Figure 11c (β = 0.01, the top 16 of 1024).

    >>> ref = torch.tensor([0.6, 0.3, 0.1]).log()
    >>> predicted_ratios(ref, torch.tensor([1.0, 1.0, 0.0]), beta=0.1, top=2)
    PredictedRatios(log_ratios=tensor([0.6931, 0.0000]), indices=tensor([0, 1]))
    """
    check_same_shape("ref_logprobs", ref_logprobs, "rewards", rewards)
    check_outcome_dimension("ref_logprobs", ref_logprobs)
    check_outcome_dimension("rewards", rewards)
    check_finite("ref_logprobs", ref_logprobs)
    check_finite("rewards", rewards)
    check_positive("beta", beta)
    if not 1 <= top <= rewards.shape[-1]:
        raise InputError(f"`top` must lie between 1 and the samples, {rewards.shape[-1]}; got {top}")
    exact = rewards.double()  # in float32 a large R/β would drown differences of log π_ref
    scores = ref_logprobs.double() + exact / per_outcome("beta", beta, exact)
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    best = ordered[..., :top]
    return PredictedRatios(
        log_ratios=(best - best[..., -1:]).to(ref_logprobs.dtype), indices=order[..., :top]
    )


def flip_beta(reward_1: Tensor, reward_2: Tensor, ref_logprob_1: Tensor, ref_logprob_2: Tensor) -> Tensor:
    """Regularisation strength at which two samples become equally likely at the reverse-KL optimum.

    β* = (R₂ − R₁) / (log π_ref(y₁) − log π_ref(y₂))

    All inputs broadcast; log-probabilities are in nats. Returns +inf where the reference gives both samples
    the same probability, a negative value or 0 if no positive β makes them equal, and NaN for NaN.

    Source: MARA, Remark 4.4.

    >>> rewards, ref = torch.tensor([0.8, 1.0]), torch.tensor([0.9, 0.1]).log()
    >>> flip_beta(rewards[0], rewards[1], ref[0], ref[1])  # above it the worse answer is likelier
    tensor(0.0910)
    """
    gap = ref_logprob_1 - ref_logprob_2
    ratio = (reward_2 - reward_1) / torch.where(gap == 0, 1, gap)
    return torch.where(gap == 0, torch.inf, ratio)


def is_reward_multimodal(
    logprobs: Tensor, rewards: Tensor, *, threshold: float | Tensor, tolerance: float
) -> Tensor:
    """Whether a distribution is reward-multimodal at a threshold, (...) of booleans.

    Every outcome with R ≥ τ is likelier than every one with R < τ, and the log-probabilities of those with
    R ≥ τ differ by at most `tolerance` nats. logprobs, rewards: (..., K). False without an outcome at τ.

    Raises InputError for shapes that disagree, NaN, or a negative tolerance. Source: MARA, Definition 3.5.

    >>> rewards = torch.tensor([1.0, 1.0, 0.0])
    >>> is_reward_multimodal(torch.tensor([0.5, 0.4, 0.1]).log(), rewards, threshold=0.9, tolerance=0.5)
    tensor(True)
    """
    check_same_shape("logprobs", logprobs, "rewards", rewards)
    check_finite("rewards", rewards)
    if not tolerance >= 0:
        raise InputError(f"`tolerance` must not be negative; got {tolerance}")
    if bool(logprobs.isnan().any()):
        raise InputError("`logprobs` must not be NaN")
    good = rewards >= per_outcome("threshold", threshold, rewards, may_be_negative=True)
    least_good = logprobs.masked_fill(~good, torch.inf).amin(-1)
    most_good = logprobs.masked_fill(~good, -torch.inf).amax(-1)
    most_bad = logprobs.masked_fill(good, -torch.inf).amax(-1)
    is_above = (least_good > most_bad) | good.all(-1)
    is_level = (most_good == least_good) | (most_good - least_good <= tolerance)
    return good.any(-1) & is_above & is_level


def mara_beta_bound(ref_logprobs: Tensor, rewards: Tensor, *, threshold: float | Tensor) -> Tensor:
    """The β below which MARA's optimum under reverse KL is reward-multimodal, (...).

    β < min over y with R(y) < τ and π_ref(y) > π_ref(z) of (R(z) − R(y)) / log(π_ref(y)/π_ref(z))

    z is MARA's anchor. ref_logprobs, rewards: (..., K), nats, normalised or not. +inf where no outcome below
    τ is likelier than the anchor, so any β works. NaN if no outcome in the support reaches τ.

    Raises InputError for shapes that disagree or rewards that are not finite. Source: MARA, Remark B.3; the
    bound follows from Definition 3.5.

    >>> ref = torch.tensor([0.1, 0.9]).log()
    >>> mara_beta_bound(ref, torch.tensor([1.0, 0.8]), threshold=0.9)
    tensor(0.0910)
    """
    check_same_shape("ref_logprobs", ref_logprobs, "rewards", rewards)
    check_finite("rewards", rewards)
    tau = per_outcome("threshold", threshold, rewards, may_be_negative=True)
    good = (rewards >= tau) & ~ref_logprobs.isneginf()
    anchor_logprob, anchor_reward = anchor_of(ref_logprobs, rewards, good)
    gap = ref_logprobs - anchor_logprob
    competes = (rewards < tau) & (gap > 0)
    bounds = torch.where(competes, (anchor_reward - rewards) / torch.where(competes, gap, 1), torch.inf)
    return torch.where(good.any(-1), bounds.amin(-1), torch.nan)
