"""Tempered MARA: part of the way from plain RL's optimum to MARA's."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from allmodes.methods.mara import flattened_density, forward_optimum
from allmodes.methods.method import KL, Batch, Method, Result, State, mean, setting, supplied
from allmodes.objectives.mara import Anchor, mara_rewards
from allmodes.objectives.target import target_rewards


@final
@dataclass(frozen=True, kw_only=True)
class Tempered(Method):
    """Move the log-density of good samples by a share λ to that of the anchor.

    R̄ = β (log g − log π_ref),   log g = (1 − λ) (log π_ref + R/β) + λ (log π_ref(z) + R(z)/β)  where R ≥ τ

    λ = 0 is plain RL, λ = 1 is MARA. Source: `target_rewards`, ours.

    >>> Tempered(threshold=1.0, flattening=0.5)(batch, beta=0.1).rewards
    tensor([1.0000, 1.1000, 1.1000, 0.0000])
    """

    name: ClassVar[str] = "tempered"
    label: ClassVar[str] = "tempered MARA"
    color: ClassVar[str] = "#56B4E9"
    law: ClassVar[str] = "between π_ref exp(R/β) and flat where R ≥ τ"
    source: ClassVar[str] = "MARA, equation 2 solved for R; the mixture is ours"

    threshold: float = setting("τ: the density of answers with at least this reward is flattened.")
    flattening: float = setting("λ: 0 is plain RL, 1 is MARA.", default=0.5, at_least=0, at_most=1)
    anchor: Anchor = setting(
        "The anchor is the likeliest good sample of the group (as in the paper), or of the other samples.",
        default="group",
    )

    @property
    def needs_reference(self) -> bool:
        """True: the density is relative to log π_ref."""
        return True

    @property
    def needs_sequence_kl(self) -> bool:
        """True, as for MARA."""
        return True

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """False: the bonus would be divided, but the KL penalty would not."""
        return False

    def describe(self) -> str:
        """τ and λ."""
        return f"threshold τ = {self.threshold:g}; flattening λ = {self.flattening:g}"

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
        """The density g with a common anchor, as in large groups; None without a KL."""
        del outcome_ids, group_size
        if beta == 0:
            return None
        density = flattened_density(
            ref_logprobs, rewards, beta=beta, threshold=self.threshold, flattening=self.flattening
        )
        if kl == "reverse":
            return torch.log_softmax(density, -1)
        return forward_optimum(density, ref_logprobs, rewards, beta=beta)

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Rewards whose optimum is the density g. Raises InputError for β ≤ 0."""
        del state
        ref_logprobs = supplied("ref_logprobs", batch.ref_logprobs)
        dtype = torch.promote_types(batch.rewards.dtype, ref_logprobs.dtype)
        rewards, ref_logprobs = batch.rewards.to(dtype), ref_logprobs.to(dtype)
        tau = torch.as_tensor(self.threshold, dtype=batch.rewards.dtype, device=rewards.device)
        result = mara_rewards(
            rewards,
            ref_logprobs,
            beta=beta,
            threshold=tau.to(dtype),
            group_ids=batch.group_ids,
            anchor=self.anchor,
            mask=None if batch.lengths is None else batch.lengths > 0,
        )
        plain = ref_logprobs + rewards / beta
        flat = result.ref_logprobs + result.anchor_rewards / beta
        density = torch.lerp(plain, flat, self.flattening)
        scored = batch.is_scored
        new = target_rewards(torch.where(scored, density, 0), torch.where(scored, ref_logprobs, 0), beta=beta)
        return Result(
            rewards=torch.where(scored, new, torch.nan).to(batch.rewards.dtype),
            metrics={"augmented": mean(result.augmented)} if batch.wants_metrics else {},
        )
