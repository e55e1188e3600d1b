"""DARLING: rewards times the share of the group with another outcome."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from allmodes.methods.method import KL, Batch, Method, Result, State, mean, not_negative, supplied
from allmodes.methods.outcomes import over_outcomes
from allmodes.methods.plain import Plain
from allmodes.objectives.groups import make_groups, outcome_frequency
from allmodes.targets import crowding_target


@final
@dataclass(frozen=True)
class Darling(Method):
    """Multiply each reward by the share of its group that has another outcome.

    R̄ = R (G − n)/G,   n the samples of the group with the sample's outcome

    The paper groups responses by a classifier of meaning; here they are grouped by outcome, and responses
    without one together count as one outcome. A sample without a reward still counts in n and G. The authors'
    code divides by the size of the whole batch instead of G, which only changes the learning rate. Rewards
    must not be negative: the factor would penalise rare outcomes most.

    With many samples an outcome's gain is R (1 − p), so the optimum is water-filling: the best outcomes gain
    mass until the next best has the same gain. Source: Li et al. 2025, arXiv 2509.02534.

    >>> Darling()(batch, beta=0.1).rewards
    tensor([0.5000, 0.5000, 0.7500, 0.0000])
    """

    name: ClassVar[str] = "darling"
    label: ClassVar[str] = "DARLING"
    color: ClassVar[str] = "#117733"
    law: ClassVar[str] = "(1 − Λ/R)₊, filled up to Σp = 1"
    source: ClassVar[str] = "DARLING, arXiv 2509.02534"

    @property
    def needs_outcomes(self) -> bool:
        """True: outcomes are counted."""
        return True

    @property
    def takes_negative_rewards(self) -> bool:
        """False: among outcomes of negative reward, rare ones would be penalised most."""
        return False

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """False: division by the group's σ changes the optimum, and the authors leave it out."""
        return False

    @property
    def min_group_size(self) -> int:
        """2: the factor of a single sample is 0."""
        return 2

    def group_warning(self, group_size: int) -> str | None:
        """A warning for groups of 2, in which nothing restores diversity."""
        if group_size > 2:
            return None
        return (
            f"{self.label} keeps no diversity in groups of {group_size}: the baseline cancels its whole "
            "penalty on frequent outcomes. Use at least 4 samples of a prompt (3 keep 1/2 of the penalty, 4 "
            "keep 2/3)"
        )

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
        """Water-filling, with or without a KL, for many samples and for groups of any size.

        Under a leave-one-out baseline an outcome's expected gain is R [(G − 1) − (G − 2) p]/G: a share
        (G − 2)/(G − 1) of the penalty is left, and nothing at G = 2. With a group-mean baseline the gain is
        (G − 1)/G of that, which changes the optimum only with a KL outside the rewards. None for groups of 1;
        and, without a KL, at G = 2 or if all rewards are 0, since the optimum then depends on the start.
        Raises InputError for a negative reward.
        """
        not_negative(self.label, rewards, why="which would punish rare outcomes most")
        height, slope = 1.0, 1.0
        if group_size is not None:
            height, slope = (group_size - 1) / group_size, (group_size - 2) / group_size
        if height <= 0 or (beta == 0 and (slope <= 0 or bool((rewards.amax(-1) == 0).any()))):
            return None

        def solve(ref_logprobs: Tensor, rewards: Tensor) -> Tensor | None:
            if slope == 0:
                return Plain().optimum(ref_logprobs, height * rewards, beta=beta, kl=kl)
            return crowding_target(
                height * rewards, penalty=slope * rewards, ref_logprobs=ref_logprobs, beta=beta, kl=kl
            )

        return over_outcomes(solve, ref_logprobs, rewards, outcome_ids)

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Each reward times (G − n)/G; β has no effect. Raises InputError for a negative reward."""
        del beta, state
        not_negative(self.label, batch.rewards, why="which would punish rare outcomes most")
        outcome_ids = supplied("outcome_ids", batch.outcome_ids)
        others = 1 - outcome_frequency(outcome_ids, make_groups(batch.group_ids, batch.rewards))
        return Result(
            rewards=(batch.rewards * others).to(batch.rewards.dtype),
            metrics={"others": mean(others)} if batch.wants_metrics else {},
        )
