"""Many prompts, each with strings of several outcomes: questions with several right answers."""

import math
from typing import final

import torch
from torch import Generator, Tensor

from allmodes.checks import check_finite, check_fraction, check_log_distribution, check_same_shape
from allmodes.errors import InputError
from allmodes.worlds.categorical import draw
from allmodes.worlds.world import Rollout


@final
class Prompts:
    """P prompts, each with M strings of K outcomes or of none; training starts at the reference.

    ref_logprobs, rewards, outcomes: (P, M); −1 means no outcome, such as for a wrong answer. A step shows
    `prompts_per_step` of the prompts, drawn without replacement, and takes `samples_per_prompt` strings for
    each. features: (P, M, F), for logits that share their parameters, log π_ref + φθ with θ (F,); None for a
    table. flipped: share of the rewards 0 and 1 that are inverted in a step, as by a verifier that makes
    errors.

    Raises InputError for shapes that disagree, a reference that is not finite or does not sum to 1, an
    outcome outside −1 .. K − 1, or more prompts a step than there are.
    """

    def __init__(
        self,
        ref_logprobs: Tensor,
        rewards: Tensor,
        outcomes: Tensor,
        *,
        samples_per_prompt: int,
        prompts_per_step: int = 1,
        features: Tensor | None = None,
        flipped: float = 0.0,
    ) -> None:
        check_same_shape("rewards", rewards, "ref_logprobs", ref_logprobs)
        check_same_shape("outcomes", outcomes, "ref_logprobs", ref_logprobs)
        check_log_distribution("ref_logprobs", ref_logprobs)
        check_finite("ref_logprobs", ref_logprobs)
        check_finite("rewards", rewards)
        check_fraction("flipped", flipped)
        if not 1 <= prompts_per_step <= len(ref_logprobs):
            raise InputError(
                f"`prompts_per_step` must be between 1 and {len(ref_logprobs)}; got {prompts_per_step}"
            )
        if features is not None and features.shape[:2] != ref_logprobs.shape:
            raise InputError(
                f"`features` must have shape {(*ref_logprobs.shape, 'F')}; got {tuple(features.shape)}"
            )
        if int(outcomes.min()) < -1:
            raise InputError(f"`outcomes` must be at least -1; got {int(outcomes.min())}")
        self.string_rewards, self.string_outcomes = rewards.double(), outcomes
        self.ref_string_logprobs = ref_logprobs.double().log_softmax(-1)
        self.outcome_count = int(outcomes.max()) + 1
        self.samples_per_prompt: int | None = samples_per_prompt
        self._prompts_per_step, self._flipped = prompts_per_step, flipped
        dtype = torch.get_default_dtype()
        self._ref_logprobs, self._rewards = self.ref_string_logprobs.to(dtype), rewards.to(dtype)
        self._features = None if features is None else features.to(dtype)
        # Strings without an outcome are the last column.
        self._column = torch.where(outcomes < 0, self.outcome_count, outcomes)
        self.ref_outcome_logprobs = self._of_outcomes(self.ref_string_logprobs)
        self.log_path_shares = self._of_outcomes(
            torch.full_like(self.ref_string_logprobs, -math.log(outcomes.shape[1]))
        )

    @property
    def batch_size(self) -> int:
        """Samples of a step."""
        assert self.samples_per_prompt is not None  # noqa: S101  # for type checkers
        return self._prompts_per_step * self.samples_per_prompt

    @property
    def rewards(self) -> Tensor:
        """Largest reward of each outcome, (P, K + 1), −inf where a prompt has no string of it."""
        worst = torch.full(self.ref_outcome_logprobs.shape, -torch.inf, dtype=torch.float64)
        return worst.scatter_reduce(-1, self._column, self.string_rewards, "amax")

    def initial_logits(self, settings: int) -> Tensor:
        """(S, P, M), the reference; or (S, F), zero."""
        if self._features is not None:
            return torch.zeros(settings, self._features.shape[-1])
        return self._ref_logprobs.expand(settings, -1, -1).clone()

    def rollout(self, logits: Tensor, *, batch_size: int, generator: Generator) -> Rollout:
        """The same prompts for all settings, and for each G strings; (S, B·G), a prompt's in a row.

        Raises InputError for a batch of another size than the world's.
        """
        if batch_size != self.batch_size:
            raise InputError(f"`batch_size` must be {self.batch_size} in this world; got {batch_size}")
        assert self.samples_per_prompt is not None  # noqa: S101
        chosen = torch.randperm(len(self._rewards), generator=generator)[: self._prompts_per_step]
        logprobs = self._logprobs(logits, chosen)
        with torch.no_grad():
            strings = draw(logprobs.exp(), self.samples_per_prompt, generator)

        def of(table: Tensor) -> Tensor:
            return table[chosen].expand(len(logits), -1, -1).gather(-1, strings).flatten(1)

        rewards = of(self._rewards)
        if self._flipped:
            flips = torch.rand(rewards.shape, generator=generator) < self._flipped
            rewards = torch.where(flips, 1 - rewards, rewards)
        return Rollout(
            outcomes=of(self.string_outcomes),
            rewards=rewards,
            logprobs=logprobs.gather(-1, strings).flatten(1),
            ref_logprobs=of(self._ref_logprobs),
            lengths=torch.ones_like(strings).flatten(1),
            prompts=chosen.repeat_interleave(self.samples_per_prompt).expand(len(logits), -1),
        )

    def string_logprobs(self, logits: Tensor) -> Tensor:
        """Exact log-probabilities of all strings, (S, P, M), in the precision of the logits."""
        return self._logprobs(logits, torch.arange(len(self._rewards)))

    def outcome_logprobs(self, logits: Tensor) -> Tensor:
        """Exact log-probabilities of the outcomes of each prompt, (S, P, K + 1); the last is none."""
        return self._of_outcomes(self.string_logprobs(logits))

    def kl_within_outcomes(self, logits: Tensor) -> Tensor:
        """Σ_o p(o) KL(π(·|o) ‖ π_ref(·|o)) over the outcomes, given that there is one, (S, P), nats.

        How far the distribution over an outcome's strings has moved from the reference's.
        """
        strings = self.string_logprobs(logits.double())
        own = strings - self._of_outcomes(strings).gather(-1, self._column.expand(strings.shape))
        reference = self.ref_string_logprobs - self.ref_outcome_logprobs.gather(-1, self._column)
        has_outcome = self.string_outcomes >= 0
        mass = torch.where(has_outcome, strings.exp(), 0)
        return (mass * (own - reference)).sum(-1) / mass.sum(-1)

    def _logprobs(self, logits: Tensor, chosen: Tensor) -> Tensor:
        if self._features is None:
            return torch.log_softmax(logits[:, chosen], -1)
        features, reference = self._features[chosen], self._ref_logprobs[chosen]
        moved = torch.einsum("sf,pmf->spm", logits, features.to(logits.dtype))
        return torch.log_softmax(reference.to(logits.dtype) + moved, -1)

    def _of_outcomes(self, strings: Tensor) -> Tensor:
        """Log-sums over the strings of each outcome, (..., P, K + 1)."""
        shape = (*strings.shape[:-1], self.outcome_count + 1)
        column = self._column.expand(strings.shape)
        return strings.new_zeros(shape).scatter_add(-1, column, strings.exp()).log()
