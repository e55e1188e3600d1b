"""Mode-anchored reward augmentation: rewards whose optimum is uniform above a threshold."""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from allmodes.checks import (
    check_choice,
    check_finite,
    check_mask,
    check_positive,
    check_same_shape,
    check_vector,
)
from allmodes.errors import InputError
from allmodes.objectives.groups import group_argmax, make_groups

Anchor = Literal["group", "leave_one_out"]


@final
@dataclass(frozen=True, kw_only=True)
class MaraResult:
    """The result of MARA for a batch; all of shape (N,).

    rewards: r̄ (Algorithm 1). anchor_rewards and ref_logprobs: the pair (R(z), log π_ref(z)) that
    Algorithm 2 uses instead of (R, log π_ref); the original pair for samples that are not augmented (with a
    cap, the second is log π_ref(y) plus the capped gap, so that both algorithms stay equal).
    anchor_index: the anchor's position in the batch, −1 if there is none. augmented: which samples were
    changed. bonus: r̄ − R, in units of reward, 0 for samples that are not augmented.
    """

    rewards: Tensor
    anchor_rewards: Tensor
    ref_logprobs: Tensor
    anchor_index: Tensor
    augmented: Tensor
    bonus: Tensor


def mara_rewards(
    rewards: Tensor,
    ref_logprobs: Tensor,
    *,
    beta: float | Tensor,
    threshold: float | Tensor,
    group_ids: Tensor | None = None,
    anchor: Anchor = "group",
    mask: Tensor | None = None,
    max_gap_bonus: float | None = None,
) -> MaraResult:
    """Give every good sample of a group the same probability in the target distribution.

    z = argmax_{i: R(y_i) ≥ τ} log π_ref(y_i)
    r̄_i = R(z) + β (log π_ref(z) − log π_ref(y_i))   where R(y_i) ≥ τ,   else R(y_i)

    rewards, ref_logprobs: (N,), ref_logprobs of whole sequences in nats. beta, threshold: numbers or (N,).
    group_ids: (N,) integers; None is one group. Ties for the anchor go to the highest reward, then to the
    lowest index. A group with no sample at τ keeps its rewards. A NaN reward is never an anchor, is never
    augmented, and stays NaN. mask: (N,), False keeps a sample out in the same way: an empty completion has
    log π_ref = 0 and would win the argmax.

    anchor "group" is the paper's. Its z depends on whether y_i itself was drawn, which favours likely
    samples in small groups: for 20 good outcomes with log π_ref evenly spaced over 6 nats, the ratio of the
    largest to the smallest optimal mass is 2.6 in groups of 4 and 1.23 in groups of 16. "leave_one_out" takes
    z from the other good samples of the group, which removes this bias; a single good sample keeps its
    reward. This holds for rewards without a baseline. A baseline over the same group (its mean, or
    leave-one-out) depends on the sample through the anchors of the others: it adds a bias to
    "leave_one_out" and cancels most of the bias of "group", which is then the better anchor.

    max_gap_bonus: cap on β (log π_ref(z) − log π_ref(y)), in units of reward; None is no cap, as in the
    paper. Without a cap the term is unbounded and grows with the length of the sequences.

    Raises InputError for shapes that disagree, β ≤ 0, a NaN threshold, or a reward or log π_ref that is not
    finite at a good sample. Source: MARA, equation 11, Algorithms 1 and 2.

    >>> rewards = torch.tensor([1.0, 1.0, 0.0])
    >>> ref_logprobs = torch.tensor([-2.0, -7.0, -3.0])
    >>> mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=0.9).rewards
    tensor([1.0000, 1.5000, 0.0000])
    """
    check_vector("rewards", rewards)
    check_vector("ref_logprobs", ref_logprobs)
    check_same_shape("ref_logprobs", ref_logprobs, "rewards", rewards)
    check_positive("beta", beta)
    if isinstance(beta, Tensor) and beta.ndim > 0:
        check_same_shape("beta", beta, "rewards", rewards)
    check_choice("anchor", anchor, ("group", "leave_one_out"))
    if max_gap_bonus is not None:
        check_positive("max_gap_bonus", max_gap_bonus)
    good = rewards >= _threshold_tensor(threshold, rewards)  # False if the reward is NaN
    if mask is not None:
        check_mask("mask", mask, "rewards", rewards)
        good = good & mask
    check_finite("ref_logprobs (where rewards reach the threshold)", torch.where(good, ref_logprobs, 0))
    check_finite("rewards (where they reach the threshold)", torch.where(good, rewards, 0))

    groups = make_groups(group_ids, rewards)
    best = group_argmax(ref_logprobs, groups, tie_break=rewards, mask=good)
    anchor_index = torch.where(good, best[groups.index], -1)
    if anchor == "leave_one_out":
        # Only the best sample of a group has a different anchor: the second best.
        is_best = torch.zeros_like(good)
        is_best[best[best >= 0]] = True
        second = group_argmax(ref_logprobs, groups, tie_break=rewards, mask=good & ~is_best)
        anchor_index = torch.where(is_best, second[groups.index], anchor_index)
    augmented = anchor_index >= 0
    z = anchor_index.clamp(min=0)

    gap = ref_logprobs[z] - ref_logprobs
    if max_gap_bonus is not None:
        gap = gap.clamp(max=max_gap_bonus / beta)
    anchor_rewards = torch.where(augmented, rewards[z], rewards)
    bonus = torch.where(augmented, anchor_rewards - rewards + beta * gap, 0)
    return MaraResult(
        rewards=torch.where(augmented, anchor_rewards + beta * gap, rewards),
        anchor_rewards=anchor_rewards,
        ref_logprobs=torch.where(augmented, ref_logprobs + gap, ref_logprobs),
        anchor_index=anchor_index,
        augmented=augmented,
        bonus=bonus,
    )


def _threshold_tensor(threshold: float | Tensor, rewards: Tensor) -> Tensor:
    tau = torch.as_tensor(threshold, dtype=rewards.dtype, device=rewards.device)
    if tau.ndim > 0:
        check_same_shape("threshold", tau, "rewards", rewards)
    if bool(tau.isnan().any()):
        raise InputError("`threshold` must not be NaN")
    return tau
