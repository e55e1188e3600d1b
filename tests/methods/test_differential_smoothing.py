"""Differential smoothing: by hand, by enumeration, and where it comes to rest."""

import math

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import METHODS, Batch, DifferentialSmoothing
from allmodes.targets import integrate_flow, reverse_kl_target
from enumerated_groups import expected_gradient, gains_of_many, gradient_of, logits_of, relative_gains
from sequence_worlds import sequence_logprobs
from tensors import tensor


def gains(logprobs: Tensor, rewards: Tensor, method: DifferentialSmoothing, *, size: int | None) -> Tensor:
    """f r − τ log p where correct, f r + τ′ log p elsewhere; f is what the group's mean leaves of rewards."""
    left = 1 if size is None else (size - 1) / size
    good = rewards >= method.threshold
    return left * rewards + torch.where(good, -method.strength * logprobs, method.wrong_strength * logprobs)


def test_by_hand() -> None:
    method = DifferentialSmoothing(threshold=1.0, strength=0.1, wrong_strength=0.01)
    batch = Batch(
        rewards=torch.tensor([1.0, 0.0, 1.0, torch.nan, 1.0, 0.0]),
        group_ids=torch.tensor([0, 0, 0, 0, 8, 8]),
        lengths=torch.tensor([3, 3, 0, 3, 3, 3]),
        logprobs=tensor(-5, -7, 0, -2, -1, -100),
    )
    result = method(batch, beta=0.0)
    wanted = torch.tensor([1 / 3 + 0.5, -2 / 3 - 0.07, 1 / 3, torch.nan, 0.6, -1.5])
    assert result.rewards.dtype == torch.float32
    assert torch.allclose(result.rewards, wanted, equal_nan=True)
    assert result.metrics["correct"] == pytest.approx(0.4)
    assert result.metrics["bonus_correct"] == pytest.approx(0.3)
    assert result.metrics["bonus_wrong"] == pytest.approx((-0.07 - 1.0 + 0) / 3)


def test_scale_of_grpo_leaves_the_bonus() -> None:
    ids, rewards, logprobs = torch.tensor([0, 0]), tensor(1, 0), tensor(-3, -2)
    batch = Batch(rewards=rewards, group_ids=ids, logprobs=logprobs)
    new = DifferentialSmoothing(threshold=1.0, strength=0.1, scale="group")(batch, beta=0.0).rewards
    sigma = math.sqrt(0.5) + 1e-4
    assert torch.allclose(new, tensor(0.5 / sigma + 0.3, -0.5 / sigma - 0.02), atol=1e-15)


def test_what_it_needs() -> None:
    method = DifferentialSmoothing(threshold=1.0)
    with pytest.raises(InputError, match="`logprobs` of the batch is needed"):
        method(Batch(rewards=tensor(1.0), group_ids=torch.tensor([0])), beta=0.0)
    with pytest.raises(InputError, match="`wrong_strength` must be at least 0; got -1"):
        DifferentialSmoothing(threshold=1.0, wrong_strength=-1)
    assert (method.needs_policy, method.needs_reference, method.needs_outcomes) == (True, False, False)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_expected_update_in_small_groups(size: int) -> None:
    method = DifferentialSmoothing(threshold=0.9, strength=0.3, wrong_strength=0.2)
    rewards = tensor(1, 1.2, 0.1)
    tables = logits_of(0.5, 0.3, 0.2)
    (wanted,) = gradient_of(tables, gains(sequence_logprobs(tables), rewards, method, size=size))
    (found,) = expected_gradient(method, tables, rewards, size=size)
    assert torch.allclose(found, wanted, atol=1e-15, rtol=0)
    four = tensor(1, 1, 0.95, 0)
    tables = [tensor(0.3, -0.2).view(1, 2), tensor(0.5, 0, -0.7, 0.2).view(2, 2)]
    both = gradient_of(tables, gains(sequence_logprobs(tables), four, method, size=size))
    ids = torch.tensor([0, 0, 1, -1])  # strings of one outcome: they play no part
    enumerated = expected_gradient(method, tables, four, size=size, outcome_ids=ids)
    assert all(torch.allclose(a, b, atol=2e-15, rtol=0) for a, b in zip(enumerated, both, strict=True))


def test_expected_update_of_many_samples() -> None:
    method = DifferentialSmoothing(threshold=0.9, strength=0.3, wrong_strength=0.2)
    rewards, p = tensor(1, 1.2, 0.1), tensor(0.5, 0.3, 0.2)
    at = gains(p.log(), rewards, method, size=None)
    found = gains_of_many(method, (5, 3, 2), rewards)
    assert torch.allclose(found, at - (p * at).sum(), atol=1e-15)


