"""Unlikeliness rewards."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from allmodes.methods.method import Batch, Method, Result, State, mean, setting, supplied
from allmodes.objectives.unlikeliness import unlikeliness_rewards


@final
@dataclass(frozen=True)
class Unlikeliness(Method):
    """Scale rewards so that less likely samples of a group count more among equal rewards.

    R̄ = R (1 − b · rank/G), with rank 0 for the lowest mean log-probability of a token. Rewards must not be
    negative. Source: He et al. 2025, equation 6.

    >>> Unlikeliness()(batch, beta=0.1).rewards
    tensor([0.8125, 0.9688, 0.9688, 0.0000])
    """

    name: ClassVar[str] = "unlikeliness"
    label: ClassVar[str] = "unlikeliness"
    color: ClassVar[str] = "#CC79A7"
    law: ClassVar[str] = "not known in closed form"
    source: ClassVar[str] = "He et al. 2025"

    strength: float = setting(
        "b, share of the reward that the likeliest sample loses.", default=0.25, at_least=0, at_most=1
    )

    @property
    def needs_policy(self) -> bool:
        """True: samples are ranked by it."""
        return True

    @property
    def takes_negative_rewards(self) -> bool:
        """False: the factor would favour likely samples."""
        return False

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Each reward times 1 − b rank/G; β has no effect. Raises InputError for a negative reward."""
        del beta, state
        mean_logprobs = supplied("logprobs", batch.logprobs)
        if batch.lengths is not None:
            # An empty response has no tokens to average over; 0 ranks it as the likeliest.
            mean_logprobs = mean_logprobs / batch.lengths.clamp(min=1)
        new = unlikeliness_rewards(
            batch.rewards, mean_logprobs, strength=self.strength, group_ids=batch.group_ids
        )
        taken = (batch.rewards - new)[batch.is_scored]
        return Result(rewards=new, metrics={"taken_mean": mean(taken), "mean_logprob": mean(mean_logprobs)})
