"""Advantages against plain Python, and what they do to a policy gradient over all batches."""

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import group_advantages, leave_one_out_advantages
from allmodes.objectives.advantages import Scale
from tensors import close_with_nan, doubles

PROPERTY = settings(deadline=None, max_examples=150)
SCALES: tuple[Scale, ...] = ("none", "group", "batch")
SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([-4, 0, 1, 10**9]),
        st.sampled_from([0.0, 1.0, math.nan]) | st.floats(-3, 3),
    ),
    max_size=20,
)


def as_tensors(samples: list[tuple[int, float]]) -> tuple[Tensor, Tensor]:
    groups = torch.tensor([group for group, _ in samples], dtype=torch.long)
    return doubles([reward for _, reward in samples]), groups


def scored(samples: list[tuple[int, float]], group: int | None = None) -> list[float]:
    return [r for g, r in samples if not math.isnan(r) and group in (None, g)]


def std(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


@pytest.mark.parametrize("scale", SCALES)
@PROPERTY
@given(samples=SAMPLES, epsilon=st.sampled_from([1e-4, 0.5]))
def test_group_advantages(scale: Scale, samples: list[tuple[int, float]], epsilon: float) -> None:
    expected = []
    for group, reward in samples:
        if math.isnan(reward):
            expected.append(math.nan)
            continue
        centred = reward - statistics.fmean(scored(samples, group))
        if scale == "group":
            centred /= std(scored(samples, group)) + epsilon
        elif scale == "batch":
            centred /= std(scored(samples)) + epsilon
        expected.append(centred)
    rewards, groups = as_tensors(samples)
    # dividing by a spread of rounding errors plus 1e-4 keeps 4 digits fewer
    close_with_nan(group_advantages(rewards, groups, scale=scale, epsilon=epsilon), doubles(expected), 1e-9)


@PROPERTY
@given(samples=SAMPLES)
def test_leave_one_out_advantages(samples: list[tuple[int, float]]) -> None:
    expected = []
    for i, (group, reward) in enumerate(samples):
        others = scored([sample for j, sample in enumerate(samples) if j != i], group)
        if math.isnan(reward):
            expected.append(math.nan)
        else:
            expected.append(reward - statistics.fmean(others) if others else 0.0)
    rewards, groups = as_tensors(samples)
    close_with_nan(leave_one_out_advantages(rewards, groups), doubles(expected), 1e-12)


def test_default_epsilon_and_divisor() -> None:
    """GRPO's: rewards 0 and 1 have a standard deviation of √½ with divisor n − 1."""
    half = 0.5 / (math.sqrt(0.5) + 1e-4)
    close_with_nan(group_advantages(doubles([0, 1]), None, scale="group"), doubles([-half, half]))


def test_batch_scale_is_the_spread_of_raw_rewards_over_the_batch() -> None:
    """Groups of equal rewards: centred rewards are 0 whatever the spread between groups."""
    rewards, groups = doubles([0.0, 2.0, 10.0, 12.0]), torch.tensor([0, 0, 1, 1])
    spread = statistics.stdev([0.0, 2.0, 10.0, 12.0])
    expected = doubles([-1.0, 1.0, -1.0, 1.0]) / (spread + 1e-4)
    close_with_nan(group_advantages(rewards, groups, scale="batch"), expected)


@pytest.mark.parametrize("scale", SCALES)
def test_lone_equal_and_unscorable_samples(scale: Scale) -> None:
    rewards = doubles([0.7, 0.3, 0.3, math.nan, math.nan, 0.9])
    groups = torch.tensor([0, 1, 1, 1, 2, 3])
    expected = doubles([0, 0, 0, math.nan, math.nan, 0])
    close_with_nan(group_advantages(rewards, groups, scale=scale), expected, 1e-11)
    close_with_nan(leave_one_out_advantages(rewards, groups), expected)


def expected_policy_gradient(logits: Tensor, advantages: Tensor, batches: Tensor) -> Tensor:
    """E[Σ_i A_i ∇ log p(y_i)] / G over all batches (B, G)."""
    logprobs = logits.log_softmax(0)
    weights = logprobs.detach()[batches].sum(1).exp()
    surrogate = (weights * (advantages.view_as(batches) * logprobs[batches]).mean(1)).sum()
    return torch.autograd.grad(surrogate, logits)[0]


@pytest.mark.parametrize("batch", [2, 3])
def test_the_leave_one_out_baseline_is_unbiased_and_the_group_mean_short_by_one_over_g(batch: int) -> None:
    """Over all batches: ∇E[R] for leave-one-out, (1 − 1/G) ∇E[R] for the group's mean."""
    logits = doubles([0.2, -1.0, 0.7]).requires_grad_()
    of_outcome = doubles([0.9, -0.4, 2.0])
    batches = torch.cartesian_prod(*[torch.arange(3)] * batch)
    rewards = of_outcome[batches].flatten()
    groups = torch.arange(len(batches)).repeat_interleave(batch)
    exact = torch.autograd.grad((logits.softmax(0) * of_outcome).sum(), logits)[0]
    leave_one_out = leave_one_out_advantages(rewards, groups)
    mean = group_advantages(rewards, groups, scale="none")
    scaled = group_advantages(rewards, groups, scale="group")
    close_with_nan(expected_policy_gradient(logits, leave_one_out, batches), exact)
    close_with_nan(expected_policy_gradient(logits, mean, batches), (1 - 1 / batch) * exact)
    biased = expected_policy_gradient(logits, scaled, batches)
    cosine = torch.cosine_similarity(biased, exact, dim=0)
    assert float(cosine) < 0.999  # dividing by the group's own spread turns the gradient


def test_a_baseline_lowers_the_variance() -> None:
    """Rewards far from zero: what the baseline is for."""
    logits = doubles([0.2, -1.0, 0.7])
    of_outcome = doubles([10.9, 9.6, 12.0])
    batches = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    groups = torch.arange(9).repeat_interleave(2)
    weights = logits.softmax(0)[batches].prod(1)
    scores = torch.eye(3, dtype=torch.float64)[batches] - logits.softmax(0)  # ∇ log p(y): (B, G, K)

    def variance(advantages: Tensor) -> float:
        estimates = (advantages.view(9, 2, 1) * scores).mean(1)
        mean = (weights[:, None] * estimates).sum(0)
        return float((weights * (estimates - mean).square().sum(1)).sum())

    rewards = of_outcome[batches].flatten()
    assert variance(leave_one_out_advantages(rewards, groups)) < 0.1 * variance(rewards)


@pytest.mark.parametrize("scale", SCALES)
def test_no_samples(scale: Scale) -> None:
    for ids in (None, torch.empty(0, dtype=torch.long)):
        assert group_advantages(torch.empty(0), ids, scale=scale).shape == (0,)
        assert leave_one_out_advantages(torch.empty(0), ids).shape == (0,)


def test_errors() -> None:
    good = torch.zeros(4)
    with pytest.raises(InputError, match=r"`scale` must be one of \('none', 'group', 'batch'\); got 'std'"):
        group_advantages(good, None, scale="std")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"`rewards` must have shape \(N,\)"):
        group_advantages(good.view(2, 2), None, scale="none")
    with pytest.raises(InputError, match=r"`rewards` must have shape \(N,\)"):
        leave_one_out_advantages(good.view(2, 2), None)
    for ids in (torch.zeros(3, dtype=torch.long), good):
        with pytest.raises(InputError, match="`group_ids` must"):
            group_advantages(good, ids, scale="none")
        with pytest.raises(InputError, match="`group_ids` must"):
            leave_one_out_advantages(good, ids)
