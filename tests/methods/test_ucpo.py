"""UCPO: both forms by hand, uniform over correct answers, and where a KL moves that."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import METHODS, UCPO, Batch, Plain
from allmodes.targets import integrate_flow, reverse_kl_target
from enumerated_groups import expected_gradient, gains_of_many, gradient_of, logits_of, relative_gains
from tensors import tensor


def batch_of(rewards: Tensor, logprobs: Tensor, **others: Any) -> Batch:
    ids = others.pop("group_ids", torch.zeros(len(rewards), dtype=torch.long))
    return Batch(rewards=rewards, group_ids=ids, logprobs=logprobs, **others)


def test_additive_form_by_hand() -> None:
    # q_S = (1/2, 1/4, 1/4): −log q = 1, 2, 2 in units of log 2, and H = 3/2.
    logprobs = tensor(0.4, 0.2, 0.2, 0.9).log()
    result = UCPO(threshold=1.0, strength=0.3)(batch_of(tensor(1, 1, 1, 0), logprobs), beta=0.0)
    half = 0.3 * math.log(2) / 2
    assert torch.allclose(result.rewards, tensor(0.25 - half, 0.25 + half, 0.25 + half, -0.75), atol=1e-15)
    assert result.metrics == {"correct": 0.75, "gain_max": pytest.approx(math.log(2) / 2)}


def test_weighted_form_by_hand_and_how_little_it_does_per_token() -> None:
    logprobs = tensor(-100, -120, -150, -10)
    method = UCPO(threshold=1.0, form="weighted")
    batch = batch_of(tensor(1, 1, 1, 0), logprobs, lengths=torch.tensor([500, 500, 500, 7]))
    weights = method(batch, beta=0.0).rewards / tensor(0.25, 0.25, 0.25, -0.75)
    assert [round(float(weight), 3) for weight in weights] == [0.991, 0.999, 1.011, 1]
    inverse = tensor(math.exp(0.2), math.exp(0.24), math.exp(0.3))
    assert torch.allclose(weights[:3], 0.8 + 0.2 * inverse / inverse.mean(), atol=1e-14)


def test_scale_of_grpo() -> None:
    batch = batch_of(tensor(1, 1, 1, 0), tensor(0.4, 0.2, 0.2, 0.9).log())
    plain = UCPO(threshold=1.0, strength=0)(batch, beta=0.0).rewards
    scaled = UCPO(threshold=1.0, strength=0, scale="group")(batch, beta=0.0).rewards
    assert torch.allclose(scaled, plain / (0.5 + 1e-4), atol=1e-15)  # σ of (1, 1, 1, 0), divisor n − 1
    full = UCPO(threshold=1.0, scale="group")(batch, beta=0.0).rewards
    gain = UCPO(threshold=1.0)(batch, beta=0.0).rewards - plain
    assert torch.allclose(full, scaled + gain, atol=1e-15)  # the bonus is not scaled


@pytest.mark.parametrize("form", ["additive", "weighted"])
def test_unscored_empty_and_wrong_samples_have_no_part_in_it(form: str) -> None:
    method = UCPO(threshold=0.9, form=form)  # pyright: ignore[reportArgumentType]
    rewards = torch.tensor(
        [0.9, 0.9, 0.1, torch.nan, 0.9, 0.2, 0.1]
    )  # float32: 0.9 is below the float64 of 0.9
    logprobs = tensor(-1, -3, -2, -1, 0, -2, -5)
    lengths = torch.tensor([2, 2, 2, 2, 0, 2, 2])
    ids = torch.tensor([4, 4, 4, 4, 4, 1, 1])
    new = method(batch_of(rewards, logprobs, lengths=lengths, group_ids=ids), beta=0.0).rewards
    assert new.dtype == torch.float32
    assert new.isnan().tolist() == rewards.isnan().tolist()
    plain = rewards - torch.tensor([0.7, 0.7, 0.7, 0.7, 0.7, 0.15, 0.15])
    kept = [2, 4, 5, 6]
    assert torch.allclose(new[kept], plain[kept], atol=1e-7)
    assert float(new[1] - plain[1]) > 0 > float(new[0] - plain[0])
    order = torch.tensor([6, 1, 3, 0, 2, 5, 4])
    turned = batch_of(rewards[order], logprobs[order], lengths=lengths[order], group_ids=ids[order])
    assert torch.equal(method(turned, beta=0.0).rewards.nan_to_num(), new[order].nan_to_num())


def test_a_batch_without_a_correct_answer_keeps_its_advantages() -> None:
    for form in ("additive", "weighted"):
        method = UCPO(threshold=2.0, form=form)
        new = method(batch_of(tensor(1, 0), tensor(-1, -2)), beta=0.0).rewards
        assert torch.equal(new, tensor(0.5, -0.5))


def test_log_probabilities_of_long_answers_do_not_underflow() -> None:
    new = UCPO(threshold=1.0, strength=1.0)(batch_of(tensor(1, 1), tensor(-9000, -8000)), beta=0.0).rewards
    assert torch.allclose(new, tensor(1000, 0))


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match=r'`strength` must be at most 1 in the "weighted" form; got 1\.5'):
        UCPO(threshold=1.0, form="weighted", strength=1.5)
    with pytest.raises(InputError, match="`threshold` must be a number; got nan"):
        UCPO(threshold=float("nan"))
    with pytest.raises(InputError, match="`logprobs` of the batch is needed"):
        UCPO(threshold=1.0)(Batch(rewards=tensor(1.0), group_ids=torch.tensor([0])), beta=0.0)


def many(p: Tensor, rewards: Tensor, good: Tensor, *, strength: float) -> Tensor:
    """Gains of many samples: R + τ (m − log p), m = Σ_S p² log p/Σ_S p², where correct."""
    weights = torch.where(good, p.square(), 0)
    m = (weights * p.log()).sum() / weights.sum()
    return rewards + torch.where(good, strength * (m - p.log()), 0)


def test_expected_update_of_many_samples() -> None:
    rewards, p = tensor(1, 1.2, 0.9, 0), tensor(0.4, 0.3, 0.1, 0.2)
    at = many(p, rewards, rewards >= 0.9, strength=0.4)
    found = gains_of_many(UCPO(threshold=0.9, strength=0.4), (4, 3, 1, 2), rewards)
    assert torch.allclose(found, at - (p * at).sum(), atol=1e-14)


@pytest.mark.parametrize("scale", ["none", "group"])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_flat_over_correct_answers_is_the_point_of_rest_of_every_group_size(size: int, scale: str) -> None:
    method = UCPO(threshold=1.0, scale=scale)  # pyright: ignore[reportArgumentType]
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


@pytest.mark.parametrize("size", [2, 3])
def test_strings_of_two_tokens_become_equally_likely_whatever_they_say(size: int) -> None:
    method, rewards = UCPO(threshold=1.0), tensor(1, 1, 1, 0)
    ids = torch.tensor([0, 0, 1, -1])
    p = tensor(1, 1, 1, 1e-300) / 3
    tables = [tensor(2 / 3, 1 / 3).log().view(1, 2), torch.stack([p[:2] * 1.5, p[2:] * 3]).log()]
    rest = expected_gradient(method, tables, rewards, size=size, outcome_ids=ids)
    assert all(float(part.abs().max()) < 1e-15 for part in rest)
    found = method.optimum(
        tensor(0.1, 0.2, 0.3, 0.4).log(), rewards, beta=0.0, outcome_ids=ids, group_size=size
    )
    assert found is not None
    assert torch.allclose(found.exp(), p, atol=1e-15)


def test_pairs_by_hand() -> None:
    # G = 2, all correct, A = 0: only pairs of different strings act, with chance 2 p₁ p₂.
    p, q = (0.7, 0.3), (0.7, 0.3)
    entropy = -sum(share * math.log(share) for share in q)
    pair = [0.2 * (-math.log(share) - entropy) for share in q]
    gains = tensor(pair[0] * p[1], pair[1] * p[0])  # 2 p₁ p₂ · pair/2 over p of the string itself
    (wanted,) = gradient_of(logits_of(*p), gains)
    (found,) = expected_gradient(UCPO(threshold=1.0), logits_of(*p), tensor(1, 1), size=2)
    assert torch.allclose(found, wanted, atol=1e-16)


@pytest.mark.parametrize("rewards", [(1, 1.2, 0.9, 0, 0.5), (1, 1, 1, 0.2, 0), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("beta", [0.05, 0.5, 5.0])
def test_with_a_reverse_kl_all_gain_the_same(rewards: tuple[float, ...], beta: float) -> None:
    method, r = UCPO(threshold=0.9, strength=0.3), tensor(*rewards)
    ref = tensor(0.1, 0.05, 0.15, 0.3, 0.4).log()
    found = method.optimum(ref, r, beta=beta)
    assert found is not None
    p = found.exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-14)
    at = many(p, r, r >= 0.9, strength=0.3) - beta * (found - ref)
    assert float(at.max() - at.min()) < 1e-12


def test_the_flow_with_a_reverse_kl_ends_there() -> None:
    method, rewards = UCPO(threshold=0.9, strength=0.3), tensor(1, 1.2, 0)
    ref, beta = tensor(0.1, 0.3, 0.6).log(), 0.4

    def flow(logprobs: Tensor) -> Tensor:
        p = logprobs.exp()
        at = many(p, rewards, rewards >= 0.9, strength=0.3) - beta * (logprobs - ref)
        return at - (p * at).sum()

    end = integrate_flow(flow, tensor(0.7, 0.1, 0.2).log(), times=tensor(60), max_step=0.5)[-1]
    found = method.optimum(ref, rewards, beta=beta)
    assert found is not None
    assert torch.allclose(end.exp(), found.exp(), atol=1e-9)


def test_known_cases_of_the_optimum() -> None:
    ref, rewards = tensor(0.1, 0.3, 0.6).log(), tensor(1, 1.2, 0)
    tilted = UCPO(threshold=1.0, strength=0.4).optimum(ref, rewards, beta=0.0)
    assert tilted is not None
    assert torch.allclose(tilted, torch.log_softmax(tensor(1, 1.2, -torch.inf) / 0.4, 0))
    plain = UCPO(threshold=1.0, strength=0).optimum(ref, rewards, beta=0.2)
    assert plain is not None
    assert torch.allclose(plain, reverse_kl_target(ref, rewards, beta=0.2), atol=1e-14)
    outside = UCPO(threshold=1.0).optimum(tensor(0.4, 0.6, 0).log(), tensor(0, 1, 1), beta=0.2)
    assert outside is not None
    assert outside[2] == -torch.inf
    assert float(outside.exp().sum()) == pytest.approx(1, abs=1e-14)
    rows = UCPO(threshold=1.0).optimum(ref.expand(2, 3), tensor(1, 1, 0, 0, 1, 1).view(2, 3), beta=0.0)
    assert rows is not None
    assert torch.allclose(rows.exp(), tensor(0.5, 0.5, 0, 0, 0.5, 0.5).view(2, 3))


def test_what_is_not_known() -> None:
    ref, rewards = tensor(0.1, 0.3, 0.6).log(), tensor(1, 1.2, 0)
    method = UCPO(threshold=1.0)
    assert method.optimum(ref, rewards, beta=0.0, group_size=4) is None  # unequal rewards
    assert method.optimum(ref, rewards, beta=0.2, group_size=4) is None
    assert method.optimum(ref, rewards, beta=0.2, kl="forward") is None
    assert UCPO(threshold=1.0, scale="group").optimum(ref, rewards, beta=0.2) is None
    assert UCPO(threshold=1.0, form="weighted").optimum(ref, tensor(1, 1, 0), beta=0.0) is None
    assert UCPO(threshold=1.0, strength=0).optimum(ref, tensor(1, 1, 0), beta=0.0) is None
    assert UCPO(threshold=3.0).optimum(ref, rewards, beta=0.0) is None


def test_the_weighted_form_stands_still_where_all_are_correct() -> None:
    method = UCPO(threshold=1.0, form="weighted", strength=1.0)
    (rest,) = expected_gradient(method, logits_of(0.6, 0.3, 0.1), tensor(1, 1, 1), size=3)
    assert torch.equal(rest, torch.zeros_like(rest))
    assert Plain().optimum(tensor(0.5, 0.5).log(), tensor(1, 1), beta=0.0) is None


def test_it_is_registered() -> None:
    assert METHODS["ucpo"] is UCPO