@pytest.mark.parametrize("scale", ["none", "group"])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_flat_over_correct_answers_is_the_point_of_rest_of_every_group_size(size: int, scale: str) -> None:
    method = DifferentialSmoothing(threshold=1.0, strength=0.1, scale=scale)  # pyright: ignore[reportArgumentType]
    rewards = tensor(1, 1, 0)
    found = method.optimum(tensor(0.6, 0.3, 0.1).log(), rewards, beta=0.0, group_size=size)
    assert found is not None
    assert torch.allclose(found.exp(), tensor(0.5, 0.5, 0), atol=1e-15)
    (rest,) = expected_gradient(method, [found.clamp(min=-700).view(1, 3)], rewards, size=size)
    assert float(rest.abs().max()) < 1e-15
    near = relative_gains(method, logits_of(0.5 - 1e-7, 0.5 - 1e-7, 2e-7), rewards, size=size)
    assert float(near[2]) < -0.1  # inward: what is wrong loses
    skewed = relative_gains(method, logits_of(0.6, 0.4 - 1e-9, 1e-9), rewards, size=size)
    assert float(skewed[1]) > 0.01 > -0.01 > float(skewed[0])


@pytest.mark.parametrize("size", [None, 2, 4])
def test_unequal_correct_rewards_are_tilted(size: int | None) -> None:
    method = DifferentialSmoothing(threshold=0.9, strength=0.3)
    rewards = tensor(1, 1.2, 0.9)
    found = method.optimum(tensor(0.2, 0.2, 0.6).log(), rewards, beta=0.0, group_size=size)
    assert found is not None
    at = gains(found, rewards, method, size=size)
    assert float(at.max() - at.min()) < 1e-14
    if size is not None:
        enumerated = relative_gains(method, [found.view(1, 3)], rewards, size=size)
        assert float(enumerated.abs().max()) < 1e-14


@pytest.mark.parametrize("size", [None, 2, 3])
@pytest.mark.parametrize("strengths", [(0.3, 0.0), (0.3, 0.05), (0.0, 0.19), (3.0, 0.1)])
def test_with_a_reverse_kl_all_gain_the_same(strengths: tuple[float, float], size: int | None) -> None:
    strength, wrong = strengths
    method = DifferentialSmoothing(threshold=0.9, strength=strength, wrong_strength=wrong)
    rewards, ref, beta = tensor(1, 1.2, 0.1), tensor(0.1, 0.3, 0.6).log(), 0.2
    found = method.optimum(ref, rewards, beta=beta, group_size=size)
    assert found is not None
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-14)
    at = gains(found, rewards, method, size=size) - beta * (found - ref)
    assert float(at.max() - at.min()) < 1e-12
    if size is not None:
        enumerated = relative_gains(method, [found.view(1, 3)], rewards, size=size, ref=ref, beta=beta)
        assert float(enumerated.abs().max()) < 1e-12


def test_the_flow_with_a_reverse_kl_ends_there() -> None:
    method = DifferentialSmoothing(threshold=0.9, strength=0.3, wrong_strength=0.1)
    rewards, ref, beta = tensor(1, 1.2, 0), tensor(0.1, 0.3, 0.6).log(), 0.4

    def flow(logprobs: Tensor) -> Tensor:
        return gains(logprobs, rewards, method, size=None) - beta * (logprobs - ref)

    end = integrate_flow(flow, tensor(0.7, 0.1, 0.2).log(), times=tensor(80), max_step=0.5)[-1]
    found = method.optimum(ref, rewards, beta=beta)
    assert found is not None
    assert torch.allclose(end.exp(), found.exp(), atol=1e-9)


def test_known_cases_of_the_optimum() -> None:
    ref, rewards = tensor(0.1, 0.3, 0.6).log(), tensor(1, 1.2, 0)
    plain = DifferentialSmoothing(threshold=1.0, strength=0, wrong_strength=0).optimum(ref, rewards, beta=0.2)
    assert plain is not None
    assert torch.allclose(plain, reverse_kl_target(ref, rewards, beta=0.2), atol=1e-14)
    outside = DifferentialSmoothing(threshold=1.0).optimum(tensor(0.4, 0.6, 0).log(), rewards, beta=0.2)
    assert outside is not None
    assert outside[2] == -torch.inf


def test_what_is_not_known() -> None:
    ref, rewards = tensor(0.1, 0.3, 0.6).log(), tensor(1, 1.2, 0)
    strong = DifferentialSmoothing(threshold=1.0, wrong_strength=0.2)
    assert strong.optimum(ref, rewards, beta=0.2) is None  # positive feedback among wrong answers
    assert strong.optimum(ref, rewards, beta=0.3, kl="forward") is None
    scaled = DifferentialSmoothing(threshold=1.0, scale="group")
    assert scaled.optimum(ref, rewards, beta=0.0) is None
    assert scaled.optimum(ref, tensor(1, 1, 0), beta=0.2) is None
    assert DifferentialSmoothing(threshold=1.0, strength=0).optimum(ref, tensor(1, 1, 0), beta=0.0) is None
    assert DifferentialSmoothing(threshold=3.0).optimum(ref, rewards, beta=0.0) is None


def test_it_is_registered() -> None:
    assert METHODS["differential_smoothing"] is DifferentialSmoothing
