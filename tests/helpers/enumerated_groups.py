"""Exact expected updates of a method: all groups of G samples of a small policy.

A policy is a list of tables of logits, as in `sequence_worlds`: one row has a logit for each string.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from allmodes.methods import Batch, Method
from allmodes.objectives import group_advantages, leave_one_out_advantages
from sequence_worlds import sequence_logprobs

Baseline = Literal["leave_one_out", "mean", "std"]


def logits_of(*probabilities: float) -> list[Tensor]:
    """A policy over strings of one token."""
    return [torch.tensor([probabilities], dtype=torch.float64).log()]


def expected_gradient(
    method: Method,
    tables: Sequence[Tensor],
    rewards: Tensor,
    *,
    size: int,
    outcome_ids: Tensor | None = None,
    ref: Tensor | None = None,
    beta: float = 0.0,
    baseline: Baseline = "leave_one_out",
) -> list[Tensor]:
    """E[(1/G) Σ A_i ∇ log π(y_i)] by the logits of each table, over all K^G groups.

    With β > 0 the reverse KL −β log(π/π_ref) is inside the rewards, or beside the method's own advantages;
    not where the method contains it.
    """
    leaves = [table.detach().clone().requires_grad_() for table in tables]
    logprobs = sequence_logprobs(leaves)
    groups = torch.tensor(list(itertools.product(range(len(rewards)), repeat=size)))
    drawn, fixed = groups.flatten(), logprobs.detach()
    ids = torch.arange(len(groups)).repeat_interleave(size)
    batch = Batch(
        rewards=rewards[drawn],
        group_ids=ids,
        lengths=torch.ones_like(drawn),
        ref_logprobs=None if ref is None else ref[drawn],
        logprobs=fixed[drawn],
        outcome_ids=drawn if outcome_ids is None else outcome_ids[drawn],
    )
    new = method(batch, beta=beta).rewards
    if beta > 0 and ref is not None and not method.contains_kl:
        new = new - beta * (fixed - ref)[drawn]
    if not method.has_own_baseline:
        if baseline == "leave_one_out":
            new = leave_one_out_advantages(new, ids)
        else:
            new = group_advantages(new, ids, scale="group" if baseline == "std" else "none")
    chance = fixed[groups].sum(1).exp()[ids]
    return list(torch.autograd.grad((chance * new / size * logprobs[drawn]).sum(), leaves))


def gradient_of(tables: Sequence[Tensor], gains: Tensor) -> list[Tensor]:
    """Σ p(y) gain(y) ∇ log π(y) by the logits of each table; gains: (K,), held fixed."""
    leaves = [table.detach().clone().requires_grad_() for table in tables]
    return list(torch.autograd.grad((sequence_logprobs(leaves).exp() * gains.detach()).sum(), leaves))


def relative_gains(
    method: Method, tables: Sequence[Tensor], rewards: Tensor, *, size: int, **options: object
) -> Tensor:
    """Expected gain of each string less their mean, (K,): 0 on the support of a point of rest."""
    p = sequence_logprobs(tables).exp()
    (found,) = expected_gradient(method, tables, rewards, size=size, **options)  # pyright: ignore[reportArgumentType]
    return found[0] / p


def gains_of_many(
    method: Method,
    counts: Sequence[int],
    rewards: Tensor,
    *,
    outcome_ids: Tensor | None = None,
    ref: Tensor | None = None,
    beta: float = 0.0,
) -> Tensor:
    """What each string gets in one group that holds it exactly as often as its policy has it, less the mean.

    The policy is counts/Σ counts, (K,): statistics of this group are those of infinitely many samples.
    """
    drawn = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    p = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    batch = Batch(
        rewards=rewards[drawn],
        group_ids=torch.zeros_like(drawn),
        ref_logprobs=None if ref is None else ref[drawn],
        logprobs=p.log()[drawn],
        outcome_ids=drawn if outcome_ids is None else outcome_ids[drawn],
    )
    new = method(batch, beta=beta).rewards
    found = torch.stack([new[drawn == string].mean() for string in range(len(counts))])
    return found - (p * found).sum()
