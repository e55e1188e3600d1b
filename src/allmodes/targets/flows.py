"""Gradient flows over outcomes: how exact policy-gradient updates move a softmax policy.

A flow gives the velocity θ̇ of the logits, (..., K), at log-probabilities (..., K). Adding a constant to a
row of logits changes nothing, so two velocities are equal when they differ by a constant.
"""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from allmodes.checks import (
    check_choice,
    check_finite,
    check_fraction,
    check_not_negative,
    check_positive,
    check_same_shape,
)
from allmodes.errors import InputError
from allmodes.targets.ips import IpsRegularizer

Flow = Callable[[Tensor], Tensor]


def expected_return_flow(
    logprobs: Tensor,
    rewards: Tensor,
    *,
    baseline: float | Tensor = 0.0,
    ref_logprobs: Tensor | None = None,
    beta: float = 0.0,
) -> Tensor:
    """Gradient flow of E[r] − β KL(p ‖ q): θ̇ = E[(A − b) ∇ log p], A = r − β (log p − log q).

    θ̇_i = p_i (A_i − b) − p_i Σ p (A − b) = p_i (A_i − Σ p A)

    The baseline b, a number or of the leading shape, is computed as in a sampled policy gradient and cancels:
    it only affects the noise of an estimator. Without a KL, for any two outcomes
    d/dt log(p_i/p_j) = p_i (r_i − r̄) − p_j (r_j − r̄): the likelier one gains. If all rewards are equal,
    nothing moves; with β > 0 the flow ends in `reverse_kl_target`.

    Raises InputError for shapes that disagree, rewards that are not finite, or β > 0 without a reference.
    Source: IPS, Theorem 3.1.

    >>> logprobs = torch.tensor([0.5, 0.25, 0.25]).log()
    >>> expected_return_flow(logprobs, torch.tensor([1.0, 1.0, 0.0]))  # the likelier of two equals gains more
    tensor([ 0.1250,  0.0625, -0.1875])
    """
    gain = _advantage(logprobs, rewards, ref_logprobs, beta)
    p = logprobs.exp()
    shift = torch.as_tensor(baseline, dtype=p.dtype, device=p.device)
    above = gain - (shift.unsqueeze(-1) if shift.ndim else shift)
    weighted = _times(p, above)
    return weighted - p * weighted.sum(-1, keepdim=True)


def natural_gradient_flow(
    logprobs: Tensor, rewards: Tensor, *, ref_logprobs: Tensor | None = None, beta: float = 0.0
) -> Tensor:
    """Natural-gradient flow of E[r] − β KL(p ‖ q): θ̇_i = A_i = r_i − β (log p_i − log q_i).

    Log-ratios then grow linearly with the difference of rewards, p(t) ∝ p(0) exp(t r); with a KL they relax
    to those of `reverse_kl_target` at the rate β. Shapes and errors as `expected_return_flow`; where p_i = 0
    the velocity is 0. Source: Kakade 2001; the IPS paper claims this linear growth for the plain gradient.

    >>> logprobs = torch.tensor([0.5, 0.25, 0.25]).log()
    >>> natural_gradient_flow(logprobs, torch.tensor([1.0, 1.0, 0.0]))
    tensor([1., 1., 0.])
    """
    gain = _advantage(logprobs, rewards, ref_logprobs, beta)
    return torch.where(logprobs.isneginf(), 0, gain)


def ips_flow(
    logprobs: Tensor,
    rewards: Tensor,
    *,
    ref_logprobs: Tensor | None = None,
    beta: float = 0.0,
    regularizer: IpsRegularizer = "reverse",
    group_size: int | None = None,
    min_probability: float = 0.0,
) -> Tensor:
    """Expected update of a policy gradient on rewards divided by outcome probabilities.

    θ̇_i = r_i w_i − p_i Σ r w − β (gradient of the regulariser),   w_i = E[p̂_i / max(p̂_i, p_min)]

    With exact probabilities (group_size None) p̂ = p and, without p_min, w = 1: θ̇_i = r_i − p_i Σ r. With
    frequencies p̂ = n/G of a group of G, n is binomial: w_i = 1 − (1 − p_i)^G without p_min, so an
    outcome that is rarely drawn is rarely rewarded. No baseline. The KL is not divided by p: "reverse" is
    KL(p ‖ q), "forward" KL(q ‖ p), and "in_reward" subtracts β log(p/q) from r before the division by an
    exact p.

    If `ips_target` knows the fixed point (no p_min, and not both a group size and a KL), the flow ends there.
    Shapes and errors as in `expected_return_flow`; also raises InputError for a group size below 1, and for
    "in_reward" with a group size. Source: IPS, Theorem 4.1 and equation 9.

    >>> logprobs = torch.tensor([0.5, 0.25, 0.25]).log()
    >>> ips_flow(logprobs, torch.tensor([1.0, 1.0, 0.0]))
    tensor([ 0.0000,  0.5000, -0.5000])
    """
    check_choice("regularizer", regularizer, ("reverse", "forward", "in_reward"))
    check_same_shape("rewards", rewards, "logprobs", logprobs)
    check_finite("rewards", rewards)
    check_fraction("min_probability", min_probability)
    if regularizer == "in_reward" and group_size is not None:
        raise InputError('`group_size` must be None with "in_reward"')
    check_not_negative("beta", beta)
    p = logprobs.exp()
    inclusion = _inclusion(p, group_size, min_probability)
    scaled = rewards * inclusion
    if beta == 0:
        return scaled - p * scaled.sum(-1, keepdim=True)
    if ref_logprobs is None:
        raise InputError("`ref_logprobs` must be given where `beta` is not 0; got None")
    check_same_shape("ref_logprobs", ref_logprobs, "logprobs", logprobs)
    if regularizer == "in_reward":
        scaled = (rewards - beta * (logprobs - ref_logprobs)) * inclusion
        return scaled - p * scaled.sum(-1, keepdim=True)
    flow = scaled - p * scaled.sum(-1, keepdim=True)
    if regularizer == "forward":
        return flow - beta * (p - ref_logprobs.exp())
    weighted = _times(p, logprobs - ref_logprobs)
    return flow - beta * (weighted - p * weighted.sum(-1, keepdim=True))


