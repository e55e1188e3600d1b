"""Target rewards: any density g as rewards, and MARA as a case of it."""

import math

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import mara_rewards, target_rewards
from tensors import close


@pytest.mark.parametrize("beta", [0.02, 1.0, 7.0])
def test_the_optimum_is_the_density(beta: float, ref_logprobs: Tensor, rewards: Tensor) -> None:
    """The regularised return E[r] − β KL has no gradient at g/Σg, and π_ref exp(r/β) is g itself."""
    augmented = target_rewards(rewards, ref_logprobs, beta=beta)
    close((ref_logprobs + augmented / beta).exp(), rewards.exp())
    logits = rewards.clone().requires_grad_()
    logprobs = logits.log_softmax(0)
    objective = (logprobs.exp() * (augmented - beta * (logprobs - ref_logprobs))).sum()
    close(torch.autograd.grad(objective, logits)[0], torch.zeros_like(rewards))


@pytest.mark.parametrize("beta", [0.02, 1.0])
def test_the_density_of_vanilla_rl_gives_back_the_rewards(
    beta: float, ref_logprobs: Tensor, rewards: Tensor
) -> None:
    close(target_rewards(ref_logprobs + rewards / beta, ref_logprobs, beta=beta), rewards)


@pytest.mark.parametrize("beta", [0.02, 1.0])
def test_mara_is_a_case(beta: float, ref_logprobs: Tensor, rewards: Tensor) -> None:
    """log g = log π_ref(z) + R(z)/β above τ: a route to r̄ that shares no line with MARA's."""
    threshold = float(rewards.median())
    good = rewards >= threshold
    assert 1 < int(good.sum()) < len(rewards)
    z = max((i for i in range(len(rewards)) if good[i]), key=lambda i: float(ref_logprobs[i]))
    log_density = torch.where(good, ref_logprobs[z] + rewards[z] / beta, ref_logprobs + rewards / beta)
    expected = mara_rewards(rewards, ref_logprobs, beta=beta, threshold=threshold).rewards
    close(target_rewards(log_density, ref_logprobs, beta=beta), expected)


def test_a_constant_in_the_density_is_a_constant_in_the_rewards(
    ref_logprobs: Tensor, rewards: Tensor
) -> None:
    shifted = target_rewards(rewards + 3, ref_logprobs, beta=0.5)
    close(shifted - target_rewards(rewards, ref_logprobs, beta=0.5), torch.full_like(rewards, 1.5))


def test_errors() -> None:
    good = torch.zeros(2, 3)
    with pytest.raises(InputError, match=r"`ref_logprobs` must have shape \(2, 3\) like `log_density`"):
        target_rewards(good, torch.zeros(3), beta=1)
    with pytest.raises(InputError, match="`beta` must be"):
        target_rewards(good, good, beta=0)
    for value in (math.nan, math.inf, -math.inf):
        bad = good.clone()
        bad[1, 2] = value
        with pytest.raises(InputError, match=r"`log_density` must be finite; got .* at index \[1, 2\]"):
            target_rewards(bad, good, beta=1)
        with pytest.raises(InputError, match=r"`ref_logprobs` must be finite; got .* at index \[1, 2\]"):
            target_rewards(good, bad, beta=1)
