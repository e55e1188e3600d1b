"""Advantages: the reward of a sample relative to its group."""

from typing import Literal

import torch
from torch import Tensor

from allmodes.checks import check_choice, check_vector
from allmodes.objectives.groups import group_mean, group_size, group_std, group_sum, make_groups

Scale = Literal["none", "group", "batch"]


def group_advantages(
    rewards: Tensor, group_ids: Tensor | None, *, scale: Scale, epsilon: float = 1e-4
) -> Tensor:
    """Rewards minus their group's mean, optionally over a standard deviation.

    A_i = (r_i − mean(r)) / (std(r) + ε)   with std of the group, of the batch, or 1 for scale "none"

    rewards: (N,), group_ids: (N,) integers or None for one group. Divisor n − 1 in std. A NaN reward is left
    out of mean and std, and its advantage is NaN. scale "group" together with a KL in the loss changes the
    optimum of MARA; see docs/architecture.md.

    Raises InputError for shapes that disagree or an unknown scale. Source: GRPO, Shao et al. 2024.

    >>> group_ids = torch.tensor([0, 0, 1, 1])
    >>> group_advantages(torch.tensor([1.0, 0.0, 1.0, 1.0]), group_ids, scale="none")
    tensor([ 0.5000, -0.5000,  0.0000,  0.0000])
    """
    check_vector("rewards", rewards)
    check_choice("scale", scale, ("none", "group", "batch"))
    groups = make_groups(group_ids, rewards)
    advantages = rewards - group_mean(rewards, groups)[groups.index]
    if scale == "none":
        return advantages
    scaled_over = groups if scale == "group" else make_groups(None, rewards)
    return advantages / (group_std(rewards, scaled_over)[scaled_over.index] + epsilon)


def leave_one_out_advantages(rewards: Tensor, group_ids: Tensor | None) -> Tensor:
    """Rewards minus the mean of the *other* samples of the group.

    A_i = r_i − mean_{j≠i} r_j = n/(n−1) · (r_i − mean(r))

    rewards: (N,), group_ids: (N,) integers or None for one group. A NaN reward is left out, and its advantage
    is NaN; a sample with no other scored sample in its group has advantage 0.

    Raises InputError for shapes that disagree. Source: RLOO, Kool et al. 2019, Ahmadian et al. 2024.

    >>> leave_one_out_advantages(torch.tensor([1.0, 0.0, 0.0]), None)
    tensor([ 1.0000, -0.5000, -0.5000])
    """
    check_vector("rewards", rewards)
    groups = make_groups(group_ids, rewards)
    scored = ~rewards.isnan()
    size = group_size(groups, scored).to(rewards.dtype)
    total = group_sum(torch.where(scored, rewards, 0), groups)
    spread = size / (size - 1).clamp(min=1)  # a single sample gets 0
    return (rewards - (total / size)[groups.index]) * spread[groups.index]
