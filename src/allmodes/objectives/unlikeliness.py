"""Unlikeliness: among samples of equal reward, those less likely under the policy count more."""

import torch
from torch import Tensor

from allmodes.checks import check_finite, check_fraction, check_same_shape, check_vector
from allmodes.errors import InputError
from allmodes.objectives.groups import group_size, make_groups, sort_within_groups


def unlikeliness_rewards(
    rewards: Tensor, mean_logprobs: Tensor, *, strength: float, group_ids: Tensor | None = None
) -> Tensor:
    """Scale down each reward by the rank of the sample's likelihood within its group.

    r̄_i = r_i (1 − b · rank_i / G),   rank 0 the least likely, ties share their mean rank

    rewards: (N,), not negative, since the factor would then favour likely samples; NaN stays NaN, and its
    sample still has a rank. mean_logprobs: (N,), mean log-probability per token, nats. strength: b from 0 to
    1, 0.25 in the paper. group_ids: (N,) integers or None for one group.

    Raises InputError for shapes that disagree, a negative reward, log-probabilities that are not finite, or b
    outside [0, 1]. Source: He et al. 2025, equation 6.

    >>> unlikeliness_rewards(torch.ones(4), torch.tensor([-0.1, -0.2, -0.3, -0.4]), strength=0.25)
    tensor([0.8125, 0.8750, 0.9375, 1.0000])
    """
    check_vector("rewards", rewards)
    check_vector("mean_logprobs", mean_logprobs)
    check_same_shape("mean_logprobs", mean_logprobs, "rewards", rewards)
    check_finite("mean_logprobs", mean_logprobs)
    check_fraction("strength", strength)
    if bool((rewards < 0).any()):
        raise InputError(
            f"`rewards` must not be negative for unlikeliness: it would favour likely samples; "
            f"got {float(rewards[rewards < 0][0])}"
        )
    groups = make_groups(group_ids, rewards)
    order, rank = sort_within_groups(mean_logprobs, groups)
    group, value = groups.index[order], mean_logprobs[order]
    is_new = torch.ones_like(order, dtype=torch.bool)
    is_new[1:] = (group[1:] != group[:-1]) | (value[1:] != value[:-1])
    tie = is_new.cumsum(0) - 1
    # float64, since half precision cannot hold the sum or mean of some hundred ranks
    count = torch.bincount(tie).double()
    total = torch.zeros_like(count).index_add_(0, tie, rank.double())
    ranks = torch.empty_like(rewards, dtype=torch.float64)
    ranks[order] = (total / count)[tie]
    return rewards * (1 - strength * ranks / group_size(groups)[groups.index]).to(rewards.dtype)
