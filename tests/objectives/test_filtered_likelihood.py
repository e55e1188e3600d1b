"""Filtered likelihood: its value, its gradient over all outcomes, and the ratios that it keeps."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import filtered_likelihood_loss
from tensors import doubles

ROWS = st.lists(
    st.tuples(
        st.floats(-30, 0),
        st.sampled_from([math.nan, 0.5]) | st.floats(-2, 2),
        st.sampled_from([0.5, math.inf, -math.inf]) | st.floats(-2, 2),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(rows=ROWS)
def test_value_and_gradient_of_each_sample(rows: list[tuple[float, float, float]]) -> None:
    logprobs = doubles([row[0] for row in rows]).requires_grad_()
    losses = filtered_likelihood_loss(
        logprobs, doubles([row[1] for row in rows]), threshold=doubles([row[2] for row in rows])
    )
    assert losses.tolist() == [-logprob if reward >= tau else 0 for logprob, reward, tau in rows]
    losses.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-1.0 if reward >= tau else 0 for _, reward, tau in rows]


@pytest.mark.parametrize("threshold", [-10.0, 0.0, 0.4, 10.0])
def test_the_expected_gradient_is_that_of_the_good_mass(
    logits: Tensor,
    rewards: Tensor,
    threshold: float,
    expected_gradient: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """On-policy: −∇ P(R ≥ τ)."""
    logprobs = logits.log_softmax(0)
    losses = filtered_likelihood_loss(logprobs, rewards, threshold=threshold)
    good_mass = logits.softmax(0)[rewards >= threshold].sum()
    (expected,) = torch.autograd.grad(good_mass, logits)
    torch.testing.assert_close(expected_gradient(losses, logits), -expected, rtol=0, atol=1e-14)


def test_the_minimum_over_fixed_samples_keeps_the_ratios_of_the_good() -> None:
    """Samples of π: the likeliest policy gives the good outcomes π conditioned on being good."""
    policy, rewards = doubles([0.1, 0.3, 0.2, 0.4]), doubles([1.0, 0.6, 0.2, 0.9])
    good = rewards >= 0.5
    conditioned = torch.where(good, policy, 0) / policy[good].sum()

    def loss(logits: Tensor) -> Tensor:
        losses = filtered_likelihood_loss(logits.log_softmax(0), rewards, threshold=0.5)
        return (policy * losses).sum()

    logits = torch.where(good, conditioned.log(), -40.0).requires_grad_()
    gradient = torch.autograd.grad(loss(logits), logits)[0]
    torch.testing.assert_close(gradient, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-14)
    least = float(loss(logits.detach()))
    for i in good.nonzero().flatten().tolist():
        for step in (-0.1, 0.1):
            moved = logits.detach().clone()
            moved[i] += step
            assert float(loss(moved)) > least + 1e-5  # the minimum, in every direction


def test_a_nan_reward_is_never_good_and_nothing_flows_to_rewards() -> None:
    rewards = torch.tensor([math.nan, 1.0], requires_grad=True)
    logprobs = torch.tensor([-2.0, -3.0], requires_grad=True)
    losses = filtered_likelihood_loss(logprobs, rewards, threshold=-math.inf)
    assert losses.tolist() == [0, 3]
    losses.sum().backward()
    assert rewards.grad is None


def test_empty_batch() -> None:
    assert filtered_likelihood_loss(torch.empty(0), torch.empty(0), threshold=0.5).shape == (0,)


def test_shapes_that_disagree() -> None:
    with pytest.raises(InputError, match=r"`logprobs` must have shape \(N,\)"):
        filtered_likelihood_loss(torch.ones(2, 2), torch.ones(2, 2), threshold=0)
    with pytest.raises(InputError, match=r"`rewards` must have shape \(2,\)"):
        filtered_likelihood_loss(torch.ones(2), torch.ones(3), threshold=0)
    for threshold in (torch.zeros(2, 1), torch.zeros(1), torch.zeros(3)):
        with pytest.raises(InputError, match=r"`threshold` must have shape \(2,\)"):
            filtered_likelihood_loss(torch.ones(2), torch.ones(2), threshold=threshold)
    losses = filtered_likelihood_loss(-torch.ones(2), torch.ones(2), threshold=torch.tensor(0.5))
    assert losses.tolist() == [1, 1]