def integrate_flow(flow: Flow, logprobs: Tensor, *, times: Tensor, max_step: float) -> Tensor:
    """Integrate a flow of the logits from given log-probabilities; returns log p at each time, (T, ..., K).

    times: (T,), ascending, at least 0. Classical Runge-Kutta of fourth order in steps of at most `max_step`,
    which must be well below the flow's shortest time scale (one is 1 over the sum of rewards).

    Raises InputError for times that do not rise from at least 0, or a step that is not positive.

    >>> rewards = torch.tensor([1.0, 1.0, 0.5])
    >>> start = torch.tensor([0.9, 0.05, 0.05]).log()
    >>> times = torch.tensor([0.0, 20.0])
    >>> integrate_flow(lambda p: ips_flow(p, rewards), start, times=times, max_step=0.1)[-1].exp()
    tensor([0.4000, 0.4000, 0.2000])
    """
    if times.ndim != 1 or len(times) == 0 or float(times[0]) < 0 or bool((times.diff() <= 0).any()):
        raise InputError("`times` must be an ascending vector of numbers of at least 0")
    check_finite("times", times)
    check_positive("max_step", max_step)
    logits, now = logprobs, 0.0
    path: list[Tensor] = []

    def velocity(at: Tensor) -> Tensor:
        return flow(torch.log_softmax(at, -1))

    for time in cast("list[float]", times.tolist()):  # pyright: ignore[reportUnknownMemberType]
        count = math.ceil((time - now) / max_step)
        h = (time - now) / max(count, 1)
        for _ in range(count):
            k1 = velocity(logits)
            k2 = velocity(logits + h / 2 * k1)
            k3 = velocity(logits + h / 2 * k2)
            k4 = velocity(logits + h * k3)
            logits = logits + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        now = time
        logits = torch.log_softmax(logits, -1)
        path.append(logits)
    return torch.stack(path)


def _advantage(logprobs: Tensor, rewards: Tensor, ref_logprobs: Tensor | None, beta: float) -> Tensor:
    check_same_shape("rewards", rewards, "logprobs", logprobs)
    check_finite("rewards", rewards)
    check_not_negative("beta", beta)
    if beta == 0:
        return rewards
    if ref_logprobs is None:
        raise InputError("`ref_logprobs` must be given where `beta` is not 0; got None")
    check_same_shape("ref_logprobs", ref_logprobs, "logprobs", logprobs)
    return rewards - beta * (logprobs - ref_logprobs)


def _times(p: Tensor, values: Tensor) -> Tensor:
    """Products p · values with 0 · inf = 0: an outcome without mass does not move."""
    return torch.where(p > 0, p * values, 0)


def _inclusion(p: Tensor, group_size: int | None, min_probability: float) -> Tensor:
    """Expected weight w = E[p̂ / max(p̂, p_min)] of each outcome."""
    if group_size is None:
        return p / p.clamp(min=min_probability) if min_probability > 0 else torch.ones_like(p)
    if group_size < 1:
        raise InputError(f"`group_size` must be at least 1; got {group_size}")
    if min_probability == 0:
        return -torch.expm1(group_size * torch.log1p(-p))
    counts = torch.arange(1, group_size + 1, dtype=p.dtype, device=p.device)
    share = counts / group_size
    total = torch.tensor(float(group_size) + 1, dtype=p.dtype, device=p.device)
    log_choose = torch.lgamma(total) - torch.lgamma(counts + 1) - torch.lgamma(total - counts)
    hit, miss = p.unsqueeze(-1), 1 - p.unsqueeze(-1)
    log_chance = log_choose + torch.xlogy(counts, hit) + torch.xlogy(group_size - counts, miss)
    return (log_chance.exp() * share / share.clamp(min=min_probability)).sum(-1)
