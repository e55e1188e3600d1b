"""Helpers for methods that treat correct and wrong answers differently."""

import torch
from torch import Tensor

from allmodes.methods.method import Batch
from allmodes.objectives.advantages import group_advantages


def correct_answers(batch: Batch, threshold: float) -> Tensor:
    """Non-empty samples with a reward of at least the threshold, (N,) booleans.

    The threshold is compared in the precision of the rewards, since a float64 of 0.9 exceeds a float32 of
    0.9.
    """
    correct = batch.rewards >= torch.as_tensor(threshold, dtype=batch.rewards.dtype)
    return correct if batch.lengths is None else correct & (batch.lengths > 0)


def grpo_advantages(batch: Batch, *, scale: str, dtype: torch.dtype) -> Tensor:
    """Rewards minus their group's mean, (N,), with scale "group" over its standard deviation, as in GRPO."""
    return group_advantages(
        batch.rewards.to(dtype), batch.group_ids, scale="group" if scale == "group" else "none"
    )


def flat_or_tilted(good: Tensor, rewards: Tensor, *, temperature: float | None) -> Tensor | None:
    """Log p ∝ exp(R/temperature) over good outcomes, (..., K): flat if their rewards are equal.

    temperature None: not known; the result is then None unless rewards are equal. `good` must not be empty.
    """
    inside = rewards.masked_fill(~good, -torch.inf)
    if temperature is None:
        if not torch.equal(inside.amax(-1), rewards.masked_fill(~good, torch.inf).amin(-1)):
            return None
        temperature = 1.0
    return torch.log_softmax(inside / temperature, -1)
