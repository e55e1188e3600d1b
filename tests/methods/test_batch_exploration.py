"""Batch exploration: rewards by hand, expected updates by enumeration, sparsemax as the point of rest."""

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import METHODS, Batch, BatchExploration, Plain
from enumerated_groups import expected_gradient, gains_of_many, gradient_of, logits_of, relative_gains
from sequence_worlds import sequence_logprobs
from tensors import tensor


def gains(p: Tensor, rewards: Tensor, *, strength: float, size: int | None) -> Tensor:
    """REFERENCE: r − c p, and in groups r − c (G − 2)/G p."""
    return rewards - strength * (1 if size is None else (size - 2) / size) * p


def test_by_hand_over_two_groups() -> None:
    outcome_ids = torch.tensor([3, 3, -1, -1, -1, 3, 4])  # those without an outcome are one
    batch = Batch(
        rewards=tensor(1, 1, 0, 0, 0, 1, 0.8),
        group_ids=torch.tensor([0, 0, 0, 0, 0, 7, 7]),
        outcome_ids=outcome_ids,
    )
    result = BatchExploration(0.5)(batch, beta=0.0)
    assert torch.allclose(result.rewards, tensor(0.9, 0.9, -0.2, -0.2, -0.2, 1, 0.8), atol=1e-15)
    assert result.metrics == {"shared": pytest.approx(1.6 / 7)}
    order = torch.tensor([5, 3, 1, 6, 0, 4, 2])
    turned = Batch(
        rewards=batch.rewards[order], group_ids=batch.group_ids[order], outcome_ids=outcome_ids[order]
    )
    assert torch.equal(BatchExploration(0.5)(turned, beta=0.0).rewards, result.rewards[order])


def test_a_sample_without_a_reward_counts_and_keeps_none() -> None:
    batch = Batch(
        rewards=torch.tensor([1.0, torch.nan, -1.0, 1.0]),
        group_ids=torch.zeros(4, dtype=torch.long),
        outcome_ids=torch.tensor([0, 0, 1, 2]),
    )
    new = BatchExploration(1.0)(batch, beta=0.0).rewards
    assert new.dtype == torch.float32
    assert torch.allclose(new, torch.tensor([0.75, torch.nan, -1, 1]), equal_nan=True)


def test_what_it_cannot_take_is_refused() -> None:
    ids = torch.zeros(2, dtype=torch.long)
    with pytest.raises(InputError, match="`outcome_ids` of the batch is needed"):
        BatchExploration()(Batch(rewards=tensor(1, 1), group_ids=ids), beta=0.0)
    with pytest.raises(InputError, match="`strength` must be at least 0; got -1"):
        BatchExploration(-1)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_expected_update_in_small_groups(size: int) -> None:
    method, rewards, tables = BatchExploration(0.8), tensor(1, -0.7, 0.2), logits_of(0.5, 0.3, 0.2)
    p = sequence_logprobs(tables).exp()
    (wanted,) = gradient_of(tables, gains(p, rewards, strength=0.8, size=size))
    (found,) = expected_gradient(method, tables, rewards, size=size)
    assert torch.allclose(found, wanted, atol=1e-15, rtol=0)
    (mean,) = expected_gradient(method, tables, rewards, size=size, baseline="mean")
    assert torch.allclose(mean, wanted * (size - 1) / size, atol=1e-15, rtol=0)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_expected_update_where_strings_of_two_tokens_share_an_outcome(size: int) -> None:
    rewards, outcome_ids = tensor(1, 0.6, 0.4, 0.3), torch.tensor([0, 5, 5, -1])
    tables = [tensor(0.3, -0.2).view(1, 2), tensor(0.5, 0, -0.7, 0.2).view(2, 2)]
    p = sequence_logprobs(tables).exp()
    share = torch.stack([p[0], p[1] + p[2], p[1] + p[2], p[3]])
    wanted = gradient_of(tables, gains(share, rewards, strength=2.0, size=size))
    found = expected_gradient(BatchExploration(2.0), tables, rewards, size=size, outcome_ids=outcome_ids)
    assert all(torch.allclose(a, b, atol=2e-15, rtol=0) for a, b in zip(found, wanted, strict=True))


