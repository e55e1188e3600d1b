"""MaxRL: advantages divided by the group's mean reward, which maximises the likelihood of success."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from allmodes.methods.method import KL, Batch, Method, Result, State, mean, not_negative
from allmodes.methods.plain import Plain
from allmodes.objectives.groups import group_mean, make_groups
from allmodes.objectives.groups import group_size as size_of
from allmodes.targets.inputs import check_outcomes
from allmodes.targets.roots import find_root


@final
@dataclass(frozen=True)
class MaxRL(Method):
    """Divide advantages by the mean reward of the group, so that hard prompts count as much as easy ones.

    R̄_i = (R_i − m)/m,   m the mean reward of the group; 0 if m is 0

    With many samples it is the gradient of log E[R]. With rewards of 0 and 1 and groups of G it is that of
    Σ_k (1/k) (success within k samples), k = 1 .. G − 1: the gradient of a success rate ρ is multiplied by
    (1 − (1 − ρ)^(G−1))/ρ. Within a prompt all good answers get the same advantage, so the likeliest of
    them at the start wins: three good answers of equal reward end at (1, 0, 0). Rewards must not be
    negative. A sample without a reward is left out of m. The results are advantages: subtract no baseline
    and do not divide by σ. Source: arXiv 2602.02710.

    >>> MaxRL()(batch, beta=0.1).rewards
    tensor([ 0.3333,  0.3333,  0.3333, -1.0000])
    """

    name: ClassVar[str] = "max_rl"
    label: ClassVar[str] = "MaxRL"
    color: ClassVar[str] = "#DDCC77"
    law: ClassVar[str] = "the best outcomes; their shares depend on the start"
    source: ClassVar[str] = "MaxRL, arXiv 2602.02710"

    @property
    def takes_negative_rewards(self) -> bool:
        """False: rewards are rates or degrees of success."""
        return False

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """False: these advantages are already scaled."""
        return False

    @property
    def has_own_baseline(self) -> bool:
        """True: the mean of the group, by which it also divides."""
        return True

    @property
    def min_group_size(self) -> int:
        """2: a single sample equals its own mean."""
        return 2

    def optimum(
        self,
        ref_logprobs: Tensor,
        rewards: Tensor,
        *,
        beta: float,
        kl: KL = "reverse",
        outcome_ids: Tensor | None = None,
        group_size: int | None = None,
    ) -> Tensor | None:
        """Plain RL's optimum at rewards w R, with the weight w consistent with the resulting mean reward ρ.

        w = 1/ρ for many samples; for groups of G and rewards of 0 or 1, w = (1 − (1 − ρ)^(G−1))/ρ; for
        rewards of 0 or v, that of R/v. A larger w gives a larger ρ, and w falls with ρ, so the solution is
        unique. The KL, of either kind, must be outside the advantages, at full strength. None without a KL,
        since the optimum then depends on the start; for groups with rewards other than 0 and one v; and if
        the reference never gets a reward. Raises InputError for a negative reward.
        """
        del outcome_ids
        not_negative(self.label, rewards, why="which must be rates of success")
        check_outcomes(ref_logprobs, rewards)
        best = rewards.amax(-1, keepdim=True)
        low = (ref_logprobs.exp() * rewards).sum(-1, keepdim=True) / best  # the mean reward of the reference
        if beta == 0 or group_size == 1 or not bool((low > 0).all()):
            return None
        if group_size is not None and bool(((rewards != 0) & (rewards != best)).any()):
            return None

        def weight(rate: Tensor) -> Tensor:
            if group_size is None:
                return 1 / rate
            return -torch.expm1((group_size - 1) * torch.log1p(-rate.clamp(max=1))) / rate

        def solution(rate: Tensor) -> Tensor:
            found = Plain().optimum(ref_logprobs, weight(rate) * rewards / best, beta=beta, kl=kl)
            assert found is not None  # noqa: S101  # β > 0
            return found

        def rise(rate: Tensor) -> Tensor:
            return (solution(rate).exp() * rewards / best).sum(-1, keepdim=True) - rate

        return solution(find_root(rise, low, torch.ones_like(low)))

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Advantages over the group's mean; β has no effect. Raises InputError for a negative reward."""
        del beta, state
        not_negative(self.label, batch.rewards, why="which must be rates of success")
        rewards, groups = batch.rewards, make_groups(batch.group_ids, batch.rewards)
        centre = group_mean(rewards, groups)
        own = centre[groups.index]
        solved = own > 0
        new = torch.where(solved, (rewards - own) / torch.where(solved, own, 1), 0)
        metrics = {}
        if batch.wants_metrics:
            metrics["groups_without_reward"] = mean(~(centre > 0)[size_of(groups) > 0])
        return Result(rewards=torch.where(batch.is_scored, new, torch.nan), metrics=metrics)
