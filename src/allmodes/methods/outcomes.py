"""Optima over strings from optima over outcomes, which can have several strings each."""

from collections.abc import Callable

import torch
from torch import Tensor

from allmodes.checks import check_same_shape


def over_outcomes(
    solve: Callable[[Tensor, Tensor], Tensor | None],
    ref_logprobs: Tensor,
    rewards: Tensor,
    outcome_ids: Tensor | None,
) -> Tensor | None:
    """The optimum over strings of a method that only depends on outcomes, (..., K).

    p(y) = s(o(y)) π_ref(y) / π_ref(o(y)),   s = solve(log π_ref(o), R(o))

    Within an outcome the reference's shares stay. ref_logprobs, rewards: (..., K); outcome_ids: (K,), or None
    if each string is its own outcome. solve: (..., U) over the distinct outcomes, in the order of their ids.
    None if `solve` returns None, if strings of one outcome differ in reward, or if an outcome that the
    reference never writes has mass, since its split over strings is not known.
    """
    if outcome_ids is None:
        return solve(ref_logprobs, rewards)
    check_same_shape(
        "outcome_ids", outcome_ids, "rewards (of one row)", rewards.reshape(-1, rewards.shape[-1])[0]
    )
    distinct, index = torch.unique(outcome_ids, return_inverse=True)
    spread = index.expand(rewards.shape)
    shape = (*rewards.shape[:-1], len(distinct))
    highest = rewards.new_full(shape, -torch.inf).scatter_reduce(-1, spread, rewards, "amax")
    if not torch.equal(highest.gather(-1, spread), rewards):
        return None
    marginal = _log_sum(ref_logprobs, spread, shape)
    found = solve(marginal, highest)
    if found is None or bool((marginal.isneginf() & ~found.isneginf()).any()):
        return None
    within = ref_logprobs - marginal.gather(-1, spread)
    return torch.where(ref_logprobs.isneginf(), -torch.inf, found.gather(-1, spread) + within)


def _log_sum(logprobs: Tensor, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    top = logprobs.new_full(shape, -torch.inf).scatter_reduce(-1, index, logprobs, "amax")
    safe = torch.where(top.isneginf(), 0, top)
    total = logprobs.new_zeros(shape).scatter_add(-1, index, (logprobs - safe.gather(-1, index)).exp())
    return safe + total.log()
