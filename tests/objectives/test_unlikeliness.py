"""Unlikeliness rewards against a plain loop with ties, and by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import unlikeliness_rewards
from tensors import close_with_nan, doubles

PROPERTY = settings(deadline=None, max_examples=200)
GROUPS = [-7, -1, 0, 3, 10**12]
Sample = tuple[int, float, float]  # group, reward, mean log-probability
SAMPLES = st.lists(
    st.tuples(
        st.sampled_from(GROUPS),
        st.sampled_from([math.nan, 0.0, 1.0]) | st.floats(0, 5),
        st.sampled_from([-2.0, -1.0, -0.0, 0.0]) | st.floats(-20, 0),
    ),
    max_size=16,
)
STRENGTHS = st.sampled_from([0.0, 0.25, 1.0]) | st.floats(0, 1)


def call(samples: list[Sample], strength: float) -> Tensor:
    return unlikeliness_rewards(
        doubles([reward for _, reward, _ in samples]),
        doubles([logprob for _, _, logprob in samples]),
        strength=strength,
        group_ids=torch.tensor([group for group, _, _ in samples], dtype=torch.long),
    )


def slow(samples: list[Sample], strength: float) -> list[float]:
    """The mean rank among ties is the number of smaller ones plus half the number of other equals."""
    rewards = []
    for group, reward, logprob in samples:
        own = [other for which, _, other in samples if which == group]
        rank = sum(other < logprob for other in own) + (own.count(logprob) - 1) / 2
        rewards.append(reward * (1 - strength * rank / len(own)))
    return rewards


@PROPERTY
@given(samples=SAMPLES, strength=STRENGTHS)
def test_equation_6(samples: list[Sample], strength: float) -> None:
    close_with_nan(call(samples, strength), doubles(slow(samples, strength)))


@PROPERTY
@given(samples=SAMPLES, strength=STRENGTHS, data=st.data())
def test_the_order_of_samples_and_the_names_of_groups_do_not_matter(
    samples: list[Sample], strength: float, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(samples))))
    names = dict(zip(GROUPS, data.draw(st.permutations(range(5))), strict=True))
    shuffled = [(names[samples[i][0]], samples[i][1], samples[i][2]) for i in order]
    before = call(samples, strength)[torch.tensor(order, dtype=torch.long)]
    close_with_nan(call(shuffled, strength), before, 0)


@PROPERTY
@given(samples=SAMPLES, strength=st.floats(0.01, 1))
def test_the_less_likely_of_two_equally_rewarded_samples_counts_for_more(
    samples: list[Sample], strength: float
) -> None:
    level = [(group, 1.0, logprob) for group, _, logprob in samples]
    rewards = call(level, strength).tolist()
    for (group, _, logprob), reward in zip(level, rewards, strict=True):
        assert 0 < reward <= 1
        for (other_group, _, other), other_reward in zip(level, rewards, strict=True):
            if group == other_group:
                assert (reward > other_reward) == (logprob < other)


def test_by_hand() -> None:
    """Two groups of 4 and 2 at b = .25; the tie at −2 shares rank 1.5."""
    rewards = unlikeliness_rewards(
        doubles([1.0, 1.0, 2.0, 0.0, 3.0, 1.0]),
        doubles([-3.0, -2.0, -2.0, -1.0, -0.5, -9.0]),
        strength=0.25,
        group_ids=torch.tensor([0, 0, 0, 0, 1, 1]),
    )
    close_with_nan(rewards, doubles([1.0, 1 - 1.5 / 16, 2 - 3 / 16, 0.0, 3 - 3 / 8, 1.0]))


def test_no_group_ids_is_one_group_and_strength_zero_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, logprobs = torch.rand(2, 50, generator=generator, dtype=torch.float64)
    one = unlikeliness_rewards(rewards, -logprobs, strength=0.3)
    same = unlikeliness_rewards(rewards, -logprobs, strength=0.3, group_ids=torch.full((50,), -4))
    assert torch.equal(one, same)
    assert torch.equal(unlikeliness_rewards(rewards, -logprobs, strength=0), rewards)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_ties_of_many_in_low_precision(dtype: torch.dtype) -> None:
    """600 alike have the mean rank 299.5; their sum of ranks, 179,700, is beyond float16."""
    rewards = unlikeliness_rewards(
        torch.ones(600, dtype=dtype), torch.full((600,), -1.0, dtype=dtype), strength=0.25
    )
    expected = torch.full((600,), 1 - 0.25 * 299.5 / 600, dtype=torch.float64).to(dtype)
    assert rewards.dtype == dtype
    torch.testing.assert_close(rewards, expected)


def test_empty_batch() -> None:
    empty = torch.empty(0)
    for group_ids in (None, torch.empty(0, dtype=torch.long)):
        assert unlikeliness_rewards(empty, empty, strength=0.25, group_ids=group_ids).shape == (0,)


@pytest.mark.parametrize(
    ("rewards", "logprobs", "strength", "message"),
    [
        ([1.0, -0.5], [-1.0, -2.0], 0.25, "`rewards` must not be negative .* got -0.5"),
        ([1.0, 1.0], [-1.0, -math.inf], 0.25, "`mean_logprobs` must be finite"),
        ([1.0, 1.0], [-1.0, math.nan], 0.25, "`mean_logprobs` must be finite"),
        ([1.0, 1.0], [-1.0], 0.25, r"`mean_logprobs` must have shape \(2,\)"),
        ([1.0], [-1.0], 1.5, "`strength` must lie between 0 and 1"),
        ([1.0], [-1.0], -0.1, "`strength` must lie between 0 and 1"),
        ([1.0], [-1.0], math.nan, "`strength` must lie between 0 and 1"),
    ],
)
def test_wrong_input(rewards: list[float], logprobs: list[float], strength: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        unlikeliness_rewards(doubles(rewards), doubles(logprobs), strength=strength)


def test_group_ids_must_be_integers_like_the_rewards() -> None:
    for ids in (torch.zeros(3, dtype=torch.long), torch.zeros(2)):
        with pytest.raises(InputError, match="`group_ids` must"):
            unlikeliness_rewards(doubles([1.0, 1.0]), doubles([-1.0, -1.0]), strength=0.2, group_ids=ids)
