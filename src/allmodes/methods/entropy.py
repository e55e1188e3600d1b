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

    This differs from `entropy_coef` of TRL's GRPOConfig, which adds each token's entropy to the loss with the
    states fixed: its gradient ignores the effect of a token on the entropy of later tokens. The bonus grows
    with the length, and an empty response gets none. Source: `entropy_rewards`; optimum: MARA, Remark 3.1.

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
        """True: the bonus is −η log π."""
        return True

    @property
    def needs_sequence_kl(self) -> bool:
        """True: the bonus is a log-probability of whole responses."""
        return True

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """False: with a KL outside the rewards, the optimum would be that of R/σ and η/σ with unchanged β."""
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
        """The optimum with a reverse KL; None for a forward KL, and for β = η = 0."""
        del outcome_ids, group_size
        if (kl == "forward" and beta > 0) or beta + self.entropy == 0:
            return None
        return reverse_kl_target(ref_logprobs, rewards, beta=beta, entropy=self.entropy)

    def temper(self, logprobs: Tensor, *, beta: float) -> Tensor:
        """The reverse-KL optimum, (..., K), after adding this bonus to fixed rewards, from the one before.

        (π_ref^β exp R)^(1/(β + η)) = p^(β/(β + η)) up to a constant, for p = π_ref exp(R/β).
        """
        return torch.log_softmax(logprobs * (beta / (beta + self.entropy)), -1)

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Each reward minus η log π; β has no effect."""
        del beta, state
        logprobs = supplied("logprobs", batch.logprobs).double()
        new = entropy_rewards(batch.rewards.double(), logprobs, entropy=self.entropy)
        bonus = -self.entropy * logprobs[batch.is_scored]
        return Result(
            rewards=new.to(batch.rewards.dtype),
            metrics={
                # On-policy, this is an unbiased estimate of H(π), averaged over prompts.
                "sequence_entropy": mean(-logprobs),
                "bonus_mean": mean(bonus),
                "bonus_max": largest(bonus),
            },
        )
