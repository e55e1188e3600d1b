"""Differential smoothing: an entropy bonus for correct answers, sharpening for wrong ones."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from allmodes.methods.correct import correct_answers, flat_or_tilted, grpo_advantages
from allmodes.methods.method import KL, Batch, Method, Result, State, mean, setting, supplied
from allmodes.targets.climb import climb, normalised
from allmodes.targets.inputs import check_outcomes


@final
@dataclass(frozen=True, kw_only=True)
class DifferentialSmoothing(Method):
    """An entropy bonus for correct answers, and its opposite for wrong ones.

    R̄ = A − τ log π(y)    where R ≥ threshold
    R̄ = A + τ′ log π(y)   elsewhere

    A: reward minus the group's mean; scale "group" divides it by the standard deviation, as GRPO does. The
    results are advantages: subtract no baseline and do not divide by σ. An empty response gets no bonus, and
    a sample without a reward is left out of the mean. The bonus grows with the length, and its mean over a
    group is not subtracted. It makes all correct strings equally likely (strings, not outcomes) and needs no
    reference. Source: Gai et al. 2025, arXiv 2511.19942.

    >>> DifferentialSmoothing(threshold=1.0)(batch, beta=0.1).rewards
    tensor([ 0.2600,  0.2800,  0.2800, -0.7700])
    """

    name: ClassVar[str] = "differential_smoothing"
    label: ClassVar[str] = "differential smoothing"
    color: ClassVar[str] = "#882255"
    law: ClassVar[str] = "flat where R ≥ τ, over strings"
    source: ClassVar[str] = "Gai et al. 2025, arXiv 2511.19942"

    threshold: float = setting("Smallest reward of a correct answer.")
    strength: float = setting("τ, in rewards per nat, for correct answers.", default=0.01, at_least=0)
    wrong_strength: float = setting("τ′, in rewards per nat, for wrong answers.", default=0.01, at_least=0)
    scale: Literal["none", "group"] = setting(
        "Divisor of the advantages: none, or the group's standard deviation.", default="none"
    )

    @property
    def needs_policy(self) -> bool:
        """True: the bonus uses log π."""
        return True

    @property
    def needs_sequence_kl(self) -> bool:
        """True: the bonus is a log-probability of whole responses."""
        return True

    @property
    def optimum_survives_std_normalization(self) -> bool:
        """False: the results are advantages with their own `scale`."""
        return False

    @property
    def has_own_baseline(self) -> bool:
        """True: the mean of the group, before the bonus."""
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
        """Without a KL: p ∝ exp(f R/τ) over correct strings, for groups of any size; flat for equal rewards.

        f = (G − 1)/G is the effect of the group's mean as baseline, 1 for many samples. With a reverse KL
        outside the advantages, at full strength,

            p = exp((f R + β log q − Λ)/(β + τ)) where correct, exp((f R + β log q − Λ)/(β − τ′)) elsewhere

        with Λ such that Σ p = 1, found by Newton's method from below. This needs β > τ′: with a larger τ′ the
        shares of wrong answers depend on the start. None in that case, for a forward KL, for scaled
        advantages unless rewards are equal and there is no KL, for τ = 0 without a KL, and if nothing reaches
        the threshold.
        """
        del outcome_ids
        check_outcomes(ref_logprobs, rewards)
        good = rewards >= self.threshold
        if group_size == 1 or not bool(good.any(-1).all()):
            return None
        kept = 1.0 if group_size is None else (group_size - 1) / group_size
        if beta == 0:
            if self.strength == 0:
                return None
            known = self.scale == "none"
            return flat_or_tilted(good, rewards, temperature=self.strength / kept if known else None)
        if kl == "forward" or self.scale != "none" or self.wrong_strength >= beta:
            return None
        heights = kept * rewards + beta * ref_logprobs
        temperature = torch.full_like(heights, beta - self.wrong_strength)
        temperature = temperature.masked_fill(good, beta + self.strength)

        def log_masses(level: Tensor) -> Tensor:
            return (heights - level) / temperature

        def step(level: Tensor) -> Tensor:
            log_p = log_masses(level)
            slope = (torch.softmax(log_p, -1) / temperature).sum(-1, keepdim=True)
            return level + log_p.logsumexp(-1, keepdim=True) / slope

        with torch.no_grad():
            return normalised(log_masses(climb(step, heights.amax(-1, keepdim=True))))

    def __call__(self, batch: Batch, *, beta: float | Tensor, state: State | None = None) -> Result:
        """Advantages with the bonus for correct or wrong answers; β has no effect."""
        del beta, state
        logprobs = supplied("logprobs", batch.logprobs)
        dtype = torch.promote_types(batch.rewards.dtype, logprobs.dtype)
        advantages = grpo_advantages(batch, scale=self.scale, dtype=dtype)
        correct = correct_answers(batch, self.threshold)
        logprobs = logprobs.to(dtype)
        bonus = torch.where(correct, -self.strength * logprobs, self.wrong_strength * logprobs)
        if batch.lengths is not None:
            bonus = torch.where(batch.lengths > 0, bonus, 0)
        scored = batch.is_scored
        bonus = torch.where(scored, bonus, 0)
        metrics = {}
        if batch.wants_metrics:
            metrics["correct"] = mean(correct[scored])
            metrics["bonus_correct"] = mean(bonus[correct])
            metrics["bonus_wrong"] = mean(bonus[scored & ~correct])
        return Result(rewards=(advantages + bonus).to(batch.rewards.dtype), metrics=metrics)
