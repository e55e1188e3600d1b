"""One step of a training on samples that a test writes down, as a sweep makes it of a rollout."""

from dataclasses import dataclass

import pytest
import torch
from torch import Generator, Tensor

from allmodes.methods import Batch
from allmodes.worlds.training import Training


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples of all settings of one training, flat, (N,). probabilities: exact, of the outcomes."""

    rewards: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    lengths: Tensor
    outcomes: Tensor
    group_ids: Tensor
    beta: Tensor
    probabilities: Tensor | None


def loss_terms(training: Training, samples: Samples, log_partition: Tensor) -> tuple[Tensor, Tensor | None]:
    """Advantages, and the loss beside the policy gradient's."""
    batch = Batch(
        rewards=samples.rewards,
        group_ids=samples.group_ids,
        lengths=samples.lengths,
        ref_logprobs=samples.ref_logprobs,
        logprobs=samples.logprobs.detach(),
        outcome_ids=samples.outcomes,
        prompt_ids=torch.zeros_like(samples.outcomes),
        outcome_probabilities=samples.probabilities if training.needs_probabilities else None,
        wants_metrics=False,
    )
    terms = training.loss_terms(
        batch, samples.logprobs, beta=samples.beta, log_partition=log_partition, state=None
    )
    return terms.advantages, terms.beside


def constant_uniform(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """Let every uniform random number be `value`."""

    def rand(shape: tuple[int, ...], *, generator: Generator, dtype: torch.dtype) -> Tensor:
        return torch.full(shape, value, dtype=dtype)

    monkeypatch.setattr(torch, "rand", rand)
