"""DARLING: rewards by hand, expected updates by enumeration, water-filling as the point of rest."""

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.methods import METHODS, Batch, Darling, EntropyBonus, Plain, Then
from enumerated_groups import expected_gradient, gains_of_many, gradient_of, logits_of, relative_gains
from sequence_worlds import sequence_logprobs
from tensors import tensor


def gains(p: Tensor, rewards: Tensor, *, size: int | None) -> Tensor:
    """REFERENCE: r (1 − p), and in groups r [(G − 1) − (G − 2) p]/G."""
    return rewards * (1 - p) if size is None else rewards * ((size - 1) - (size - 2) * p) / size


def test_by_hand_over_two_groups() -> None:
    batch = Batch(
        rewards=tensor(1, 1, 0.5, 2, 1, 0.8),
        group_ids=torch.tensor([0, 0, 0, 0, 7, 7]),
        outcome_ids=torch.tensor([3, 3, -1, -1, 3, 4]),  # those without an outcome are one
    )
    result = Darling()(batch, beta=0.0)
    assert torch.allclose(result.rewards, tensor(0.5, 0.5, 0.25, 1, 0.5, 0.4), atol=1e-15)
    assert result.metrics == {"others": pytest.approx(0.5)}
    order = torch.tensor([5, 3, 1, 0, 4, 2])
    turned = Batch(
        rewards=batch.rewards[order],
        group_ids=batch.group_ids[order],
        outcome_ids=torch.tensor([3, 3, -1, -1, 3, 4])[order],
    )
    assert torch.equal(Darling()(turned, beta=0.0).rewards, result.rewards[order])


def test_a_sample_without_a_reward_counts_and_keeps_none() -> None:
    batch = Batch(
        rewards=torch.tensor([1.0, torch.nan, 1.0, 1.0]),
        group_ids=torch.zeros(4, dtype=torch.long),
        outcome_ids=torch.tensor([0, 0, 1, 2]),
    )
    new = Darling()(batch, beta=0.0).rewards
    assert new.dtype == torch.float32
    assert torch.allclose(new, torch.tensor([0.5, torch.nan, 0.75, 0.75]), equal_nan=True)


def test_what_it_cannot_take_is_refused() -> None:
    ids = torch.zeros(2, dtype=torch.long)
    with pytest.raises(InputError, match=r"must not be negative for DARLING.*got -1"):
        Darling()(Batch(rewards=tensor(1, -1), group_ids=ids, outcome_ids=ids), beta=0.0)
    with pytest.raises(InputError, match="`outcome_ids` of the batch is needed"):
        Darling()(Batch(rewards=tensor(1, 1), group_ids=ids), beta=0.0)
    with pytest.raises(InputError, match="must not be negative for DARLING"):
        Darling().optimum(tensor(0.5, 0.5).log(), tensor(1, -1), beta=0.0)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_expected_update_in_small_groups(size: int) -> None:
    rewards, tables = tensor(1, 0.7, 0.2), logits_of(0.5, 0.3, 0.2)
    p = sequence_logprobs(tables).exp()
    (wanted,) = gradient_of(tables, gains(p, rewards, size=size))
    (found,) = expected_gradient(Darling(), tables, rewards, size=size)
    assert torch.allclose(found, wanted, atol=1e-15, rtol=0)
    (mean,) = expected_gradient(Darling(), tables, rewards, size=size, baseline="mean")
    assert torch.allclose(mean, wanted * (size - 1) / size, atol=1e-15, rtol=0)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_expected_update_where_strings_of_two_tokens_share_an_outcome(size: int) -> None:
    rewards, outcome_ids = tensor(1, 0.6, 0.6, 0.3), torch.tensor([0, 5, 5, -1])
    tables = [tensor(0.3, -0.2).view(1, 2), tensor(0.5, 0, -0.7, 0.2).view(2, 2)]
    p = sequence_logprobs(tables).exp()
    share = torch.stack([p[0], p[1] + p[2], p[1] + p[2], p[3]])
    wanted = gradient_of(tables, gains(share, rewards, size=size))
    found = expected_gradient(Darling(), tables, rewards, size=size, outcome_ids=outcome_ids)
    assert all(torch.allclose(a, b, atol=1e-15, rtol=0) for a, b in zip(found, wanted, strict=True))


def test_expected_update_of_many_samples() -> None:
    rewards, p = tensor(1, 0.7, 0.2), tensor(0.5, 0.3, 0.2)
    at = gains(p, rewards, size=None)
    assert torch.allclose(gains_of_many(Darling(), (5, 3, 2), rewards), at - (p * at).sum(), atol=1e-15)


def test_water_filling_of_the_note() -> None:
    rewards = tensor(1, 1, 1, 0.8, 0.4, 0)
    found = Darling().optimum(torch.full((6,), 1 / 6).double().log(), rewards, beta=0.0)
    assert found is not None
    assert [round(float(p), 3) for p in found.exp()] == [0.294, 0.294, 0.294, 0.118, 0, 0]


