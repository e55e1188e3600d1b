"""Ratios, flip β, Definition 3.5 and MARA's bound, each by a second route."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.targets import (
    flip_beta,
    is_reward_multimodal,
    log_ratio,
    mara_beta_bound,
    mara_target,
    reverse_kl_target,
)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_log_ratio_is_that_of_the_optimum() -> None:
    ref = torch.log_softmax(tensor(0.3, -1.2, 2.0, 0.0), 0)
    rewards = tensor(1.0, 0.4, 0.2, 0.9)
    target = reverse_kl_target(ref, rewards, beta=0.3)
    expected = target[:, None] - target[None, :]
    torch.testing.assert_close(log_ratio(ref, rewards, beta=0.3), expected, rtol=0, atol=1e-13)


def test_the_papers_numbers() -> None:
    """exp(0.1/1e-3) = 2.688e43; Figure 2: (1 − .75)/(−4.05 + 5.95) = .13158."""
    ratio = log_ratio(tensor(-1, -1), tensor(0.1, 0.0), beta=1e-3)[0, 1].exp()
    assert float(ratio) == pytest.approx(2.688e43, rel=1e-3)
    flip = flip_beta(tensor(0.75), tensor(1.0), tensor(-4.05), tensor(-5.95))
    assert float(flip) == pytest.approx(0.13158, abs=1e-5)


def test_flip_beta_makes_two_outcomes_equal_and_flips_their_order() -> None:
    ref, rewards = tensor(0.7, 0.2, 0.1).log(), tensor(0.5, 0.9, 0.1)
    flip = float(flip_beta(rewards[0], rewards[1], ref[0], ref[1]))
    at, above, below = (reverse_kl_target(ref, rewards, beta=flip * f) for f in (1.0, 1.01, 0.99))
    assert float(at[0] - at[1]) == pytest.approx(0, abs=1e-13)
    assert above[0] > above[1]
    assert below[0] < below[1]


def test_flip_beta_where_there_is_none() -> None:
    assert float(flip_beta(tensor(1.0), tensor(2.0), tensor(-1.0), tensor(-1.0))) == math.inf
    # The second is worse and less likely: no positive β makes it equal.
    assert float(flip_beta(tensor(1.0), tensor(0.5), tensor(-1.0), tensor(-2.0))) < 0


def test_definition_of_reward_multimodal() -> None:
    rewards = tensor(1, 1, 0)

    def holds(*p: float, tolerance: float = 1e-9) -> bool:
        return bool(is_reward_multimodal(tensor(*p).log(), rewards, threshold=1.0, tolerance=tolerance))

    assert holds(0.4, 0.4, 0.2)
    assert not holds(0.5, 0.3, 0.2)
    assert holds(0.5, 0.3, 0.2, tolerance=math.log(5 / 3) + 1e-9)
    assert not holds(0.3, 0.3, 0.4)
    assert not holds(1 / 3, 1 / 3, 1 / 3)  # strictly above
    assert not holds(0.5, 0.0, 0.5)
    none_good = is_reward_multimodal(tensor(0.5, 0.5).log(), tensor(0, 0), threshold=1.0, tolerance=0.1)
    assert not bool(none_good)
    all_good = is_reward_multimodal(tensor(0.5, 0.5).log(), tensor(1, 1), threshold=1.0, tolerance=0.1)
    assert bool(all_good)


def test_beta_bound_of_a_counter_example() -> None:
    ref, rewards = tensor(0.6, 0.3, 0.09, 0.01).log(), tensor(0.9, 0.8, 1, 1)
    bound = float(mara_beta_bound(ref, rewards, threshold=1.0))
    assert bound == pytest.approx(0.1 / math.log(0.6 / 0.09), rel=1e-13)
    assert bound == pytest.approx(0.0527, abs=5e-5)


@given(seed=st.integers(0, 10**6), tau=st.floats(0.2, 0.9))
@settings(max_examples=100, deadline=None)
def test_beta_bound_is_where_multimodality_ends(seed: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    ref = torch.log_softmax(3 * torch.randn(8, generator=generator, dtype=torch.float64), 0)
    rewards = torch.rand(8, generator=generator, dtype=torch.float64)
    bound = float(mara_beta_bound(ref, rewards, threshold=tau))

    def holds(beta: float) -> bool:
        target = mara_target(ref, rewards, beta=beta, threshold=tau)
        return bool(is_reward_multimodal(target, rewards, threshold=tau, tolerance=1e-9))

    if math.isnan(bound):
        assert not bool((rewards >= tau).any())
    elif math.isinf(bound):
        assert holds(1e-2)
        assert holds(1e3)
    else:
        assert holds(bound * (1 - 1e-6))
        assert not holds(bound * (1 + 1e-6))


def test_bad_input_is_named() -> None:
    two, three = tensor(0.5, 0.5).log(), tensor(0.2, 0.3, 0.5).log()
    with pytest.raises(InputError, match=r"`ref_logprobs` must have shape \(2,\)"):
        log_ratio(three, two.exp(), beta=1.0)
    with pytest.raises(InputError, match="`beta` must be a finite number above 0; got 0"):
        log_ratio(two, two.exp(), beta=0.0)
    with pytest.raises(InputError, match="`tolerance` must not be negative; got -1"):
        is_reward_multimodal(two, two.exp(), threshold=0.0, tolerance=-1.0)
    with pytest.raises(InputError, match="`rewards` must be finite; got nan at index 1"):
        mara_beta_bound(two, tensor(0.0, math.nan), threshold=0.0)
