"""Statistics per group of samples, vectorised over any number of groups of any sizes.

A group is the set of samples that share an id. Values of shape (N,) reduce to one value per group, (P,);
`groups.index` spreads them back: `group_max(values, groups)[groups.index]`.
"""

from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor

from allmodes.checks import check_ids


@final
@dataclass(frozen=True, kw_only=True)
class Groups:
    """index: (N,) the group of each sample, from 0 to count − 1. A group may be empty."""

    index: Tensor
    count: int


def make_groups(group_ids: Tensor | None, like: Tensor) -> Groups:
    """Groups from integer ids of shape (N,) like `like`; None puts all samples into one group."""
    if group_ids is None:
        return Groups(index=torch.zeros(len(like), dtype=torch.long, device=like.device), count=1)
    check_ids("group_ids", group_ids, "rewards", like)
    if len(group_ids) == 0:
        return Groups(index=group_ids.long(), count=0)
    smallest, largest = (int(bound) for bound in torch.aminmax(group_ids))
    if smallest >= 0 and largest < 2 * len(group_ids):  # dense enough, so no sort is needed
        return Groups(index=group_ids.long(), count=largest + 1)
    index, counts = _unique(group_ids)
    return Groups(index=index, count=len(counts))


def group_sum(values: Tensor, groups: Groups) -> Tensor:
    """Sum of each group, (P,); 0 for an empty group."""
    return values.new_zeros(groups.count).index_add_(0, groups.index, values)


def group_common(values: Tensor, groups: Groups) -> Tensor:
    """The common value of all samples of a group, (P,); 0 for an empty group."""
    return values.new_zeros(groups.count).scatter_(0, groups.index, values)


def group_size(groups: Groups, mask: Tensor | None = None) -> Tensor:
    """Number of samples (where `mask`) in each group, (P,), integers."""
    if mask is None:
        return torch.bincount(groups.index, minlength=groups.count)
    return mask.new_zeros(groups.count, dtype=torch.long).index_add_(0, groups.index, mask.long())


def group_max(values: Tensor, groups: Groups) -> Tensor:
    """Largest value of each group, (P,); −inf for an empty group."""
    start = values.new_full((groups.count,), -torch.inf)
    return start.scatter_reduce_(0, groups.index, values, "amax")


def group_min(values: Tensor, groups: Groups) -> Tensor:
    """Smallest value of each group, (P,); +inf for an empty group."""
    return -group_max(-values, groups)


def group_logsumexp(values: Tensor, groups: Groups) -> Tensor:
    """Log Σ e^value of each group, (P,); −inf for an empty group. A value may be −inf."""
    top = group_max(values, groups)
    safe = torch.where(top.isneginf(), 0, top)
    return safe + group_sum(torch.exp(values - safe[groups.index]), groups).log()


def group_first(groups: Groups) -> Tensor:
    """Index of each group's first sample, (P,); the number of samples for an empty group."""
    count = len(groups.index)
    first = groups.index.new_full((groups.count,), count)
    return first.scatter_reduce_(0, groups.index, torch.arange(count, device=first.device), "amin")


def group_argmax(values: Tensor, groups: Groups, *, tie_break: Tensor, mask: Tensor) -> Tensor:
    """Index of the largest value among the masked samples of each group, (P,); −1 if there is none.

    Ties go to the largest `tie_break`, then to the lowest index. `values` (N,) must not be NaN under
    the mask.
    """
    rows = mask.nonzero().squeeze(1)
    for key in (values, tie_break):
        within = Groups(index=groups.index[rows], count=groups.count)
        candidate = key[rows]
        rows = rows[candidate == group_max(candidate, within)[within.index]]
    winner = torch.full((groups.count,), len(values), dtype=torch.long, device=values.device)
    winner.scatter_reduce_(0, groups.index[rows], rows, "amin")
    return winner.masked_fill_(winner == len(values), -1)


def group_mean(values: Tensor, groups: Groups) -> Tensor:
    """Mean of each group without NaN values, (P,); NaN if none is left."""
    scored = ~values.isnan()
    size = group_size(groups, scored)
    return group_sum(torch.where(scored, values, 0), groups) / size


def group_std(values: Tensor, groups: Groups) -> Tensor:
    """Standard deviation of each group without NaN values, divisor n − 1, (P,); 0 for fewer than two."""
    centred = values - group_mean(values, groups)[groups.index]
    scored = ~values.isnan()
    size = group_size(groups, scored)
    squares = group_sum(torch.where(scored, centred, 0).square(), groups)
    return (squares / (size - 1).clamp(min=1)).sqrt()


def group_quantile(values: Tensor, groups: Groups, *, q: float) -> Tensor:
    """Quantile of each group without NaN values, linear interpolation, (P,); NaN if none is left."""
    scored = (~values.isnan()).nonzero().squeeze(1)
    order, _ = sort_within_groups(values[scored], Groups(index=groups.index[scored], count=groups.count))
    by_group = scored[order]
    size = torch.bincount(groups.index[by_group], minlength=groups.count)
    if len(by_group) == 0:
        return values.new_full((groups.count,), torch.nan)
    position = q * (size - 1).clamp(min=0).double()
    start = size.cumsum(0) - size
    last = len(by_group) - 1
    lower = values[by_group[(start + position.floor().long()).clamp(max=last)]]
    upper = values[by_group[(start + position.ceil().long()).clamp(max=last)]]
    weight = (position - position.floor()).to(values.dtype)
    return torch.where(size > 0, torch.lerp(lower, upper, weight), torch.nan)


def outcome_frequency(outcome_ids: Tensor, groups: Groups) -> Tensor:
    """Share of each sample's group with the sample's outcome, p̂ = n/G, (N,), float64."""
    pairs = pair_groups(outcome_ids, groups)
    return group_size(pairs)[pairs.index].double() / group_size(groups)[groups.index]


def pair_groups(outcome_ids: Tensor, groups: Groups) -> Groups:
    """Groups of the samples that share both their group and their outcome."""
    outcome, outcomes = _unique(outcome_ids)
    index, counts = _unique(groups.index * len(outcomes) + outcome)
    return Groups(index=index, count=len(counts))


def sort_within_groups(values: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """Samples sorted by group and value, and the rank of each in its group, from 0.

    Both (N,), for values without NaN. Equal values keep their order.
    """
    by_value = torch.argsort(values, stable=True)
    order = by_value[torch.argsort(groups.index[by_value], stable=True)]
    size = group_size(groups)
    start = size.cumsum(0) - size
    return order, torch.arange(len(values), device=values.device) - start[groups.index[order]]


def _unique(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Each id's rank among the distinct ids, (N,), and the count of each distinct id, (U,)."""
    found = torch.unique(ids, return_inverse=True, return_counts=True)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    _, inverse, counts = cast("tuple[Tensor, Tensor, Tensor]", found)
    return inverse, counts
