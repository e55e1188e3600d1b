"""Losses: values by hand, expected gradients by enumeration."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import policy_gradient_loss, reinvent_loss
from tensors import close

ExpectedGradient = Callable[[Tensor, Tensor], Tensor]


def regularised_return(logits: Tensor, ref_logprobs: Tensor, rewards: Tensor, sigma: float) -> Tensor:
    """E[R] − KL(π_θ ‖ π_ref)/σ, summed over all outcomes."""
    logprobs = logits.log_softmax(0)
    return (logprobs.exp() * (rewards - (logprobs - ref_logprobs) / sigma)).sum()


def test_reinvent_loss_of_one_sample() -> None:
    one = torch.ones(1, dtype=torch.float64)
    close(reinvent_loss(-3 * one, -5 * one, 0.5 * one, sigma=10), 9 * one)  # (−3 + 5 − 5)²


@pytest.mark.parametrize("sigma", [0.5, 20.0])
def test_reinvent_loss_has_the_gradient_of_the_regularised_return(
    sigma: float, logits: Tensor, ref_logprobs: Tensor, rewards: Tensor, expected_gradient: ExpectedGradient
) -> None:
    losses = reinvent_loss(logits.log_softmax(0), ref_logprobs, rewards, sigma=sigma)
    exact = torch.autograd.grad(regularised_return(logits, ref_logprobs, rewards, sigma), logits)[0]
    close(expected_gradient(losses, logits), -2 * sigma * exact, 1e-11)


@pytest.mark.parametrize("sigma", [0.5, 4.0])
def test_reinvent_loss_rests_at_the_reverse_kl_optimum(
    sigma: float, ref_logprobs: Tensor, rewards: Tensor, expected_gradient: ExpectedGradient
) -> None:
    """At π_ref exp(σR)/Z all outcomes have the same loss (log Z)², and its gradient is zero."""
    optimum = (ref_logprobs + sigma * rewards).requires_grad_()
    losses = reinvent_loss(optimum.log_softmax(0), ref_logprobs, rewards, sigma=sigma)
    log_partition = torch.logsumexp((ref_logprobs + sigma * rewards).detach(), 0)
    close(losses.detach(), (log_partition**2).expand_as(losses))
    close(expected_gradient(losses, optimum), torch.zeros_like(rewards))
    other = ref_logprobs.clone().requires_grad_()
    elsewhere = expected_gradient(
        reinvent_loss(other.log_softmax(0), ref_logprobs, rewards, sigma=sigma), other
    )
    assert float(elsewhere.abs().max()) > 1e-2


def test_reinvent_loss_is_zero_at_the_optimum_alone_where_the_partition_function_is_one(
    ref_logprobs: Tensor, rewards: Tensor
) -> None:
    """Then the loss is a squared distance for samples from anywhere."""
    sigma = 2.0
    centred = rewards - torch.logsumexp(ref_logprobs + sigma * rewards, 0) / sigma
    optimum = ref_logprobs + sigma * centred
    close(reinvent_loss(optimum, ref_logprobs, centred, sigma=sigma), torch.zeros_like(rewards))
    assert bool((reinvent_loss(ref_logprobs, ref_logprobs, centred, sigma=sigma) > 1e-4).all())


def test_reinvent_loss_moves_the_policy_alone() -> None:
    tensors = [torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True) for _ in range(3)]
    logprobs, ref_logprobs, rewards = tensors
    reinvent_loss(logprobs, ref_logprobs, rewards, sigma=3).sum().backward()
    assert logprobs.grad is not None
    close(logprobs.grad, -2 * 3 * rewards.detach())
    assert ref_logprobs.grad is None
    assert rewards.grad is None


def test_reinvent_loss_refuses_bad_input() -> None:
    good = torch.zeros(4)
    with pytest.raises(InputError, match="`logprobs` must have shape"):
        reinvent_loss(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4, 2), sigma=1)
    with pytest.raises(InputError, match="`ref_logprobs` must have shape"):
        reinvent_loss(good, torch.zeros(1), good, sigma=1)
    with pytest.raises(InputError, match="`rewards` must have shape"):
        reinvent_loss(good, good, torch.zeros(1), sigma=1)
    for sigma in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="`sigma` must be a finite number above 0"):
            reinvent_loss(good, good, good, sigma=sigma)


# ρ, advantage, loss at ε_low = .2 and ε_high = .4, ∂loss/∂log π_θ
CLIPPING = [
    (1.0, 2.0, -2.0, -2.0),  # on-policy: −A ∇ log π_θ
    (1.3, 2.0, -2.6, -2.6),  # inside; a symmetric ε of .2 would clip it
    (1.5, 2.0, -2.8, 0.0),  # too far up for a good sample: clipped
    (0.5, 2.0, -1.0, -1.0),  # too low for a good sample: pulled back
    (0.85, -3.0, 2.55, 2.55),  # inside
    (0.7, -3.0, 2.4, 0.0),  # too far down for a bad sample: clipped; a symmetric ε of .4 would not
    (1.5, -3.0, 4.5, 4.5),  # too high for a bad sample: pulled back
    (1.5, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("ratio", "advantage", "value", "slope"), CLIPPING)
def test_policy_gradient_loss_clips_each_side_by_its_own_epsilon(
    ratio: float, advantage: float, value: float, slope: float
) -> None:
    old = torch.tensor([-2.0], dtype=torch.float64)
    logprobs = (old + math.log(ratio)).requires_grad_()
    advantages = torch.tensor([advantage], dtype=torch.float64)
    loss = policy_gradient_loss(logprobs, old, advantages, clip_low=0.2, clip_high=0.4)
    gradient = torch.autograd.grad(loss.sum(), logprobs)[0]
    close(loss.detach(), torch.tensor([value], dtype=torch.float64))
    close(gradient, torch.tensor([slope], dtype=torch.float64))


def test_on_policy_policy_gradient_loss_has_the_gradient_of_the_return(
    logits: Tensor, rewards: Tensor, expected_gradient: ExpectedGradient
) -> None:
    logprobs = logits.log_softmax(0)
    losses = policy_gradient_loss(logprobs, logprobs.detach(), rewards, clip_low=0.2, clip_high=0.2)
    exact = torch.autograd.grad((logits.softmax(0) * rewards).sum(), logits)[0]
    close(expected_gradient(losses, logits), -exact)


def test_off_policy_policy_gradient_loss_is_importance_weighted(
    logits: Tensor, ref_logprobs: Tensor, rewards: Tensor
) -> None:
    """Samples from π_old, with a trust region too wide to clip: E_old[ρ A] is E[A] under π_θ."""
    wide = 1e6
    losses = policy_gradient_loss(logits.log_softmax(0), ref_logprobs, rewards, clip_low=wide, clip_high=wide)
    expected = (ref_logprobs.exp() * losses).sum()
    exact = (logits.softmax(0) * rewards).sum()
    close(expected, -exact)
    close(torch.autograd.grad(expected, logits)[0], -torch.autograd.grad(exact, logits)[0])


def test_policy_gradient_loss_moves_the_policy_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]
    loss = policy_gradient_loss(*tensors, clip_low=0.2, clip_high=0.2)
    assert loss.shape == (2, 3)
    loss.sum().backward()
    assert tensors[0].grad is not None
    assert tensors[1].grad is None
    assert tensors[2].grad is None


def test_policy_gradient_loss_refuses_bad_input() -> None:
    good = torch.zeros(4, 3)
    with pytest.raises(InputError, match="`old_logprobs` must have shape"):
        policy_gradient_loss(good, torch.zeros(4, 1), good, clip_low=0.2, clip_high=0.2)
    with pytest.raises(InputError, match="`advantages` must have shape"):
        policy_gradient_loss(good, good, torch.zeros(4, 1), clip_low=0.2, clip_high=0.2)
    with pytest.raises(InputError, match="`clip_low` must be"):
        policy_gradient_loss(good, good, good, clip_low=0, clip_high=0.2)
    with pytest.raises(InputError, match="`clip_high` must be"):
        policy_gradient_loss(good, good, good, clip_low=0.2, clip_high=math.nan)
