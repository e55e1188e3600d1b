"""UA-RL's exponent as a setting of IPS."""

import pytest
import torch

from allmodes.errors import InputError
from allmodes.methods import IPS, Batch, Plain
from enumerated_groups import expected_gradient, gains_of_many, logits_of
from tensors import tensor


def test_by_hand() -> None:
    batch = Batch(
        rewards=tensor(1, 1, 1, 0.5),
        group_ids=torch.zeros(4, dtype=torch.long),
        outcome_ids=torch.tensor([0, 0, -1, 4]),
    )
    new = IPS(exponent=0.5)(batch, beta=0.0).rewards
    assert torch.allclose(new, tensor(2**0.5, 2**0.5, 2, 1), atol=1e-15)
    assert torch.equal(IPS(exponent=0.0)(batch, beta=0.0).rewards, batch.rewards)
    assert torch.equal(IPS(exponent=1.0)(batch, beta=0.0).rewards, IPS()(batch, beta=0.0).rewards)
    with pytest.raises(InputError, match="`exponent` must be at least 0; got -1"):
        IPS(exponent=-1)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_many_samples_rest_where_p_is_the_reward_to_one_over_the_exponent(exponent: float) -> None:
    counts = (1, 2, 3, 4)
    p = tensor(*counts) / 10
    rewards = 0.7 * p**exponent  # then r/p^α is the same for all
    found = IPS(exponent=exponent).optimum(torch.full((4,), 0.25).double().log(), rewards, beta=0.0)
    assert found is not None
    assert torch.allclose(found.exp(), p, atol=1e-15)
    assert float(gains_of_many(IPS(exponent=exponent), counts, rewards).abs().max()) < 1e-15
    crowded = gains_of_many(IPS(exponent=exponent), (2, 2, 3, 3), rewards)
    assert float(crowded[0]) < 0 < float(crowded[3])


def test_strings_of_an_outcome_are_counted_together() -> None:
    counts, ids = (1, 2, 3, 4), torch.tensor([7, 7, 1, 1])
    rewards = tensor(0.3, 0.3, 0.7, 0.7) ** 0.5
    ref = tensor(0.1, 0.2, 0.3, 0.4).log()
    found = IPS(exponent=0.5).optimum(ref, rewards, beta=0.0, outcome_ids=ids)
    assert found is not None
    assert torch.allclose(found.exp(), tensor(0.1, 0.2, 0.3, 0.4), atol=1e-15)
    at = gains_of_many(IPS(exponent=0.5), counts, rewards, outcome_ids=ids)
    assert float(at.abs().max()) < 1e-15


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_groups_of_two_restore_nothing_and_say_so(exponent: float) -> None:
    method, rewards, tables = IPS(exponent=exponent), tensor(1, 1, 0.5), logits_of(0.2, 0.7, 0.1)
    (found,) = expected_gradient(method, tables, rewards, size=2)
    (plain,) = expected_gradient(Plain(), tables, rewards, size=2)
    assert torch.allclose(found, 2**exponent * plain, atol=1e-15, rtol=0)
    (of_three,) = expected_gradient(method, tables, rewards, size=3)
    assert float((of_three / plain).max() - (of_three / plain).min()) > 0.1
    warning = method.group_warning(2)
    assert warning is not None
    assert "IPS keeps no diversity in groups of 2" in warning
    assert method.group_warning(3) is None


def test_what_is_not_known() -> None:
    ref, rewards = tensor(0.5, 0.5).log(), tensor(1, 0.5)
    assert IPS(exponent=0.5).optimum(ref, rewards, beta=0.1) is None
    assert IPS(exponent=0.5).optimum(ref, rewards, beta=0.0, group_size=8) is None
    assert IPS(exponent=0.0).optimum(ref, rewards, beta=0.0) is None
    assert Plain().optimum(ref, rewards, beta=0.0) is None
