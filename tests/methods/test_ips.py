"""Inverse probability scaling on batches that a trainer could have gathered."""

import pytest
import torch

from allmodes.errors import InputError
from allmodes.methods import IPS, stable_ids
from allmodes.objectives import ips_rewards
from method_cases import same, simple_batch

NAN = float("nan")


def test_ips_is_ips_rewards() -> None:
    ids = stable_ids([0, 0, 0, 1, None, None, 2, 0])
    samples = simple_batch([1, 1, 0.5, NAN, 1, 0, 0.25, 1], outcome_ids=ids)
    result = IPS(outcome_key=str, min_probability=0.3)(samples, beta=0.0)
    expected = ips_rewards(samples.rewards, ids, min_probability=0.3, group_ids=samples.group_ids)
    assert same(result.rewards, expected.rewards)
    assert result.metrics["distinct_outcomes"] == pytest.approx((2 + 3) / 2)
    assert result.metrics["without_outcome"] == pytest.approx(2 / 8)
    assert result.metrics["clipped"] == pytest.approx(3 / 8)


def test_an_exponent_of_a_half_divides_by_the_root() -> None:
    """By hand: shares 3/4 and 1/4."""
    samples = simple_batch([1, 1, 0.5, 1], outcome_ids=stable_ids(["a", "a", "a", "b"]))
    new = IPS(exponent=0.5)(samples, beta=0.0).rewards
    assert same(new, torch.tensor([1, 1, 0.5, 1]) / torch.tensor([0.75, 0.75, 0.75, 0.25]).sqrt())
    assert same(IPS(exponent=0)(samples, beta=0.0).rewards, samples.rewards)


def test_probabilities_that_the_trainer_knows_are_used_instead_of_shares() -> None:
    known = torch.tensor([0.5, 0.5, 0.2, 0.05])
    samples = simple_batch([1, 1, 0.5, 1], outcome_probabilities=known)
    new = IPS(min_probability=0.1)(samples, beta=0.0)
    assert same(new.rewards, torch.tensor([2, 2, 2.5, 10]))
    assert new.metrics["clipped"] == 0.25
    assert same(
        IPS(exponent=2)(samples, beta=0.0).rewards,
        torch.tensor([1, 1, 0.5, 1]).double() / known.double() ** 2,
    )


def test_with_the_kl_first_the_penalty_is_divided_with_the_reward() -> None:
    """By hand: log π/π_ref is −1, −0.5, 0, 0.5."""
    samples = simple_batch([1, 1, 0, 0], outcome_ids=stable_ids(["a", "b", "b", "b"]))
    new = IPS(kl_first=True)(samples, beta=0.2).rewards
    assert same(new, torch.tensor([(1 + 0.2) * 4, (1 + 0.1) / 0.75, 0, -0.1 / 0.75]))


def test_ips_refuses_negative_rewards() -> None:
    samples = simple_batch([1, 0.5, -0.25, NAN], outcome_ids=stable_ids([0, 0, 1, 2]))
    with pytest.raises(InputError, match=r"^rewards must not be negative for IPS, .*; got -0.25. Clip them"):
        IPS(outcome_key=str)(samples, beta=0.1)


def test_a_minimum_that_is_no_probability_is_refused() -> None:
    with pytest.raises(InputError, match="`min_probability` must be at least 0 and at most 1; got 2"):
        IPS(outcome_key=str, min_probability=2)
