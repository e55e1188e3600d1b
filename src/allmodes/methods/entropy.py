"""The entropy of the policy over whole responses as part of the reward."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from allmodes.methods.method import KL, Batch, Method, Result, State, largest, mean, setting, supplied
from allmodes.objectives.entropy import entropy_rewards
from allmodes.targets import reverse_kl_target


@final
@dataclass(frozen=True)
class EntropyBonus(Method):
    """The entropy of the policy over whole responses as part of the reward: R̄ = R − η log π(y).

    Not the `entropy_coef` of TRL's GRPOConfig: that adds each token's entropy to the loss with the states
    held fixed, whose gradient lacks what a token does to the entropy of those after it. The bonus grows with
    length, and an empty response gets none. Source: `entropy_rewards`; the optimum is MARA's Remark 3.1.

    >>> EntropyBonus(0.1)(batch, beta=0.1).rewards
    tensor([1.1000, 1.3000, 1.3000, 0.2000])
    """

    name: ClassVar[str] = "entropy"
    label: ClassVar[str] = "entropy bonus"
    color: ClassVar[str] = "#009E73"
    law: ClassVar[str] = "(π_ref^β exp R)^(1/(β + η))"
    source: ClassVar[str] = "MARA, Remark 3.1"

    entropy: float = setting("η, in rewards per nat.", default=0.01, at_least=0)

    @property
    def needs_policy(self) -> bool:
        """Always: the bonus is −η log π."""
        return True

    @property
    def needs_sequence_kl(self) -> bool:
        """Yes: the bonus is a log-probability of whole responses."""
        return True

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """No: with a KL outside the rewards the optimum would be that of R/σ, η/σ, and β as it was."""
        return False

    def describe(self) -> str:
        """η."""
        return f"η = {self.entropy:g}"

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
        """Of a reverse KL; None for a forward one, and without either."""
        del outcome_ids, group_size
        if (kl == "forward" and beta > 0) or beta + self.entropy == 0:
            return None
        return reverse_kl_target(ref_logprobs, rewards, beta=beta, entropy=self.entropy)

    def temper(self, logprobs: Tensor, *, beta: float) -> Tensor:
        """Where a reverse-KL optimum, (..., K), moves when this bonus is added to fixed rewards.

        (π_ref^β exp R)^(1/(β + η)) = p^(β/(β + η)) up to a constant, for p = π_ref exp(R/β).
        """
        return torch.log_softmax(logprobs * (beta / (beta + self.entropy)), -1)

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Each reward less η log π; β plays no part."""
        del beta, state
        logprobs = supplied("logprobs", batch.logprobs).double()
        new = entropy_rewards(batch.rewards.double(), logprobs, entropy=self.entropy)
        bonus = -self.entropy * logprobs[batch.is_scored]
        return Result(
            rewards=new.to(batch.rewards.dtype),
            metrics={
                # On-policy an unbiased estimate of H(π), mean over prompts.
                "sequence_entropy": mean(-logprobs),
                "bonus_mean": mean(bonus),
                "bonus_max": largest(bonus),
            },
        )
