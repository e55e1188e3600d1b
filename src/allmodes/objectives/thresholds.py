"""What counts as good: the threshold τ of each sample.

Each threshold is called with rewards (N,) and group ids (N,) or None and gives τ for every sample, (N,).
τ = +inf means that no sample of that group counts as good.
"""

from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from allmodes.checks import check_fraction, check_vector
from allmodes.objectives.groups import group_min, group_quantile, make_groups


class Threshold(Protocol):
    """Rewards and groups in, τ for every sample out."""

    def __call__(self, rewards: Tensor, group_ids: Tensor | None = None) -> Tensor:
        """τ of each sample, (N,)."""
        ...


@final
@dataclass(frozen=True)
class Constant:
    """The same τ for every sample: for rewards whose range is known."""

    value: float

    def __call__(self, rewards: Tensor, group_ids: Tensor | None = None) -> Tensor:
        """τ of each sample, (N,). Raises InputError for rewards that are not (N,) floats."""
        check_vector("rewards", rewards)
        return torch.full_like(rewards, self.value)


@final
@dataclass(frozen=True)
class GroupQuantile:
    """The q-quantile of the rewards of a sample's own group.

    Where the quantile is not above the group's smallest reward, nothing counts as good: on binary rewards
    with few successes a 90th percentile is the reward of a failure.
    """

    q: float

    def __post_init__(self) -> None:
        check_fraction("q", self.q)

    def __call__(self, rewards: Tensor, group_ids: Tensor | None = None) -> Tensor:
        """τ of each sample, (N,). Raises InputError for rewards that are not (N,) floats."""
        check_vector("rewards", rewards)
        groups = make_groups(group_ids, rewards)
        quantile = group_quantile(rewards, groups, q=self.q)
        smallest = group_min(torch.where(rewards.isnan(), torch.inf, rewards), groups)
        return torch.where(quantile > smallest, quantile, torch.inf)[groups.index]


@final
@dataclass(frozen=True)
class BatchQuantile:
    """The q-quantile of all rewards of the batch (MARA, section 6.2: q = 0.9).

    Where the quantile is not above the batch's smallest reward, nothing counts as good.
    """

    q: float

    def __post_init__(self) -> None:
        check_fraction("q", self.q)

    def __call__(self, rewards: Tensor, group_ids: Tensor | None = None) -> Tensor:
        """τ of each sample, (N,). Raises InputError for rewards that are not (N,) floats."""
        return GroupQuantile(self.q)(rewards)  # the whole batch as one group