@pytest.mark.parametrize("rewards", [(1, 1, 1, 0.8, 0.4, 0), (1, 0.9, 0.5), (0.3, 0.2, 0.25, 0.1), (1, 0, 0)])
@pytest.mark.parametrize("size", [None, 3, 4, 16])
def test_it_rests_at_its_optimum_and_what_is_extinct_stays_so(
    rewards: tuple[float, ...], size: int | None
) -> None:
    r = tensor(*rewards)
    found = Darling().optimum(torch.full_like(r, 1 / len(r)).log(), r, beta=0.0, group_size=size)
    assert found is not None
    p = found.exp()
    at = gains(p, r, size=size)
    level = (p * at).sum()
    assert torch.allclose(at[p > 0], level, atol=1e-14)
    assert bool((at[p == 0] <= level + 1e-15).all())


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_the_enumerated_update_vanishes_at_the_optimum(size: int, beta: float) -> None:
    rewards, ref = tensor(1, 0.95, 0.9), tensor(0.2, 0.3, 0.5).log()
    found = Darling().optimum(ref, rewards, beta=beta, group_size=size)
    assert found is not None
    options = {"ref": ref, "beta": beta}
    at = relative_gains(Darling(), [found.view(1, 3)], rewards, size=size, **options)
    assert float(at.abs().max()) < 1e-13
    away = (0.9 * found.exp() + 0.1 * tensor(1, 0, 0)).log().view(1, 3)
    assert float(relative_gains(Darling(), [away], rewards, size=size, **options)[0]) < -1e-3


@pytest.mark.parametrize("kl", ["reverse", "forward"])
def test_with_a_kl_all_outcomes_gain_the_same(kl: str) -> None:
    rewards, ref, beta = tensor(1, 0.9, 0.5, 0), tensor(0.1, 0.2, 0.3, 0.4), 0.1
    for size in (None, 4):
        found = Darling().optimum(ref.log(), rewards, beta=beta, kl=kl, group_size=size)  # pyright: ignore[reportArgumentType]
        assert found is not None
        p = found.exp()
        pull = -(p / ref).log() if kl == "reverse" else ref / p
        at = gains(p, rewards, size=size) + beta * pull
        assert float(at.max() - at.min()) < 1e-13


def test_strings_of_an_outcome_keep_the_shares_of_the_reference() -> None:
    ref, rewards = tensor(0.1, 0.3, 0.2, 0.4).log(), tensor(1, 1, 0.9, 0.1)
    ids = torch.tensor([4, 4, 9, -1])
    found = Darling().optimum(ref, rewards, beta=0.0, outcome_ids=ids)
    outcomes = Darling().optimum(tensor(0.4, 0.4, 0.2).log(), tensor(0.1, 1, 0.9), beta=0.0)
    assert found is not None
    assert outcomes is not None
    p, share = found.exp(), outcomes.exp()
    assert torch.allclose(p, torch.stack([share[1] / 4, share[1] * 3 / 4, share[2], share[0]]), atol=1e-15)
    assert Darling().optimum(ref, tensor(1, 0.8, 0.9, 0.1), beta=0.0, outcome_ids=ids) is None
    unwritten = tensor(0.5, 0.5, 0).log()  # the best outcome would take mass that no string is known for
    assert Darling().optimum(unwritten, tensor(0.1, 0.2, 1), beta=0.0, outcome_ids=ids[1:]) is None


def test_groups_of_two_restore_nothing_and_say_so() -> None:
    rewards, tables = tensor(1, 0.7, 0.7), logits_of(0.2, 0.7, 0.1)
    (found,) = expected_gradient(Darling(), tables, rewards, size=2)
    (plain,) = expected_gradient(Plain(), tables, rewards, size=2)
    assert torch.allclose(found, plain / 2, atol=1e-15, rtol=0)
    ref = sequence_logprobs(tables)
    assert Darling().optimum(ref, rewards, beta=0.0, group_size=2) is None
    halved, target = (
        Darling().optimum(ref, rewards, beta=0.1, group_size=2),
        Plain().optimum(ref, rewards, beta=0.2),
    )
    assert halved is not None
    assert target is not None
    assert torch.allclose(halved, target, atol=1e-14)
    warning = Darling().group_warning(2)
    assert warning is not None
    assert "DARLING keeps no diversity in groups of 2" in warning
    assert Darling().group_warning(3) is None
    assert Then(Darling(), EntropyBonus(0.1)).group_warning(2) == warning
    assert Then(Plain(), EntropyBonus(0.1)).group_warning(2) is None


def test_the_start_decides_where_all_rewards_are_0() -> None:
    assert Darling().optimum(tensor(0.5, 0.5).log(), tensor(0, 0), beta=0.0) is None


def test_a_division_by_the_standard_deviation_moves_the_optimum() -> None:
    rewards, ref = tensor(1, 0.95, 0.9), tensor(0.2, 0.3, 0.5).log()
    found = Darling().optimum(ref, rewards, beta=0.0, group_size=4)
    assert found is not None
    at = relative_gains(Darling(), [found.view(1, 3)], rewards, size=4, baseline="std")
    assert float(at.abs().max()) > 1e-3
    assert not Darling().optimum_survives_std_normalization


def test_it_is_registered() -> None:
    assert METHODS["darling"] is Darling
