"""Thresholds against numpy's quantiles, and the rule for ties with the smallest reward."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import (
    BatchQuantile,
    Constant,
    GroupQuantile,
    Threshold,
    kl_in_rewards,
    leave_one_out_advantages,
    mara_rewards,
    remembered_threshold,
)

PROPERTY = settings(deadline=None, max_examples=150)
SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([-4, 0, 1, 10**9]),
        st.sampled_from([0.0, 0.25, 1.0, math.nan]) | st.integers(-8, 8).map(lambda k: k / 4),
    ),
    max_size=24,
)
QUANTILES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0.01, 0.99)


def by_hand(rewards: list[float], q: float, *, last: float = math.inf, smallest: float = math.inf) -> float:
    """τ of one group: the quantile of what could be scored; else what held before."""
    scored = [reward for reward in rewards if not math.isnan(reward)]
    if scored and float(np.quantile(scored, q)) > min(scored):
        return float(np.quantile(scored, q))
    if math.isfinite(last):
        return last
    return min((reward for reward in scored if reward > min(smallest, *scored)), default=math.inf)


@PROPERTY
@given(samples=SAMPLES, q=QUANTILES)
def test_group_quantile(samples: list[tuple[int, float]], q: float) -> None:
    rewards = torch.tensor([reward for _, reward in samples], dtype=torch.float64)
    group_ids = torch.tensor([group for group, _ in samples], dtype=torch.long)
    expected = [by_hand([r for g, r in samples if g == group], q) for group, _ in samples]
    np.testing.assert_allclose(GroupQuantile(q)(rewards, group_ids).numpy(), expected, rtol=0, atol=1e-12)


@PROPERTY
@given(samples=SAMPLES, q=QUANTILES)
def test_batch_quantile_pays_no_heed_to_groups(samples: list[tuple[int, float]], q: float) -> None:
    rewards = torch.tensor([reward for _, reward in samples], dtype=torch.float64)
    group_ids = torch.tensor([group for group, _ in samples], dtype=torch.long)
    expected = [by_hand([reward for _, reward in samples], q)] * len(samples)
    for ids in (group_ids, None):
        np.testing.assert_allclose(BatchQuantile(q)(rewards, ids).numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(GroupQuantile(q)(rewards).numpy(), expected, rtol=0, atol=1e-12)


def test_group_and_batch_quantile_differ_where_groups_do() -> None:
    rewards = torch.tensor([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    group_ids = torch.tensor([0, 0, 0, 1, 1, 1])
    assert GroupQuantile(0.5)(rewards, group_ids).tolist() == [2, 2, 2, 12, 12, 12]
    assert BatchQuantile(0.5)(rewards, group_ids).tolist() == [7] * 6


@pytest.mark.parametrize("threshold", [GroupQuantile(0.9), BatchQuantile(0.9)])
def test_a_failure_is_never_good_where_few_of_many_binary_rewards_are_correct(threshold: Threshold) -> None:
    """One success of 20: the 90th percentile is 0, which every failure reaches too."""
    rewards = torch.zeros(20)
    rewards[7] = 1
    tau = threshold(rewards)
    assert torch.equal(rewards >= tau, rewards == 1)
    ref_logprobs = -torch.arange(1.0, 21.0)
    augmented = mara_rewards(rewards, ref_logprobs, beta=0.1, threshold=tau)
    assert torch.equal(augmented.rewards, rewards)


@pytest.mark.parametrize("threshold", [GroupQuantile(0.9), BatchQuantile(0.9)])
def test_only_successes_are_good_where_there_are_enough(threshold: Threshold) -> None:
    rewards = torch.zeros(20)
    rewards[[3, 7, 11]] = 1
    assert torch.equal(rewards >= threshold(rewards), rewards == 1)


def test_equal_rewards_are_not_good_as_long_as_no_others_were_seen() -> None:
    assert GroupQuantile(0.9)(torch.full((8,), 0.7)).tolist() == [math.inf] * 8


# --- What one batch cannot tell: all good, or none ---


@PROPERTY
@given(batches=st.lists(SAMPLES, min_size=1, max_size=5), q=QUANTILES)
def test_thresholds_are_remembered_for_each_prompt(batches: list[list[tuple[int, float]]], q: float) -> None:
    """Against a loop over plain numbers. The same prompts come again, under other ids."""
    states: dict[type, Any] = {GroupQuantile: None, BatchQuantile: None}
    seen: dict[tuple[type, str], tuple[float, float]] = {}
    for number, samples in enumerate(batches):
        rewards = torch.tensor([reward for _, reward in samples], dtype=torch.float64)
        ids = torch.tensor([group + 7 * number for group, _ in samples], dtype=torch.long)
        names = [f"prompt {group}" for group, _ in samples]
        for kind, keys in ((GroupQuantile, names), (BatchQuantile, [""] * len(names))):
            given = names if kind is GroupQuantile else None
            tau, states[kind] = remembered_threshold(kind(q), rewards, ids, keys=given, state=states[kind])
            for key in dict.fromkeys(keys):
                own = [r for k, (_, r) in zip(keys, samples, strict=True) if k == key]
                last, smallest = seen.get((kind, key), (math.inf, math.inf))
                expected = by_hand(own, q, last=last, smallest=smallest)
                at = keys.index(key)
                assert float(tau[at]) == pytest.approx(expected, abs=1e-12)
                least = min((r for r in own if not math.isnan(r)), default=math.inf)
                seen[kind, key] = (expected, min(smallest, least))
        json.dumps([states[kind] for kind in states], allow_nan=False)  # plain data, for a checkpoint


@pytest.mark.parametrize("threshold", [GroupQuantile(0.9), BatchQuantile(0.9)])
def test_what_was_good_stays_so_when_all_are(threshold: Any) -> None:
    """Few successes, then successes alone, then none, then successes alone."""
    few, tau = torch.tensor([0.0] * 19 + [1.0]), None
    for rewards in (few, torch.ones(20), torch.zeros(20), torch.ones(20)):
        tau = threshold(rewards, last=tau)
        assert torch.equal(rewards >= tau, rewards == 1)


def test_a_batch_of_another_size_hands_on_its_threshold() -> None:
    tau = BatchQuantile(0.9)(torch.tensor([0.0, 1.0, 1.0]))
    assert BatchQuantile(0.9)(torch.ones(5), last=tau).tolist() == [1.0] * 5
    with pytest.raises(InputError, match=r"`last` must have shape \(5,\)"):
        GroupQuantile(0.9)(torch.ones(5), last=tau)


def test_failures_alone_and_then_successes_alone_are_told_apart() -> None:
    """In a group of four, batches with both may never come."""
    ids, keys = torch.tensor([0, 0, 1, 1]), ["a", "a", "b", "b"]
    state = None
    for rewards, expected in (
        ([0.0, 0.0, 1.0, 1.0], [math.inf] * 4),  # of each nothing else is known
        ([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, math.inf, math.inf]),
        ([1.0, 1.0, 1.0, 1.0], [1.0] * 4),
    ):
        tau, state = remembered_threshold(
            GroupQuantile(0.9), torch.tensor(rewards), ids, keys=keys, state=state
        )
        assert tau.tolist() == expected


def test_groups_without_names_are_not_remembered() -> None:
    """Group 0 of the next batch may be another prompt."""
    rewards, ids = torch.tensor([0.0, 1.0]), torch.tensor([0, 0])
    _, state = remembered_threshold(GroupQuantile(0.9), rewards, ids)
    tau, _ = remembered_threshold(GroupQuantile(0.9), torch.ones(2), ids, state=state)
    assert tau.tolist() == [math.inf] * 2
    with pytest.raises(InputError, match="`keys` must have 2 entries like `rewards`; got 1"):
        remembered_threshold(GroupQuantile(0.9), rewards, ids, keys=["a"])


def test_mara_by_a_quantile_keeps_good_answers_even_when_training_has_succeeded() -> None:
    """A loop of one's own on binary rewards: four of five outcomes good, the reference .6 .25 .1 .04 .01."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.tensor([0.6, 0.25, 0.1, 0.04, 0.01]).double().log()
    good = torch.tensor([0.0, 1, 1, 1, 1]).double()
    logits = torch.log_softmax(torch.where(good > 0, reference + 4, reference), 0).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.02)
    tau, equal = None, 0
    for _ in range(500):
        samples = logits.detach().exp().multinomial(128, replacement=True, generator=generator)
        rewards, ref = good[samples], reference[samples]
        equal += len(rewards.unique()) == 1
        tau = BatchQuantile(0.9)(rewards, last=tau)
        augmented = mara_rewards(rewards, ref, beta=0.1, threshold=tau).rewards
        logprobs = logits.log_softmax(0)[samples]
        advantages = leave_one_out_advantages(
            kl_in_rewards(augmented, logprobs.detach(), ref, beta=0.1), None
        )
        optimizer.zero_grad()
        (-advantages * logprobs).mean().backward()
        optimizer.step()
    assert equal > 200  # where the quantile of the batch alone would have called nothing good
    shares = logits.detach().softmax(0)[1:]
    torch.testing.assert_close(shares / shares.sum(), torch.full((4,), 0.25).double(), atol=0.06, rtol=0)


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
