"""Best of n: train for the best of k samples."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from allmodes.methods.method import Batch, Method, Result, State, mean, setting
from allmodes.objectives.best_of_n import best_of_n_rewards
from allmodes.objectives.groups import group_size, make_groups


@final
@dataclass(frozen=True)
class BestOfN(Method):
    """Train for the best of k samples: the policy gradient becomes that of E[max of k].

    R̄ = k · (contribution of the sample to the maximum of k samples), see `best_of_n_rewards`. These are
    advantages, so the trainer's baseline is undone. k None is the whole group. Unscorable samples are left
    out; a group with fewer than k scored samples gets rewards of 0 and is counted in `groups_too_small`.
    Source: Tang et al. 2025.

    >>> BestOfN(2)(batch, beta=0.1).rewards
    tensor([0.6667, 0.6667, 0.6667, 0.0000])
    """

    name: ClassVar[str] = "best_of_n"
    label: ClassVar[str] = "best of N"
    color: ClassVar[str] = "#D55E00"
    law: ClassVar[str] = "the best outcomes; their shares depend on the start"
    source: ClassVar[str] = "Tang et al. 2025"

    k: int | None = setting(
        "Number of samples whose maximum is optimised; the whole group if left out.", default=None, at_least=1
    )

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """False: the advantages have their own baseline and must not be scaled."""
        return False

    @property
    def has_own_baseline(self) -> bool:
        """True: the maximum without the sample is its baseline."""
        return True

    @property
    def min_group_size(self) -> int:
        """k, the number of samples whose maximum is optimised."""
        return self.k or 1

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """The contribution of each sample to the maximum, times k; β has no effect."""
        del beta, state
        rewards, scored = batch.rewards, batch.is_scored
        groups = make_groups(batch.group_ids, rewards)
        size = group_size(groups, scored)
        fits = (size >= self.min_group_size)[groups.index]
        new = torch.where(scored, 0, rewards)
        rows = (scored & fits).nonzero().squeeze(1)
        added = best_of_n_rewards(rewards[rows], k=self.k, group_ids=groups.index[rows])
        new[rows] = added * (self.k if self.k is not None else size[groups.index[rows]])
        return Result(
            rewards=new,
            metrics={
                "rewarded": mean(new[scored] > 0),
                "groups_too_small": mean((size < self.min_group_size)[group_size(groups) > 0]),
            },
        )
