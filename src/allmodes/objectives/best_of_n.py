"""Best-of-N: train for the best of k samples instead of the mean."""

import torch
from torch import Tensor

from allmodes.checks import check_finite, check_vector
from allmodes.errors import InputError
from allmodes.objectives.groups import group_size, make_groups, sort_within_groups


def best_of_n_rewards(rewards: Tensor, *, k: int | None = None, group_ids: Tensor | None = None) -> Tensor:
    r"""The contribution of each sample to the maximum of k samples of its group, averaged over subsets.

    r̄_i = mean over S ∋ i, |S| = k of max(S) − max(S \ i)
        = [C(j−1, k−1) r_(j) − Σ_{m<j} C(m−1, k−2) r_(m)] / C(n−1, k−1),   j the rank of i from 1

    k None is the whole group: max(r) − max(r without i), which is 0 except for the best sample. k = 1 leaves
    the rewards unchanged. k times the policy gradient on these is an unbiased gradient of E[max of k
    samples]; subtract no further baseline. rewards: (N,), float64 internally. group_ids: (N,) integers or
    None for one group.

    Raises InputError for rewards that are not finite, or k below 1 or above the size of a group.
    Source: Tang et al. 2025, with the average over subsets in closed form.

    >>> best_of_n_rewards(torch.tensor([0.0, 0.5, 1.0]), k=2)
    tensor([0.0000, 0.2500, 0.7500])
    """
    check_vector("rewards", rewards)
    check_finite("rewards", rewards)
    groups = make_groups(group_ids, rewards)
    if len(rewards) == 0:
        return rewards.clone()
    size = group_size(groups)
    smallest = int(size[size > 0].min())
    if k is not None and not 1 <= k <= smallest:
        raise InputError(f"`k` must lie between 1 and the smallest group's size, {smallest}; got {k}")
    order, rank = sort_within_groups(rewards, groups)
    group = groups.index[order]
    below = rank.double()  # number of smaller rewards in the group, j − 1
    others = size[group].double() - 1
    drawn = others if k is None else torch.full_like(others, k - 1)  # k − 1
    value = rewards[order].double()
    log_ways = _log_choose(others, drawn)
    own = torch.exp(_log_choose(below, drawn) - log_ways) * value
    share = torch.exp(_log_choose(below, drawn - 1) - log_ways) * value
    added = torch.empty_like(rewards)
    added[order] = (own - _sum_before(share, rank)).to(rewards.dtype)
    return added


def _sum_before(values: Tensor, rank: Tensor) -> Tensor:
    """Sum of the values of lower rank in the same group, for samples sorted by group and rank.

    By doubling, so that no sum spans two groups: large values of one would round off small ones of the other.
    """
    total = torch.where(rank > 0, values.roll(1), 0)
    step, largest = 1, int(rank.max()) + 1
    while step < largest:
        total = total + torch.where(rank >= step, total.roll(step), 0)
        step *= 2
    return total


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """Logarithm of C(n, k), −inf where k is outside 0 .. n."""
    inside = (k >= 0) & (k <= n)
    n, k = torch.where(inside, n, 0), torch.where(inside, k, 0)
    value = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return torch.where(inside, value, -torch.inf)
