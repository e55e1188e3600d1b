"""Thresholds against numpy's quantiles, and the rule for ties with the smallest reward."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import BatchQuantile, Constant, GroupQuantile, Threshold, mara_rewards

PROPERTY = settings(deadline=None, max_examples=150)
SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([-4, 0, 1, 10**9]),
        st.sampled_from([0.0, 0.25, 1.0, math.nan]) | st.integers(-8, 8).map(lambda k: k / 4),
    ),
    max_size=24,
)
QUANTILES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0.01, 0.99)


def quantile_or_infinity(rewards: list[float], q: float) -> float:
    """τ of one group: the quantile of what could be scored, +inf where that is the smallest reward."""
    scored = [reward for reward in rewards if not math.isnan(reward)]
    if not scored:
        return math.inf
    quantile = float(np.quantile(scored, q))
    return quantile if quantile > min(scored) else math.inf


@PROPERTY
@given(samples=SAMPLES, q=QUANTILES)
def test_group_quantile(samples: list[tuple[int, float]], q: float) -> None:
    rewards = torch.tensor([reward for _, reward in samples], dtype=torch.float64)
    group_ids = torch.tensor([group for group, _ in samples], dtype=torch.long)
    expected = [quantile_or_infinity([r for g, r in samples if g == group], q) for group, _ in samples]
    np.testing.assert_allclose(GroupQuantile(q)(rewards, group_ids).numpy(), expected, rtol=0, atol=1e-12)


@PROPERTY
@given(samples=SAMPLES, q=QUANTILES)
def test_batch_quantile_pays_no_heed_to_groups(samples: list[tuple[int, float]], q: float) -> None:
    rewards = torch.tensor([reward for _, reward in samples], dtype=torch.float64)
    group_ids = torch.tensor([group for group, _ in samples], dtype=torch.long)
    expected = [quantile_or_infinity([reward for _, reward in samples], q)] * len(samples)
    for ids in (group_ids, None):
        np.testing.assert_allclose(BatchQuantile(q)(rewards, ids).numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(GroupQuantile(q)(rewards).numpy(), expected, rtol=0, atol=1e-12)


def test_group_and_batch_quantile_differ_where_groups_do() -> None:
    rewards = torch.tensor([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    group_ids = torch.tensor([0, 0, 0, 1, 1, 1])
    assert GroupQuantile(0.5)(rewards, group_ids).tolist() == [2, 2, 2, 12, 12, 12]
    assert BatchQuantile(0.5)(rewards, group_ids).tolist() == [7] * 6


@pytest.mark.parametrize("threshold", [GroupQuantile(0.9), BatchQuantile(0.9)])
def test_nothing_is_good_where_few_of_many_binary_rewards_are_correct(threshold: Threshold) -> None:
    """One success of 20: the 90th percentile is 0, which every failure reaches too."""
    rewards = torch.zeros(20)
    rewards[7] = 1
    tau = threshold(rewards)
    assert bool((tau == math.inf).all())
    ref_logprobs = -torch.arange(1.0, 21.0)
    augmented = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=tau)
    assert torch.equal(augmented.rewards, rewards)


@pytest.mark.parametrize("threshold", [GroupQuantile(0.9), BatchQuantile(0.9)])
def test_only_successes_are_good_where_there_are_enough(threshold: Threshold) -> None:
    rewards = torch.zeros(20)
    rewards[[3, 7, 11]] = 1
    assert torch.equal(rewards >= threshold(rewards), rewards == 1)


def test_equal_rewards_are_not_good() -> None:
    assert GroupQuantile(0.9)(torch.full((8,), 0.7)).tolist() == [math.inf] * 8


def test_constant() -> None:
    rewards = torch.tensor([0.1, math.nan, 3.0], dtype=torch.float64)
    tau = Constant(0.5)(rewards, torch.tensor([0, 1, 1]))
    assert torch.equal(tau, torch.full((3,), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("threshold", [Constant(0.5), GroupQuantile(0.5), BatchQuantile(0.5)])
@pytest.mark.parametrize("ids", [None, torch.empty(0, dtype=torch.long)])
def test_no_samples(threshold: Threshold, ids: Tensor | None) -> None:
    assert threshold(torch.empty(0), ids).shape == (0,)


@pytest.mark.parametrize("quantile", [GroupQuantile, BatchQuantile])
@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan, 90])
def test_a_quantile_outside_0_to_1_is_refused(quantile: type, q: float) -> None:
    with pytest.raises(InputError, match="`q` must lie between 0 and 1"):
        quantile(q)


@pytest.mark.parametrize("threshold", [Constant(0.5), GroupQuantile(0.5), BatchQuantile(0.5)])
def test_rewards_must_be_a_vector(threshold: Threshold) -> None:
    with pytest.raises(InputError, match=r"`rewards` must have shape \(N,\)"):
        threshold(torch.zeros(2, 2))


def test_group_ids_must_have_the_shape_of_the_rewards() -> None:
    with pytest.raises(InputError, match="`group_ids` must have shape"):
        GroupQuantile(0.5)(torch.zeros(4), torch.zeros(3, dtype=torch.long))
