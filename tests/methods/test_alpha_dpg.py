"""α-DPG: by hand, the gradient of its divergence, and the reference's ratios among correct answers."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import METHODS, AlphaDPG, Batch, EntropyBonus, Then
from allmodes.targets import reverse_kl_target
from enumerated_groups import expected_gradient, gains_of_many, logits_of, relative_gains
from sequence_worlds import conditionals
from tensors import tensor

ALPHAS = (0.0, 0.3, 0.5, 0.999, 1.0)


def batch_of(rewards: Tensor, ref: Tensor, policy: Tensor, **others: Any) -> Batch:
    ids = others.pop("group_ids", torch.zeros(len(rewards), dtype=torch.long))
    return Batch(rewards=rewards, group_ids=ids, ref_logprobs=ref, logprobs=policy, **others)


def test_by_hand() -> None:
    # P/π = (2, 1/2, 0), so Ẑ = 5/6 and 1/t = (12/5, 3/5, 0).
    batch = batch_of(tensor(1, 1, 0), tensor(0.2, 0.1, 0.6).log(), tensor(0.1, 0.2, 0.7).log())
    forward = AlphaDPG(threshold=1.0, alpha=0)(batch, beta=0.0)
    gain = tensor(1.4, -0.4, -1)
    assert torch.allclose(forward.rewards, 1.5 * (gain - gain.mean()), atol=1e-14)
    assert forward.metrics["log_partition"] == pytest.approx(math.log(5 / 6))
    half = AlphaDPG(threshold=1.0, alpha=0.5)(batch, beta=0.0).rewards
    gain = 2 * (tensor(2.4, 0.6, 0).sqrt() - 1)
    assert torch.allclose(half, 1.5 * (gain - gain.mean()), atol=1e-14)
    reverse = AlphaDPG(threshold=1.0, alpha=1)(batch, beta=0.0).rewards
    gain = tensor(math.log(2.4), math.log(0.6), -10)  # wrong answers would have −∞
    assert torch.allclose(reverse, 1.5 * (gain - gain.mean()), atol=1e-14)


def test_the_clip_bounds_what_one_sample_gains() -> None:
    # Of 40 samples one is a thousand times rarer than the target has it: 1/t is 40 for it and almost 0 else.
    ref, policy = torch.full((40,), -5.0).double(), torch.full((40,), -5.0).double()
    policy[0] = -5 - math.log(1e6)
    result = AlphaDPG(threshold=1.0, alpha=0)(batch_of(torch.ones(40).double(), ref, policy), beta=0.0)
    assert float(result.rewards[0]) == pytest.approx(11, abs=1e-3)  # 10 − (−1)
    assert result.metrics["clipped"] == pytest.approx(1 / 40)


def test_unscored_and_empty_samples_have_no_part_in_it() -> None:
    rewards = torch.tensor([0.9, 0.9, 0.0, torch.nan, 0.9, 0.0, 0.0])  # 0.9 is below the float64 of 0.9
    ref = tensor(0.2, 0.1, 0.6, 0.1, 1, 0.5, 0.5).log()
    policy = tensor(0.1, 0.2, 0.7, 0.2, 1, 0.4, 0.6).log()
    lengths, ids = torch.tensor([2, 2, 2, 2, 0, 2, 2]), torch.tensor([3, 3, 3, 3, 3, 1, 1])
    method = AlphaDPG(threshold=0.9, alpha=0)
    result = method(batch_of(rewards, ref, policy, lengths=lengths, group_ids=ids), beta=0.0)
    alone = method(batch_of(rewards[:3], ref[:3], policy[:3]), beta=0.0).rewards
    assert result.rewards.dtype == torch.float32
    wanted = torch.cat([alone, torch.tensor([torch.nan, 0, 0, 0])])
    assert torch.allclose(result.rewards, wanted, equal_nan=True)
    assert result.metrics["groups_without_correct"] == 0.5
    order = torch.tensor([6, 1, 3, 0, 2, 5, 4])
    turned = batch_of(rewards[order], ref[order], policy[order], lengths=lengths[order], group_ids=ids[order])
    found = method(turned, beta=0.0).rewards
    assert torch.allclose(found, result.rewards[order], equal_nan=True)


def test_long_answers_do_not_overflow() -> None:
    batch = batch_of(tensor(1, 1, 0), tensor(-9000, -8000, -7000), tensor(-8000, -8000, -7000))
    for alpha in ALPHAS:
        assert bool(AlphaDPG(threshold=1.0, alpha=alpha)(batch, beta=0.0).rewards.isfinite().all())


def test_what_it_needs() -> None:
    method, ids = AlphaDPG(), torch.tensor([0, 0])
    assert (method.needs_reference, method.needs_policy, method.contains_kl) == (True, True, True)
    with pytest.raises(InputError, match="`ref_logprobs` of the batch is needed"):
        method(Batch(rewards=tensor(1, 0), group_ids=ids), beta=0.1)
    with pytest.raises(InputError, match="`beta` must be a finite number above 0; got 0"):
        method(batch_of(tensor(1, 0), tensor(-1, -1), tensor(-1, -1)), beta=0.0)
    with pytest.raises(InputError, match="`alpha` must be at least 0 and at most 1; got 2"):
        AlphaDPG(alpha=2)
    with pytest.raises(InputError, match="α-DPG returns advantages, so it must come last"):
        Then(AlphaDPG(), EntropyBonus(0.1))


def divergence(p: Tensor, target: Tensor, alpha: float) -> Tensor:
    """D_α(p ‖ target) = (Σ p^α target^(1−α) − 1)/(α (α − 1)), with the two KLs at its ends."""
    if alpha == 0:
        return -(target * p.log()).sum()  # but for a constant
    if alpha == 1:
        return (p * (p / target).log()).sum()
    return ((p**alpha * target ** (1 - alpha)).sum() - 1) / (alpha * (alpha - 1))


# Above α = 0.9 wrong answers are at the lower limit.
@pytest.mark.parametrize(
    ("alpha", "threshold"), [*((alpha, None) for alpha in ALPHAS), *((alpha, 1.0) for alpha in ALPHAS[:3])]
)
def test_expected_update_of_many_samples_is_that_of_the_divergence(
    alpha: float, threshold: float | None
) -> None:
    counts, ref, rewards = (5, 3, 2), tensor(0.4, 0.1, 0.5).log(), tensor(1, 1.3, 0)
    p = tensor(*counts) / 10
    method = AlphaDPG(threshold=threshold, alpha=alpha)
    target = method.optimum(ref, rewards, beta=2.0)
    assert target is not None
    logits = p.log().requires_grad_()
    (wanted,) = torch.autograd.grad(-divergence(logits.softmax(0), target.exp(), alpha), logits)
    found = p * gains_of_many(method, counts, rewards, ref=ref, beta=2.0) * (10 - 1) / 10
    assert torch.allclose(found, wanted, atol=1e-14)


@pytest.mark.parametrize("size", [2, 3])
def test_expected_update_in_small_groups_by_hand(size: int) -> None:
    """α = 0: over all groups, Σ_i (w_i/w̄ − 1) (∇ log π_i)/(G − 1), w = P/π."""
    ref, p, good = tensor(0.3, 0.2, 0.5), tensor(0.5, 0.3, 0.2), tensor(1, 1, 0)
    w = ref * good / p
    wanted = torch.zeros(3, dtype=torch.float64)
    for group in itertools.product(range(3), repeat=size):
        drawn = torch.tensor(group)
        mean = w[drawn].mean()
        if mean > 0:
            advantages = (w[drawn] / mean - 1) / (size - 1)
            score = torch.nn.functional.one_hot(drawn, 3) - p
            wanted += p[drawn].prod() * (advantages.unsqueeze(1) * score).sum(0)
    method = AlphaDPG(threshold=1.0, alpha=0)
    (found,) = expected_gradient(method, logits_of(0.5, 0.3, 0.2), good, size=size, ref=ref.log())
    assert torch.allclose(found[0], wanted, atol=1e-15)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_references_ratios_among_correct_answers_are_the_point_of_rest(alpha: float, size: int) -> None:
    method, ref, rewards = (
        AlphaDPG(threshold=1.0, alpha=alpha),
        tensor(0.3, 0.1, 0.6).log(),
        tensor(1, 1.5, 0),
    )
    found = method.optimum(ref, rewards, beta=0.0, group_size=size)
    assert found is not None
    assert torch.allclose(found.exp(), tensor(0.75, 0.25, 0), atol=1e-15)
    (rest,) = expected_gradient(method, [found.clamp(min=-700).view(1, 3)], rewards, size=size, ref=ref)
    assert float(rest.abs().max()) < 1e-14
    near = relative_gains(method, logits_of(0.75, 0.25 - 1e-7, 1e-7), rewards, size=size, ref=ref)
    assert float(near[2]) < -0.1  # inward: what is wrong loses
    skewed = relative_gains(method, logits_of(0.85, 0.15 - 1e-9, 1e-9), rewards, size=size, ref=ref)
    assert float(skewed[1]) > 0.01 > -0.01 > float(skewed[0])


@pytest.mark.parametrize("alpha", ALPHAS)
def test_without_a_threshold_it_rests_at_the_tilted_reference(alpha: float) -> None:
    method, beta, rewards = AlphaDPG(alpha=alpha), 0.4, tensor(1, 0.2, -0.3, 0.5)
    ref = tensor(0.1, 0.2, 0.3, 0.4).log()
    found = method.optimum(ref, rewards, beta=beta, group_size=3)
    assert found is not None
    assert torch.equal(found, reverse_kl_target(ref, rewards, beta=beta))
    tables = conditionals(found, vocabulary=2)  # strings of two tokens
    ids = torch.tensor([0, 0, 1, -1])
    rest = expected_gradient(method, tables, rewards, size=3, ref=ref, beta=beta, outcome_ids=ids)
    assert all(float(part.abs().max()) < 1e-14 for part in rest)
    away = expected_gradient(method, conditionals(ref, vocabulary=2), rewards, size=3, ref=ref, beta=beta)
    assert float(away[0].abs().max()) > 1e-2


def test_beta_of_each_sample() -> None:
    rewards, ref, policy = tensor(1, 0.5, torch.nan), tensor(-1, -2, -3), tensor(-2, -1, -3)
    batch = batch_of(rewards, ref, policy)
    method = AlphaDPG()
    many = method(batch, beta=tensor(0.3, 0.3, 0.3)).rewards
    assert torch.equal(many.nan_to_num(), method(batch, beta=0.3).rewards.nan_to_num())


def test_what_is_not_known() -> None:
    ref = tensor(0.5, 0.5, 0).log()
    assert AlphaDPG().optimum(ref, tensor(1, 0, 0), beta=0.0) is None
    assert AlphaDPG(threshold=1.0).optimum(ref, tensor(0, 0, 1), beta=0.1) is None  # never written
    assert AlphaDPG(threshold=1.0).optimum(ref, tensor(1, 0, 1), beta=0.1, group_size=1) is None


def test_it_is_registered() -> None:
    assert METHODS["alpha_dpg"] is AlphaDPG
