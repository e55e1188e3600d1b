"""IPS against counting, and its expectation over all batches of a small policy."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives import ips_rewards
from tensors import close_with_nan, doubles

PROPERTY = settings(deadline=None, max_examples=150)
REWARDS = [1.0, 0.9, 0.8]


SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([-3, 0, 1, 10**15]),  # group
        st.sampled_from([-(10**15), -1, 0, 1, 7]),  # outcome
        st.sampled_from([math.nan, 0.0, 1.0]) | st.floats(-2, 2),
    ),
    max_size=20,
)


@PROPERTY
@given(samples=SAMPLES, min_probability=st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1))
def test_counting(samples: list[tuple[int, int, float]], min_probability: float) -> None:
    """A NaN reward stays NaN, and its sample counts in n and in G."""
    result = ips_rewards(
        doubles([reward for _, _, reward in samples]),
        torch.tensor([outcome for _, outcome, _ in samples], dtype=torch.long),
        min_probability=min_probability,
        group_ids=torch.tensor([group for group, _, _ in samples], dtype=torch.long),
    )
    counts = Counter((group, outcome) for group, outcome, _ in samples)
    sizes = Counter(group for group, _, _ in samples)
    frequencies = [counts[group, outcome] / sizes[group] for group, outcome, _ in samples]
    scaled = [
        reward / max(frequency, min_probability)
        for (_, _, reward), frequency in zip(samples, frequencies, strict=True)
    ]
    close_with_nan(result.frequencies, doubles(frequencies))
    close_with_nan(result.rewards, doubles(scaled), 1e-11)
    assert result.clipped.tolist() == [frequency < min_probability for frequency in frequencies]


def test_a_group_by_hand() -> None:
    """Outcome 5 came up 3 times of 4 (once unscorable), outcome 2 once."""
    result = ips_rewards(doubles([0.9, math.nan, 0.9, 0.5]), torch.tensor([5, 5, 5, 2]))
    close_with_nan(result.frequencies, doubles([0.75, 0.75, 0.75, 0.25]))
    close_with_nan(result.rewards, doubles([1.2, math.nan, 1.2, 2.0]))
    assert not bool(result.clipped.any())
    clipped = ips_rewards(doubles([0.9, math.nan, 0.9, 0.5]), torch.tensor([5, 5, 5, 2]), min_probability=0.4)
    close_with_nan(clipped.rewards, doubles([1.2, math.nan, 1.2, 1.25]))
    assert clipped.clipped.tolist() == [False, False, False, True]
    close_with_nan(clipped.frequencies, result.frequencies)  # as counted, before clipping


def test_a_frequency_at_the_minimum_is_not_clipped_in_float32() -> None:
    """1/10 as a float32 is not the number .1."""
    result = ips_rewards(torch.ones(10), torch.arange(10), min_probability=0.1)
    assert result.rewards.dtype == torch.float32
    assert not bool(result.clipped.any())
    close_with_nan(result.rewards, torch.full((10,), 10.0), 1e-5)


def test_the_scaled_rewards_of_a_group_add_up_to_its_distinct_outcomes() -> None:
    """Σ over samples / G = Σ over distinct outcomes: each counts once, however often it came up."""
    generator = torch.Generator().manual_seed(4)
    outcomes = torch.randint(0, 6, (50,), generator=generator)
    of_outcome = torch.rand(6, generator=generator, dtype=torch.float64)
    result = ips_rewards(of_outcome[outcomes], outcomes)
    close_with_nan(result.rewards.mean(), of_outcome[outcomes.unique()].sum())


def expected_gradient(logits: Tensor, batch: int, rewards: list[float] = REWARDS) -> Tensor:
    """E[Σ_i r̄_i ∇ log p(y_i)] / G over all batches of G samples from softmax(θ), one group each."""
    outcomes = len(logits)
    batches = torch.cartesian_prod(*[torch.arange(outcomes)] * batch).view(-1, batch)
    scaled = ips_rewards(
        doubles(rewards)[batches].flatten(),
        batches.flatten(),
        group_ids=torch.arange(len(batches)).repeat_interleave(batch),
    ).rewards.view_as(batches)
    logprobs = logits.log_softmax(0)
    weights = logprobs.detach()[batches].sum(1).exp()
    close_with_nan(weights.sum(), torch.ones((), dtype=torch.float64))
    surrogate = (weights * (scaled * logprobs[batches]).mean(1)).sum()
    return torch.autograd.grad(surrogate, logits)[0]


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_each_distinct_outcome_contributes_its_reward_once(batch: int) -> None:
    """The expected gradient is Σ_i r_i (1 − (1 − p_i)^G) ∇ log p_i."""
    logits = doubles([0.3, -0.9, 1.1]).requires_grad_()
    probabilities = logits.detach().softmax(0)
    seen = doubles(REWARDS) * (1 - (1 - probabilities) ** batch)
    exact = torch.autograd.grad((seen * logits.log_softmax(0)).sum(), logits)[0]
    close_with_nan(expected_gradient(logits, batch), exact)


def fixed_point(batch: int, rewards: list[float]) -> list[float]:
    """p_i = r_i (1 − (1 − p_i)^G) / c with Σ p = 1, by two nested bisections in plain Python."""

    def probability(reward: float, c: float) -> float:
        if batch * reward <= c:
            return 0.0  # the only solution: this outcome dies out
        low, high = 0.0, 1.0
        for _ in range(200):
            middle = (low + high) / 2
            above = reward * (1 - (1 - middle) ** batch) > c * middle
            low, high = (middle, high) if above else (low, middle)
        return low

    low, high = 1e-9, batch * max(rewards)
    for _ in range(200):
        c = (low + high) / 2
        low, high = (c, high) if sum(probability(r, c) for r in rewards) > 1 else (low, c)
    return [probability(reward, low) for reward in rewards]


@pytest.mark.parametrize("batch", [2, 4, 6])
def test_the_gradient_vanishes_at_the_fixed_point_of_finite_groups(batch: int) -> None:
    point = fixed_point(batch, REWARDS)
    assert sum(point) == pytest.approx(1, abs=1e-12)
    assert min(point) > 0.05  # every outcome survives
    logits = doubles(point).log().requires_grad_()
    close_with_nan(expected_gradient(logits, batch), torch.zeros(3, dtype=torch.float64))


def test_the_gradient_does_not_vanish_at_the_normalised_rewards_in_small_groups() -> None:
    """r/Σr is the limit of large groups: the gradient there falls as the group grows."""
    logits = doubles(REWARDS).log().requires_grad_()
    small, larger, large = (float(expected_gradient(logits, batch).abs().max()) for batch in (2, 4, 8))
    assert small > 0.01
    assert small > larger > large


def test_an_outcome_dies_out_in_groups_too_small_for_it() -> None:
    """G r_3 = 1.2 is below Σ r_k (1 − (1 − p_k)²) = 5/4: a rare third outcome becomes rarer still."""
    rewards = [1.0, 0.8, 0.6]
    point = fixed_point(2, rewards)
    assert point[2] == 0
    rare = 1e-6
    logits = doubles([point[0], point[1], rare]).log().requires_grad_()
    rate = float(expected_gradient(logits, 2, rewards)[2]) / rare
    seen = sum(r * (1 - (1 - p) ** 2) for r, p in zip(rewards, point, strict=True))
    assert rate == pytest.approx(2 * rewards[2] - seen, abs=1e-5)
    assert rate < -0.1


def test_errors_and_empty_batches() -> None:
    rewards, outcomes = torch.ones(4), torch.arange(4)
    with pytest.raises(InputError, match=r"`rewards` must have shape \(N,\)"):
        ips_rewards(torch.ones(2, 2), torch.ones(2, 2, dtype=torch.long))
    with pytest.raises(InputError, match=r"`outcome_ids` must have shape \(4,\)"):
        ips_rewards(rewards, outcomes[:3])
    with pytest.raises(InputError, match=r"`outcome_ids` must hold integers; got torch\.float32"):
        ips_rewards(rewards, rewards)
    with pytest.raises(InputError, match=r"`group_ids` must have shape \(4,\)"):
        ips_rewards(rewards, outcomes, group_ids=outcomes[:1])
    for probability in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="`min_probability` must lie between 0 and 1"):
            ips_rewards(rewards, outcomes, min_probability=probability)
    for group_ids in (None, torch.empty(0, dtype=torch.long)):
        empty = ips_rewards(torch.empty(0), torch.empty(0, dtype=torch.long), group_ids=group_ids)
        assert empty.rewards.shape == empty.frequencies.shape == empty.clipped.shape == (0,)
