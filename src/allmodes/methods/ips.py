"""Inverse probability scaling."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from allmodes.methods.method import (
    KL,
    Batch,
    Method,
    OutcomeKey,
    Result,
    State,
    mean,
    not_negative,
    setting,
    supplied,
)
from allmodes.methods.outcomes import over_outcomes
from allmodes.objectives.groups import group_size as size_of
from allmodes.objectives.groups import make_groups
from allmodes.objectives.ips import ips_rewards
from allmodes.objectives.kl import kl_in_rewards
from allmodes.targets import ips_target


@final
@dataclass(frozen=True, kw_only=True)
class IPS(Method):
    """Inverse probability scaling: divide each reward by the frequency of its outcome in the group.

    R̄ = R / max(p̂, p_min)^α,   p̂ = n/G, or `outcome_probabilities` of the batch if the trainer gives them

    Responses without an outcome together count as one outcome. Rewards must not be negative: the division
    would penalise rare outcomes most, until none is left. exponent: α; 1 is IPS, other values are UA-RL (on
    rewards). outcome_key: maps the text of a response to its outcome, for trainers without outcomes.
    kl_first: divide R − β log(π/π_ref) instead of R. Source: IPS, equation 9; UA-RL, arXiv 2601.08763.

    >>> IPS()(batch, beta=0.1).rewards
    tensor([2., 2., 4., 0.])
    """

    name: ClassVar[str] = "ips"
    label: ClassVar[str] = "IPS"
    color: ClassVar[str] = "#E69F00"
    law: ClassVar[str] = "proportional to R"
    source: ClassVar[str] = "IPS, equation 9"

    min_probability: float = setting(
        "Lower limit of p̂, so that rewards of rare outcomes do not explode.",
        default=0.0,
        at_least=0,
        at_most=1,
    )
    exponent: float = setting(
        "α: rewards are divided by p̂ to this power; 1 is IPS, 0 plain RL.", default=1.0, at_least=0
    )
    outcome_key: OutcomeKey | None = setting("Text → outcome.", default=None, in_recipes=False)
    kl_first: bool = setting("Whether the KL is part of the divided reward.", default=False, in_recipes=False)

    @property
    def needs_reference(self) -> bool:
        """True if the KL is also divided."""
        return self.kl_first

    @property
    def needs_policy(self) -> bool:
        """True if the KL is also divided."""
        return self.kl_first

    @property
    def needs_outcomes(self) -> bool:
        """True: outcomes are counted."""
        return True

    @property
    def takes_outcome_probabilities(self) -> bool:
        """True: they replace p̂."""
        return True

    @property
    def baseline_is_worth_a_sample(self) -> bool:
        """True, since p ∝ r (1 − (1 − p)^G)."""
        return True

    @property
    def contains_kl(self) -> bool:
        """True if the KL is divided with the reward."""
        return self.kl_first

    @property
    def takes_negative_rewards(self) -> bool:
        """False: outcomes of negative reward go extinct, the rare ones first."""
        return False

    def group_warning(self, group_size: int) -> str | None:
        """A warning for groups of 2, whose update is 2^α times plain RL's and restores no diversity."""
        if group_size > 2:
            return None
        return (
            f"{self.label} keeps no diversity in groups of {group_size}: the baseline cancels its counts, "
            "and the update is that of plain RL. Use at least 4 samples of a prompt, better 16: "
            "G samples with a baseline keep what G − 1 keep without"
        )

    @property
    def key(self) -> OutcomeKey | None:
        """The outcome key, if the user gave one with the method."""
        return self.outcome_key

    def describe(self) -> str:
        """The clip and the exponent, if they differ from the paper's."""
        parts = [f"p̂ at least {self.min_probability:g}"] if self.min_probability else []
        parts += [f"exponent {self.exponent:g}"] if self.exponent != 1 else []
        return "; ".join(parts)

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
        """Corollary 4.2; p ∝ R^(1/α) without a KL.

        None with a clip; with a KL and an exponent other than 1 or groups of finite size; and if all rewards
        are 0. With the group's baseline, the optimum of G samples is that of G − 1 samples without.
        """
        if self.min_probability > 0 or self.exponent == 0 or bool((rewards.sum(-1) == 0).any()):
            return None

        def solve(ref_logprobs: Tensor, rewards: Tensor) -> Tensor | None:
            if group_size is not None:
                known = self.exponent == 1 and beta == 0 and group_size > 2
                return ips_target(rewards, group_size=group_size - 1) if known else None
            if self.exponent != 1:
                return ips_target(rewards ** (1 / self.exponent)) if beta == 0 else None
            regularizer = "in_reward" if self.kl_first else kl
            return ips_target(rewards, ref_logprobs=ref_logprobs, beta=beta, regularizer=regularizer)

        return over_outcomes(solve, ref_logprobs, rewards, outcome_ids)

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Each reward divided by p̂ of its outcome. Raises InputError for a negative reward."""
        del state
        not_negative(self.label, batch.rewards, why="which would punish rare outcomes most")
        rewards = batch.rewards
        if self.kl_first:
            logprobs = supplied("logprobs", batch.logprobs)
            rewards = kl_in_rewards(
                rewards, logprobs, supplied("ref_logprobs", batch.ref_logprobs), beta=beta
            )
        if batch.outcome_probabilities is not None:
            frequencies = batch.outcome_probabilities
            probabilities = frequencies.clamp(min=self.min_probability)
            new = rewards / (probabilities if self.exponent == 1 else probabilities**self.exponent)
        else:
            outcome_ids = supplied("outcome_ids", batch.outcome_ids)
            result = ips_rewards(
                rewards,
                outcome_ids,
                min_probability=self.min_probability,
                exponent=self.exponent,
                group_ids=batch.group_ids,
            )
            new, frequencies = result.rewards, result.frequencies
        return Result(
            rewards=new.to(batch.rewards.dtype),
            metrics=self._metrics(batch, frequencies) if batch.wants_metrics else {},
        )

    def _metrics(self, batch: Batch, frequencies: Tensor) -> dict[str, float]:
        metrics = {
            "outcome_frequency": mean(frequencies),
            "clipped": mean(frequencies < self.min_probability),
        }
        if batch.outcome_ids is not None:
            metrics["without_outcome"] = mean(batch.outcome_ids < 0)
        if batch.outcome_probabilities is None:
            groups = make_groups(batch.group_ids, batch.rewards)
            # 1/n of each sample's outcome sums to the number of distinct outcomes.
            distinct = (1 / (frequencies * size_of(groups)[groups.index])).sum()
            metrics["distinct_outcomes"] = float(distinct) / max(int((size_of(groups) > 0).sum()), 1)
        return metrics