def test_expected_update_of_many_samples() -> None:
    # In one group of 1,000 the sample itself is 1/1,000 of its outcome for each.
    rewards, p = tensor(1, 0.7, 0.2), tensor(0.5, 0.3, 0.2)
    at = gains(p, rewards, strength=0.8, size=None)
    found = gains_of_many(BatchExploration(0.8), (500, 300, 200), rewards)
    assert torch.allclose(found, at - (p * at).sum(), atol=1e-14)


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("size", [None, 3, 4, 16])
@pytest.mark.parametrize("rewards", [(1, 1, 1, 0.8, 0.4, 0), (1, -0.9, 0.5), (2, 0)])
def test_it_rests_at_sparsemax(strength: float, size: int | None, rewards: tuple[float, ...]) -> None:
    r = tensor(*rewards)
    start = torch.full_like(r, 1 / len(r)).log()
    found = BatchExploration(strength).optimum(start, r, beta=0.0, group_size=size)
    assert found is not None
    p = found.exp()
    left = strength * (1 if size is None else (size - 2) / size)
    assert torch.allclose(p, sparsemax(r / left), atol=1e-14)
    at = gains(p, r, strength=strength, size=size)
    level = (p * at).sum()
    assert torch.allclose(at[p > 0], level, atol=1e-13)
    assert bool((at[p == 0] <= level + 1e-13).all())


def sparsemax(z: Tensor) -> Tensor:
    """Euclidean projection onto the simplex, by sorting (Martins and Astudillo 2016)."""
    ranked = z.sort(descending=True).values
    sums = ranked.cumsum(0)
    count = int((1 + torch.arange(1, len(z) + 1) * ranked > sums).sum())
    return (z - (sums[count - 1] - 1) / count).clamp(min=0)


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_the_enumerated_update_vanishes_at_the_optimum(size: int, beta: float) -> None:
    method, rewards, ref = BatchExploration(1.5), tensor(1, 0.95, 0.9), tensor(0.2, 0.3, 0.5).log()
    found = method.optimum(ref, rewards, beta=beta, group_size=size)
    assert found is not None
    options = {"ref": ref, "beta": beta}
    at = relative_gains(method, [found.view(1, 3)], rewards, size=size, **options)
    assert float(at.abs().max()) < 1e-13
    away = (0.9 * found.exp() + 0.1 * tensor(1, 0, 0)).log().view(1, 3)
    assert float(relative_gains(method, [away], rewards, size=size, **options)[0]) < -1e-3


@pytest.mark.parametrize("kl", ["reverse", "forward"])
def test_with_a_kl_all_outcomes_gain_the_same(kl: str) -> None:
    method, beta = BatchExploration(2.0), 0.1
    rewards, ref = tensor(1, 0.9, 0.5, -1), tensor(0.1, 0.2, 0.3, 0.4)
    for size in (None, 4):
        found = method.optimum(ref.log(), rewards, beta=beta, kl=kl, group_size=size)  # pyright: ignore[reportArgumentType]
        assert found is not None
        p = found.exp()
        pull = -(found - ref.log()) if kl == "reverse" else ref / p
        at = gains(p, rewards, strength=2.0, size=size) + beta * pull
        assert float(at.max() - at.min()) < 1e-12


def test_strings_of_an_outcome_keep_the_shares_of_the_reference() -> None:
    method, ids = BatchExploration(1.0), torch.tensor([4, 4, 9])
    found = method.optimum(tensor(0.1, 0.3, 0.6).log(), tensor(1, 1, 0.5), beta=0.0, outcome_ids=ids)
    assert found is not None
    assert torch.allclose(found.exp(), tensor(0.75 / 4, 0.75 * 3 / 4, 0.25), atol=1e-15)


def test_groups_of_two_restore_nothing_and_say_so() -> None:
    method, rewards, tables = BatchExploration(3.0), tensor(1, 0.7, 0.7), logits_of(0.2, 0.7, 0.1)
    (found,) = expected_gradient(method, tables, rewards, size=2)
    (plain,) = expected_gradient(Plain(), tables, rewards, size=2)
    assert torch.allclose(found, plain, atol=1e-15, rtol=0)
    ref = sequence_logprobs(tables)
    assert method.optimum(ref, rewards, beta=0.0, group_size=2) is None
    same = method.optimum(ref, rewards, beta=0.1, group_size=2)
    target = Plain().optimum(ref, rewards, beta=0.1)
    assert same is not None
    assert target is not None
    assert torch.equal(same, target)
    warning = method.group_warning(2)
    assert warning is not None
    assert "batch exploration keeps no diversity in groups of 2" in warning
    assert method.group_warning(3) is None


def test_a_division_by_the_standard_deviation_moves_the_optimum() -> None:
    method, rewards, ref = BatchExploration(1.5), tensor(1, 0.95, 0.9), tensor(0.2, 0.3, 0.5).log()
    found = method.optimum(ref, rewards, beta=0.0, group_size=4)
    assert found is not None
    at = relative_gains(method, [found.view(1, 3)], rewards, size=4, baseline="std")
    assert float(at.abs().max()) > 1e-3
    assert not method.optimum_survives_std_normalization


def test_it_is_registered() -> None:
    assert METHODS["batch_exploration"] is BatchExploration
