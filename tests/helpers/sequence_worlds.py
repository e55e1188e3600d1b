"""All sequences of T tokens of a small vocabulary, with the exact gradients and optima of RL on them.

A policy is a table of logits for each beginning: of t tokens there are V^t. Sequences are in the order of the
numbers whose digits they are. Test modules import this file by its name: `from sequence_worlds import ...`.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

KL = Literal["sequence", "tokens", "tokens-forward"]
"""The reverse KL of whole sequences; and the reverse or the forward KL of each token, states held fixed."""


def conditionals(logprobs: Tensor, *, vocabulary: int) -> list[Tensor]:
    """Log-probabilities of the next token after each beginning, (V^t, V) for t = 0 .. T − 1, from (V^T,)."""
    found: list[Tensor] = []
    sums = logprobs
    while len(sums) > 1:
        grouped = sums.view(-1, vocabulary)
        sums = grouped.logsumexp(1)
        found.append(grouped - sums.unsqueeze(1))
    return found[::-1]


def sequence_logprobs(tables: Sequence[Tensor]) -> Tensor:
    """log p(y) of every sequence, (V^T,), of a policy given by its logits."""
    total = torch.zeros(1, dtype=torch.float64)
    for table in tables:
        total = (total.unsqueeze(1) + table.log_softmax(1)).view(-1)
    return total


def loss(tables: Sequence[Tensor], ref: Tensor, rewards: Tensor, *, beta: float, kl: KL) -> Tensor:
    """−Σ p R + β KL over all sequences, whose gradient is the expected one of training, negative.

    ref: log π_ref of every sequence, (V^T,). rewards: (V^T,), a transform's already in them.
    """
    logprobs = sequence_logprobs(tables)
    value = -(logprobs.exp() * rewards).sum()
    if kl == "sequence":
        return value + beta * (logprobs.exp() * (logprobs - ref)).sum()
    vocabulary = tables[0].shape[1]
    states = torch.ones(1, dtype=torch.float64)
    for table, others in zip(tables, conditionals(ref, vocabulary=vocabulary), strict=True):
        own = table.log_softmax(1)
        one, other = (own, others) if kl == "tokens" else (others, own)
        value = value + beta * (states.detach() * (one.exp() * (one - other)).sum(1)).sum()
        states = (states.unsqueeze(1) * own.exp()).view(-1)
    return value


def gradient(tables: Sequence[Tensor], ref: Tensor, rewards: Tensor, *, beta: float, kl: KL) -> list[Tensor]:
    """The gradient of `loss` by the logits of each table."""
    leaves = [table.detach().clone().requires_grad_() for table in tables]
    return list(torch.autograd.grad(loss(leaves, ref, rewards, beta=beta, kl=kl), leaves))


def optimum(ref: Tensor, rewards: Tensor, *, beta: float, kl: KL, vocabulary: int) -> Tensor:
    """Log-probability of every sequence where the gradient of `loss` is 0, (V^T,), exactly.

    From the last token back: p(a|s) ∝ q(a|s) exp(Q(s, a)/β). With the KL of whole sequences the value of a
    state is V = β log Σ q exp(Q/β), and p ∝ q exp(R/β) over sequences. With states held fixed it is the mean
    reward V = Σ p Q, in which the KL of later tokens is missing. Forward: p = β q/(Λ − Q).
    """
    values, found = rewards, []
    for others in reversed(conditionals(ref, vocabulary=vocabulary)):
        table = values.view(-1, vocabulary)
        if kl == "tokens-forward":
            own = _forward(others, table, beta=beta)
        else:
            own = (others + table / beta).log_softmax(1)
        found.append(own)
        if kl == "sequence":
            values = beta * (others + table / beta).logsumexp(1)
        else:
            values = (own.exp() * table).sum(1)
    return sequence_logprobs(found[::-1])


def trained(
    ref: Tensor,
    rewards: Tensor,
    *,
    beta: float,
    kl: KL,
    vocabulary: int,
    steps: int = 3000,
    rate: float = 0.05,
) -> Tensor:
    """Log-probability of every sequence after gradient descent from the reference, (V^T,)."""
    tables = [table.clone().requires_grad_() for table in conditionals(ref, vocabulary=vocabulary)]
    optimiser = torch.optim.Adam(tables, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(tables, ref, rewards, beta=beta, kl=kl).backward()
        optimiser.step()
        schedule.step()
    return sequence_logprobs(tables).detach()


def effective_number(logprobs: Tensor, good: Tensor) -> float:
    """1/Σ p² over the good sequences."""
    shares = logprobs[good].softmax(0)
    return float(1 / shares.square().sum())


def _forward(ref: Tensor, values: Tensor, *, beta: float) -> Tensor:
    """log of β q/(Λ − Q) by rows, with Λ > max Q by bisection."""
    top = values.max(1, keepdim=True).values
    low, high = torch.zeros_like(top), torch.full_like(top, beta)
    for _ in range(200):
        middle = (low + high) / 2
        is_large = (beta * ref.exp() / (top + middle - values)).sum(1, keepdim=True) > 1
        low, high = torch.where(is_large, middle, low), torch.where(is_large, high, middle)
    return (beta * ref.exp() / (top + high - values)).log()
