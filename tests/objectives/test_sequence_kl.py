"""Whose optimum a KL has: that of whole sequences, or of each token with the states held fixed."""

import pytest
import torch
from torch import Tensor

from allmodes.targets import forward_kl_target, reverse_kl_target
from sequence_worlds import KL, conditionals, effective_number, gradient, optimum, sequence_logprobs, trained

VOCABULARY, BETA = 4, 0.2
KLS: tuple[KL, ...] = ("sequence", "tokens", "tokens-forward")


def world(tokens: int) -> tuple[Tensor, Tensor]:
    """log π_ref of all sequences, unevenly, and a reward of 1 for five of them that begin differently."""
    generator = torch.Generator().manual_seed(tokens)
    count = VOCABULARY**tokens
    ref = (1.5 * torch.randn(count, generator=generator, dtype=torch.float64)).log_softmax(0)
    good = torch.randperm(count, generator=generator)[: min(5, count - 1)]
    return ref, torch.zeros(count, dtype=torch.float64).index_fill(0, good, 1.0)


@pytest.mark.parametrize("tokens", [1, 2, 3])
@pytest.mark.parametrize("kl", KLS)
def test_the_gradient_is_zero_at_the_optimum_and_nowhere_near_it(kl: KL, tokens: int) -> None:
    ref, rewards = world(tokens)
    tables = conditionals(
        optimum(ref, rewards, beta=BETA, kl=kl, vocabulary=VOCABULARY), vocabulary=VOCABULARY
    )
    assert max(float(g.abs().max()) for g in gradient(tables, ref, rewards, beta=BETA, kl=kl)) < 1e-12
    others = conditionals(ref, vocabulary=VOCABULARY)
    assert max(float(g.abs().max()) for g in gradient(others, ref, rewards, beta=BETA, kl=kl)) > 1e-3


@pytest.mark.parametrize("kl", KLS)
def test_training_comes_to_it(kl: KL) -> None:
    ref, rewards = world(2)
    expected = optimum(ref, rewards, beta=BETA, kl=kl, vocabulary=VOCABULARY).exp()
    found = trained(ref, rewards, beta=BETA, kl=kl, vocabulary=VOCABULARY, steps=1500)
    assert float((found.exp() - expected).abs().sum() / 2) < 2e-3  # the reference is further than .2 away
    assert float((ref.exp() - expected).abs().sum() / 2) > 0.2


@pytest.mark.parametrize("tokens", [1, 2, 3, 4])
def test_only_the_kl_of_sequences_ends_at_the_optimum_of_sequences(tokens: int) -> None:
    ref, rewards = world(tokens)
    exact = reverse_kl_target(ref, rewards, beta=BETA)
    found = {kl: optimum(ref, rewards, beta=BETA, kl=kl, vocabulary=VOCABULARY) for kl in KLS}
    assert torch.allclose(found["sequence"], exact, atol=1e-12)
    distance = float((found["tokens"].exp() - exact.exp()).abs().sum() / 2)
    forward = forward_kl_target(ref, rewards, beta=BETA).logprobs
    if tokens == 1:
        assert distance < 1e-12
        assert torch.allclose(found["tokens-forward"], forward, atol=1e-9)
    else:
        assert distance > 0.05
        assert float((found["tokens-forward"].exp() - forward.exp()).abs().sum() / 2) > 0.05


@pytest.mark.parametrize("tokens", [1, 2, 3, 4])
def test_maras_bonus_cancels_the_kl_of_sequences_alone(tokens: int) -> None:
    ref, rewards = world(tokens)
    good = rewards > 0
    bonus = torch.where(good, BETA * (ref[good].max() - ref), 0)
    count = int(good.sum())
    found = {
        kl: effective_number(
            optimum(ref, rewards + bonus, beta=BETA, kl=kl, vocabulary=VOCABULARY), good
        )
        for kl in KLS
    }  # fmt: skip
    assert found["sequence"] == pytest.approx(count)
    if tokens == 1:
        assert found["tokens"] == pytest.approx(count)
    else:
        assert found["tokens"] < 0.75 * count


def test_tables_and_sequences_are_the_same_policy() -> None:
    ref, _ = world(3)
    tables = conditionals(ref, vocabulary=VOCABULARY)
    assert [tuple(table.shape) for table in tables] == [(1, 4), (4, 4), (16, 4)]
    assert torch.allclose(sequence_logprobs(tables), ref)
