"""Ratios, flip β, Definition 3.5 and MARA's bound, each by a second route."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.errors import InputError
from allmodes.targets import (
    flip_beta,
    is_reward_multimodal,
    log_ratio,
    mara_beta_bound,
    mara_target,
    predicted_ratios,
    reverse_kl_target,
)
from tensors import tensor


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_predicted_ratios_of_the_papers_figure(dtype: torch.dtype) -> None:
    """Figure 11c: e^(1.125/.01 + 1.18) = 2.3e49; 11b: 7.76 nats are a ratio of 2345."""
    rewards = torch.tensor([12.25, 17.25, -5.125, 18.375, 17.25], dtype=dtype)
    ref = torch.tensor([-2.0, -7.09, -1.0, -5.91, -7.5], dtype=dtype)
    found = predicted_ratios(ref, rewards, beta=0.01, top=2)
    assert found.indices.tolist() == [3, 1]
    assert found.log_ratios.dtype == dtype
    log10 = float(found.log_ratios[0]) / math.log(10)
    assert log10 == pytest.approx((112.5 + 1.18) / math.log(10), abs=1e-5)
    assert f"{10**log10:.0e}" == "2e+49"
    equal = predicted_ratios(
        torch.tensor([-7.76, 0.0], dtype=dtype), torch.ones(2, dtype=dtype), beta=0.01, top=2
    )
    assert float(equal.log_ratios[0].exp()) == pytest.approx(2345, abs=0.5)


@given(seed=st.integers(0, 10**6), beta=st.floats(0.05, 5), top=st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_predicted_ratios_are_those_of_the_optimum(seed: int, beta: float, top: int) -> None:
    """Against the normalised optimum, in a batch with several β, from a reference that does not sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    ref = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    rewards = torch.rand(3, 8, generator=generator, dtype=torch.float64)
    betas = tensor(beta, 2 * beta, 3 * beta)
    found = predicted_ratios(ref - 40, rewards + 7, beta=betas, top=top)
    best = reverse_kl_target(ref.log_softmax(-1), rewards, beta=betas).sort(-1, descending=True)
    assert torch.equal(found.indices, best.indices[:, :top])
    expected = best.values[:, :top] - best.values[:, top - 1 : top]
    torch.testing.assert_close(found.log_ratios, expected, rtol=0, atol=1e-9)
    alone = predicted_ratios(ref[1], rewards[1], beta=2 * beta, top=top)
    torch.testing.assert_close(alone.log_ratios, expected[1], rtol=0, atol=1e-9)


def test_predicted_ratios_stay_finite_and_exact_in_float32() -> None:
    """Rewards over β of 1e7 would round differences of log π_ref away; log-ratios of 1e5 would overflow."""
    ref = torch.tensor([-300.0, -300.25, -300.125, -1.0])
    found = predicted_ratios(ref, torch.tensor([1e4, 1e4, 1e4, 9.9e3]), beta=1e-3, top=4)
    assert found.indices.tolist() == [0, 2, 1, 3]
    assert found.log_ratios.isfinite().all()
    assert (found.log_ratios[0] - found.log_ratios[2]).item() == pytest.approx(0.25, abs=0.02)
    assert predicted_ratios(ref, torch.full((4,), 1e4), beta=1e-3, top=3).log_ratios.tolist() == [
        299.125,
        0.125,
        0,
    ]

    near = torch.tensor([1e4, 1e4 + 2**-10])  # next to each other; their R/β are rounded to .25
    close = predicted_ratios(torch.zeros(2), near, beta=0.003, top=2)
    assert float(close.log_ratios[0]) == pytest.approx(2**-10 / 0.003, rel=1e-6)


def test_predicted_ratios_of_ties_and_of_one() -> None:
    many = torch.zeros(5000)
    assert predicted_ratios(many, many, beta=1.0, top=99).indices.tolist() == list(range(99))
    tied = predicted_ratios(tensor(-1, -1, -1, -2), tensor(0, 0, 0, 0), beta=1.0, top=2)
    assert tied.indices.tolist() == [0, 1]
    assert tied.log_ratios.tolist() == [0, 0]
    one = predicted_ratios(tensor(-1, -1, 0), tensor(0, 2, 0), beta=1.0, top=1)
    assert (one.indices.tolist(), one.log_ratios.tolist()) == ([1], [0])


@pytest.mark.parametrize("top", [0, -1, 3])
def test_a_wrong_top_is_named(top: int) -> None:
    with pytest.raises(InputError, match=f"`top` must lie between 1 and the samples, 2; got {top}"):
        predicted_ratios(tensor(-1, -1), tensor(0, 1), beta=1.0, top=top)


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
    with pytest.raises(InputError, match=r"`ref_logprobs` must have shape \(2,\)"):
        predicted_ratios(three, two.exp(), beta=1.0, top=1)
    with pytest.raises(InputError, match="`beta` must be a finite number above 0; got -1"):
        predicted_ratios(two, two.exp(), beta=-1.0, top=1)
    with pytest.raises(InputError, match="`ref_logprobs` must be finite; got -inf at index 0"):
        predicted_ratios(tensor(-math.inf, 0), two.exp(), beta=1.0, top=1)
    with pytest.raises(InputError, match="`rewards` must be finite; got nan at index 1"):
        predicted_ratios(two, tensor(0.0, math.nan), beta=1.0, top=1)
    with pytest.raises(InputError, match="`ref_logprobs` must be floating point"):
        predicted_ratios(torch.tensor([1, 2]), two.exp(), beta=1.0, top=1)
    with pytest.raises(InputError, match="`beta` must be a number or have shape"):
        predicted_ratios(two, two.exp(), beta=tensor(1.0, 1.0), top=1)
