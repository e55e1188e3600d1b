"""Outcome-based exploration within a batch: a penalty on outcomes that many samples of a group share."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from allmodes.methods.method import KL, Batch, Method, Result, State, mean, setting, supplied
from allmodes.methods.outcomes import over_outcomes
from allmodes.methods.plain import Plain
from allmodes.objectives.groups import group_size as size_of
from allmodes.objectives.groups import make_groups, outcome_frequency
from allmodes.targets import crowding_target


@final
@dataclass(frozen=True)
class BatchExploration(Method):
    """Subtract a penalty for each other sample of the group with the same outcome.

    R̄ = R − c (n − 1)/G,   n the samples of the group with the sample's outcome

    The penalty also applies to wrong outcomes; responses without an outcome together count as one outcome. A
    sample without a reward still counts in n and G. With many samples an outcome's gain is R − c p, and the
    optimum is sparsemax(R/c). Source: Song et al. 2025, arXiv 2509.06941, the batch form.

    >>> BatchExploration()(batch, beta=0.1).rewards
    tensor([0.7500, 0.7500, 1.0000, 0.0000])
    """

    name: ClassVar[str] = "batch_exploration"
    label: ClassVar[str] = "batch exploration"
    color: ClassVar[str] = "#999933"
    law: ClassVar[str] = "sparsemax(R/c)"
    source: ClassVar[str] = "Song et al. 2025, arXiv 2509.06941"

    strength: float = setting(
        "c, penalty of a sample if the whole group had its outcome.", default=1.0, at_least=0
    )

    @property
    def needs_outcomes(self) -> bool:
        """True: outcomes are counted."""
        return True

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """False: division by the group's σ changes the optimum."""
        return False

    def group_warning(self, group_size: int) -> str | None:
        """A warning for groups of 2, in which nothing restores diversity."""
        if group_size > 2:
            return None
        return (
            f"{self.label} keeps no diversity in groups of {group_size}: the baseline cancels its whole "
            "penalty on frequent outcomes. Use at least 4 samples of a prompt (a share (G − 2)/G of c is "
            "left), or a larger c"
        )

    def describe(self) -> str:
        """C."""
        return f"c = {self.strength:g}"

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
        """sparsemax(R/c), with or without a KL, for many samples and for groups of any size.

        Under a leave-one-out baseline an outcome's expected gain is R − c (G − 2)/G p: the penalty is weaker,
        and there is none at G = 2. With a group-mean baseline it is (G − 1)/G of that, which changes the
        optimum only with a KL outside the rewards. None for groups of 1, and, without a KL, if no penalty is
        left, since the optimum then depends on the start.
        """
        if group_size is not None and group_size < 2:
            return None
        left = self.strength * (1 if group_size is None else (group_size - 2) / group_size)
        if left == 0:
            return Plain().optimum(ref_logprobs, rewards, beta=beta, kl=kl)

        def solve(ref_logprobs: Tensor, rewards: Tensor) -> Tensor:
            return crowding_target(rewards, penalty=left, ref_logprobs=ref_logprobs, beta=beta, kl=kl)

        return over_outcomes(solve, ref_logprobs, rewards, outcome_ids)

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Each reward minus c times the share of other samples with its outcome; β has no effect."""
        del beta, state
        outcome_ids = supplied("outcome_ids", batch.outcome_ids)
        groups = make_groups(batch.group_ids, batch.rewards)
        others = outcome_frequency(outcome_ids, groups) - 1 / size_of(groups)[groups.index]
        return Result(
            rewards=(batch.rewards - self.strength * others).to(batch.rewards.dtype),
            metrics={"shared": mean(others)} if batch.wants_metrics else {},
        )
