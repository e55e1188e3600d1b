"""Thresholds: the smallest reward τ of a good sample.

Each threshold is called with rewards (N,) and group ids (N,) or None and returns τ of every sample, (N,).
τ = +inf means that no sample of that group counts as good.

A quantile of one batch cannot distinguish "all samples are equally good" from "no sample is good", since all
rewards are equal in both cases. A training therefore passes its last τ to the next call, in your own loop by

    tau = None
    for rewards in batches:
        tau = BatchQuantile(0.9)(rewards, last=tau)

and by `remembered_threshold` if the state must be saved.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from allmodes.checks import check_fraction, check_same_shape, check_vector
from allmodes.errors import InputError
from allmodes.objectives.groups import group_first, group_min, group_quantile, make_groups

ThresholdState = Mapping[str, tuple[float | None, float]]


class Threshold(Protocol):
    """A function from rewards and groups to τ of every sample."""

    def __call__(self, rewards: Tensor, group_ids: Tensor | None = None) -> Tensor:
        """τ of each sample, (N,)."""
        ...


@final
@dataclass(frozen=True)
class Constant:
    """The same τ for every sample, for rewards with a known range.

    >>> Constant(0.9)(torch.tensor([1.0, 0.0]))
    tensor([0.9000, 0.9000])
    """

    value: float

    def __call__(self, rewards: Tensor, group_ids: Tensor | None = None) -> Tensor:
        """τ of each sample, (N,). Raises InputError for rewards that are not (N,) floats."""
        check_vector("rewards", rewards)
        return torch.full_like(rewards, self.value)


@final
@dataclass(frozen=True)
class GroupQuantile:
    """The q-quantile of the rewards of a sample's own group.

    A quantile that equals the group's smallest reward gives no information: on binary rewards with few
    successes, the 90th percentile is the reward of a failure, which all samples reach; with only successes,
    it is also the smallest reward. In these cases the previous τ stays. Without a previous τ, it is the
    smallest reward of the group above the smallest reward ever seen; if there is none, no sample is good.

    >>> GroupQuantile(0.5)(torch.tensor([0.0, 0.4, 0.8, 1.0]), torch.tensor([0, 0, 1, 1]))
    tensor([0.2000, 0.2000, 0.9000, 0.9000])
    """

    q: float

    def __post_init__(self) -> None:
        check_fraction("q", self.q)

    def __call__(
        self,
        rewards: Tensor,
        group_ids: Tensor | None = None,
        *,
        last: Tensor | float | None = None,
        smallest: Tensor | float | None = None,
    ) -> Tensor:
        """τ of each sample, (N,).

        last: the previous τ; smallest: the smallest reward seen before. Both are numbers, or values of each
        sample's group, (N,); not finite or None if there are none. Raises InputError for rewards that are not
        (N,) floats, and for other shapes of `last` and `smallest`.
        """
        check_vector("rewards", rewards)
        groups = make_groups(group_ids, rewards)
        known = torch.where(rewards.isnan(), torch.inf, rewards)
        own_smallest = group_min(known, groups)[groups.index]
        quantile = group_quantile(rewards, groups, q=self.q)[groups.index]
        seen = torch.minimum(own_smallest, _before("smallest", smallest, rewards))
        above = group_min(torch.where(known > seen, known, torch.inf), groups)[groups.index]
        before = _before("last", last, rewards)
        return torch.where(quantile > own_smallest, quantile, torch.where(before.isfinite(), before, above))


@final
@dataclass(frozen=True)
class BatchQuantile:
    """The q-quantile of all rewards of the batch (MARA, section 6.2: q = 0.9).

    A quantile that equals the batch's smallest reward is handled as in GroupQuantile, for the whole batch.

    >>> tau = BatchQuantile(0.5)(torch.tensor([0.1, 0.2, 0.9]))
    >>> tau
    tensor([0.2000, 0.2000, 0.2000])
    >>> BatchQuantile(0.5)(torch.tensor([1.0, 1.0]), last=tau)  # equal rewards tell nothing: τ stays
    tensor([0.2000, 0.2000])
    """

    q: float

    def __post_init__(self) -> None:
        check_fraction("q", self.q)

    def __call__(
        self,
        rewards: Tensor,
        group_ids: Tensor | None = None,
        *,
        last: Tensor | float | None = None,
        smallest: float | None = None,
    ) -> Tensor:
        """τ of each sample, (N,), the same for all.

        last: the previous τ: a number, or the result for an earlier batch of any size; not finite or None if
        there was none. smallest: the smallest reward seen before. Raises InputError for rewards that are not
        (N,) floats.
        """
        if last is not None:
            values = torch.as_tensor(last).flatten()
            values = values[values.isfinite()]
            last = float(values[0]) if len(values) else None
        return GroupQuantile(self.q)(rewards, last=last, smallest=smallest)  # the whole batch as one group


def is_quantile(threshold: object) -> bool:
    """Whether τ depends on the batch, so that a training must remember it."""
    return isinstance(threshold, BatchQuantile | GroupQuantile)


def remembered_threshold(
    threshold: Threshold,
    rewards: Tensor,
    group_ids: Tensor | None = None,
    *,
    keys: Sequence[str] | None = None,
    state: ThresholdState | None = None,
) -> tuple[Tensor, ThresholdState]:
    """τ of each sample, (N,), given the state of earlier batches, and the new state.

    keys: a stable name of each sample's prompt, (N,); without them a GroupQuantile remembers nothing, since
    group ids may mean other prompts in other batches. state: from the last call, None for the first; it holds
    the last finite τ and the smallest reward for each prompt, or for "" (the whole batch), as plain data for
    a checkpoint. Raises InputError for a wrong number of keys.

    >>> tau, state = remembered_threshold(BatchQuantile(0.5), torch.tensor([0.1, 0.2, 0.9]))
    >>> tau, state = remembered_threshold(BatchQuantile(0.5), torch.tensor([1.0, 1.0]), state=state)
    >>> tau
    tensor([0.2000, 0.2000])
    """
    before: ThresholdState = {} if state is None else state
    if isinstance(threshold, BatchQuantile):
        names, group_ids = [""] * len(rewards), None  # the whole batch as one group
        quantile = GroupQuantile(threshold.q)
    elif isinstance(threshold, GroupQuantile) and keys is not None:
        names, quantile = keys, threshold
        if len(names) != len(rewards):
            raise InputError(f"`keys` must have {len(rewards)} entries like `rewards`; got {len(names)}")
    else:
        return threshold(rewards, group_ids), before
    known = [before.get(name, (None, math.inf)) for name in names]
    last = rewards.new_tensor([math.inf if tau is None else tau for tau, _ in known])
    seen = rewards.new_tensor([smallest for _, smallest in known])
    found = quantile(rewards, group_ids, last=last, smallest=seen)
    groups = make_groups(group_ids, rewards)
    least = group_min(torch.where(rewards.isnan(), torch.inf, rewards), groups)[groups.index]
    after = dict(before)
    first = group_first(groups)
    for row in [int(row) for row in first[first < len(names)]]:
        tau, smallest = float(found[row]), float(torch.minimum(least[row], seen[row]))
        if math.isfinite(smallest):
            after[names[row]] = (tau if math.isfinite(tau) else None, smallest)
    return found, after


def _before(name: str, value: Tensor | float | None, rewards: Tensor) -> Tensor:
    """The previous value, a number or (N,); +inf for None."""
    if value is None:
        return rewards.new_tensor(torch.inf)
    before = torch.as_tensor(value, dtype=rewards.dtype, device=rewards.device)
    if before.ndim > 0:
        check_same_shape(name, before, "rewards", rewards)
    return before
