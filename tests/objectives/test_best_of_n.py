"""Best-of-N rewards against all subsets, and their gradient against that of E[max of k]."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.metrics import max_at_k
from allmodes.objectives import best_of_n_rewards
from tensors import doubles

PROPERTY = settings(deadline=None, max_examples=100)
GROUPS = [-7, 0, 3, 10**12]
SAMPLES = st.lists(
    st.tuples(st.sampled_from(GROUPS), st.sampled_from([0.0, 1.0, -1.0]) | st.floats(-5, 5)), max_size=14
)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def slow(rewards: list[float], k: int) -> list[float]:
    """Mean over all S ∋ i of size k of max(S) − max(S without i), where the maximum of nothing is 0."""
    added = []
    for i, reward in enumerate(rewards):
        others = rewards[:i] + rewards[i + 1 :]
        gains = [
            max((reward, *drawn)) - max(drawn, default=0.0) for drawn in itertools.combinations(others, k - 1)
        ]
        added.append(math.fsum(gains) / len(gains))
    return added


@PROPERTY
@given(rewards=st.lists(st.sampled_from([0.0, 1.0]) | st.floats(-5, 5), min_size=1, max_size=8))
def test_one_group_against_all_subsets(rewards: list[float]) -> None:
    for k in range(1, len(rewards) + 1):
        close(best_of_n_rewards(doubles(rewards), k=k), doubles(slow(rewards, k)))
    close(best_of_n_rewards(doubles(rewards)), doubles(slow(rewards, len(rewards))))


@PROPERTY
@given(samples=SAMPLES, data=st.data())
def test_ragged_groups_in_any_order(samples: list[tuple[int, float]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(samples))))
    samples = [samples[i] for i in order]
    members = {group: [i for i, (g, _) in enumerate(samples) if g == group] for group, _ in samples}
    sizes = [len(where) for where in members.values()]
    rewards = doubles([reward for _, reward in samples])
    group_ids = torch.tensor([group for group, _ in samples], dtype=torch.long)
    for k in (None, *range(1, min(sizes, default=0) + 1)):
        expected = torch.zeros(len(samples), dtype=torch.float64)
        for where in members.values():
            size = len(where) if k is None else k
            expected[where] = doubles(slow([samples[i][1] for i in where], size))
        close(best_of_n_rewards(rewards, k=k, group_ids=group_ids), expected)


def test_the_whole_group_by_hand() -> None:
    """Only the best of two or more gets anything: its lead over the second."""
    rewards = best_of_n_rewards(
        doubles([0.2, 0.9, 0.5, 3.0, 3.0, 0.4]), group_ids=torch.tensor([1, 1, 1, 0, 0, 2])
    )
    close(rewards, doubles([0.0, 0.4, 0.0, 0.0, 0.0, 0.4]))


def test_k_of_one_leaves_the_rewards_to_the_last_bit() -> None:
    rewards = torch.randn(200, generator=torch.Generator().manual_seed(0))
    group_ids = torch.arange(200) % 7
    assert torch.equal(best_of_n_rewards(rewards, k=1, group_ids=group_ids), rewards)


@pytest.mark.parametrize("k", [2, 8, 100, 199])
def test_a_large_group_adds_up_to_the_rise_of_max_at_k(k: int) -> None:
    """Mean over S and i ∈ S of the gains: Σ r̄ k/n = k (max@k − max@(k−1) over subsets with one left out)."""
    rewards = torch.randn(200, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    total = float(best_of_n_rewards(rewards, k=k).mean())
    # S without i is a uniform subset of size k − 1
    expected = max_at_k(rewards.tolist(), k=k) - max_at_k(rewards.tolist(), k=k - 1)
    assert total == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_group_does_not_feel_how_large_rewards_are_in_others() -> None:
    """Running sums over the batch must not carry the rounding of one group into the next."""
    small = doubles([0.1, 0.7, 0.3, 0.2])
    alone = best_of_n_rewards(small, k=2)
    batch = torch.cat([doubles([1e12, 3e12, -1e12, 2e12]), small])
    together = best_of_n_rewards(batch, k=2, group_ids=torch.tensor([0] * 4 + [1] * 4))
    close(together[4:], alone)


@pytest.mark.parametrize(("size", "k"), [(3, 1), (3, 2), (3, 3), (2, 2)])
def test_the_expected_gradient_is_that_of_the_expected_maximum(size: int, k: int) -> None:
    """All groups of `size` samples over 3 outcomes; the right side over all groups of k."""
    logits = doubles([0.3, -0.8, 0.5]).requires_grad_()
    outcome_rewards = doubles([1.0, 2.5, -0.4])
    logprobs = logits.log_softmax(0)
    groups = torch.cartesian_prod(*[torch.arange(3)] * size)
    added = best_of_n_rewards(
        outcome_rewards[groups].flatten(),
        k=k,
        group_ids=torch.arange(len(groups)).repeat_interleave(size),
    ).view_as(groups)
    weights = logprobs.detach()[groups].sum(1).exp()
    surrogate = k * (weights * (added * logprobs[groups]).mean(1)).sum()
    (actual,) = torch.autograd.grad(surrogate, logits, retain_graph=True)
    drawn = torch.cartesian_prod(*[torch.arange(3)] * k).view(-1, k)
    expected_maximum = (logprobs[drawn].sum(1).exp() * outcome_rewards[drawn].amax(1)).sum()
    (expected,) = torch.autograd.grad(expected_maximum, logits)
    close(actual, expected, 1e-13)
    assert float(expected.abs().max()) > 0.05


def test_the_dtype_of_the_rewards_is_kept() -> None:
    rewards = torch.tensor([0.5, 1.0, 0.25], dtype=torch.bfloat16)
    added = best_of_n_rewards(rewards)
    assert added.dtype == torch.bfloat16
    assert added.tolist() == [0.0, 0.5, 0.0]


def test_empty_batch() -> None:
    for group_ids in (None, torch.empty(0, dtype=torch.long)):
        assert best_of_n_rewards(torch.empty(0), k=3, group_ids=group_ids).shape == (0,)


@pytest.mark.parametrize("k", [0, -1, 3])
def test_k_must_fit_the_smallest_group(k: int) -> None:
    with pytest.raises(InputError, match=f"`k` must lie between 1 and the smallest group's size, 2; got {k}"):
        best_of_n_rewards(torch.ones(5), k=k, group_ids=torch.tensor([4, 4, 4, 9, 9]))


def test_wrong_input() -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError, match="`rewards` must be finite"):
            best_of_n_rewards(torch.tensor([1.0, bad]))
    with pytest.raises(InputError, match=r"`rewards` must have shape \(N,\)"):
        best_of_n_rewards(torch.ones(2, 2))
    with pytest.raises(InputError, match="`rewards` must be floating point"):
        best_of_n_rewards(torch.ones(2, dtype=torch.long))
