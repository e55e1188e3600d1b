"""The transforms themselves, on batches that a trainer could have gathered."""

import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.integrations import IPS, MARA, BestOfN, EntropyBonus, TransformBatch, Unlikeliness
from allmodes.objectives import (
    BatchQuantile,
    GroupQuantile,
    best_of_n_rewards,
    ips_rewards,
    mara_rewards,
    unlikeliness_rewards,
)

NAN = float("nan")


def batch(rewards: list[float], *, group: int = 4, **changes: Any) -> TransformBatch:
    """Samples with log π_ref of −1, −2, ... and three tokens each, in groups of four."""
    count = len(rewards)
    own: dict[str, Any] = {
        "rewards": torch.tensor(rewards, dtype=torch.float32),
        "group_ids": torch.arange(count) // group,
        "lengths": torch.full((count,), 3),
        "ref_logprobs": -1.0 - torch.arange(count).double(),
        "logprobs": -2.0 - torch.arange(count).double() / 2,
    }
    return TransformBatch(**{**own, **changes})


def same(left: Tensor, right: Tensor) -> bool:
    return torch.allclose(left.double(), right.double(), atol=1e-6, equal_nan=True)


def test_the_transforms_need_no_trainer() -> None:
    code = (
        "import sys, allmodes.integrations; print(sorted({'trl', 'transformers', 'peft'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("anchor", ["group", "leave_one_out"])
@pytest.mark.parametrize("cap", [None, 0.1])
def test_mara_is_mara_rewards(anchor: Any, cap: float | None) -> None:
    samples = batch([1, 0, 1, 0.5, 0, 0.5, 1, 1])
    result = MARA(threshold=0.5, anchor=anchor, max_gap_bonus=cap)(samples, beta=0.2)
    expected = mara_rewards(
        samples.rewards.double(),
        -1.0 - torch.arange(8).double(),
        beta=0.2,
        threshold=0.5,
        group_ids=samples.group_ids,
        anchor=anchor,
        max_gap_bonus=cap,
    )
    assert same(result.rewards, expected.rewards)
    assert result.rewards.dtype == torch.float32
    assert result.metrics["augmented"] == pytest.approx(6 / 8)
    assert result.metrics["bonus_max"] == pytest.approx(float(expected.bonus.max()))


def test_a_reward_equal_to_the_threshold_is_good_in_any_precision() -> None:
    """As a float64, .9 is above the float32 that .9 becomes in a trainer."""
    result = MARA(threshold=0.9)(batch([0.9, 0.1, 0.9, 0.1]), beta=0.1)
    assert result.metrics["augmented"] == 0.5


@pytest.mark.parametrize("threshold", [BatchQuantile(0.9), GroupQuantile(0.9), 0.5])
def test_nothing_good_leaves_rewards_alone_and_is_counted(threshold: Any) -> None:
    samples = batch([0.2] * 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = MARA(threshold=threshold)(samples, beta=0.1)
    is_unknown = threshold != 0.5
    assert len(caught) == is_unknown
    assert all(str(w.message).startswith("MARA left this batch as it was: all rewards") for w in caught)
    assert result.metrics["groups_without_threshold"] == is_unknown
    assert torch.equal(result.rewards, samples.rewards)
    assert result.metrics["augmented"] == 0
    assert result.metrics["groups_without_anchor"] == 1
    assert result.metrics["bonus_max"] != result.metrics["bonus_max"]  # no bonus: not 0, but no figure


@pytest.mark.parametrize("threshold", [BatchQuantile(0.9), GroupQuantile(0.9)])
def test_a_batch_of_successes_alone_is_augmented_once_a_failure_was_seen(threshold: Any) -> None:
    mara, names = MARA(threshold=threshold), ["p"] * 4 + ["q"] * 4
    first = mara(batch([0, 0, 1, 1] * 2, prompts=names), beta=0.1)
    assert (mara.has_state, mara.needs_prompts) == (True, isinstance(threshold, GroupQuantile))
    second = mara(batch([1] * 8, prompts=names[::-1]), beta=0.1, state=first.state)
    assert second.metrics["augmented"] == 1
    assert second.metrics["threshold"] == 1
    assert second.metrics["groups_without_threshold"] == 0
    assert same(second.rewards, torch.tensor([1, 1.1, 1.2, 1.3] * 2))
    assert second.state == first.state
    assert (MARA(threshold=0.5).has_state, MARA(threshold=0.5)(batch([1] * 4), beta=0.1).state) == (
        False,
        None,
    )


def test_empty_completions_are_neither_anchors_nor_augmented() -> None:
    lengths, ref = torch.tensor([0, 3, 3, 3]), torch.tensor([0.0, -2, -3, -4]).double()
    result = MARA(threshold=0.5)(batch([1, 1, 1, 0], lengths=lengths, ref_logprobs=ref), beta=0.1)
    assert same(result.rewards, torch.tensor([1, 1, 1.1, 0]))
    assert result.metrics["anchor_ref_logprob"] == -2


def test_unscorable_samples_stay_so() -> None:
    result = MARA(threshold=0.5)(batch([NAN, 1, 1, 0]), beta=0.1)
    assert same(result.rewards, torch.tensor([NAN, 1, 1.1, 0]))


def test_mara_on_outcomes_gives_two_spellings_the_height_of_their_sum() -> None:
    ids = torch.tensor([0, 0, 1, -1])
    policy = torch.tensor([0.1, 0.1, 0.1, 0.7]).log().double()
    reference = torch.tensor([0.2, 0.2, 0.1, 0.5]).log().double()
    samples = batch([1, 1, 1, 1], outcome_ids=ids, ref_logprobs=reference, logprobs=policy)
    result = MARA(threshold=0.5, outcome_key=str)(samples, beta=0.1)
    # q̂ is (2 + 2)/4 = 1 of outcome 0, 1/4 of outcome 1; the sample without outcome stays as it is.
    bonus = 0.1 * torch.tensor(4.0).log()
    assert same(result.rewards, torch.tensor([1, 1, 1 + bonus, 1]))


def test_an_empty_completion_adds_nothing_to_its_outcome() -> None:
    """A truncated answer can parse; over no tokens its weight would be 1."""
    reference = torch.tensor([0.0, -2, -3, -4]).double()
    changes = {"outcome_ids": torch.tensor([1, 0, 1, 2]), "lengths": torch.tensor([0, 3, 3, 3])}
    samples = batch([0, 1, 1, 0], ref_logprobs=reference, logprobs=0 * reference, **changes)
    result = MARA(threshold=0.5, outcome_key=str)(samples, beta=0.1)
    assert same(result.rewards, torch.tensor([0, 1, 1.1, 0]))


def test_ips_is_ips_rewards() -> None:
    ids = torch.tensor([0, 0, 0, 1, -1, -1, 2, 0])
    samples = batch([1, 1, 0.5, NAN, 1, 0, 0.25, 1], outcome_ids=ids)
    result = IPS(outcome_key=str, min_probability=0.3)(samples, beta=0.0)
    expected = ips_rewards(samples.rewards, ids, min_probability=0.3, group_ids=samples.group_ids)
    assert same(result.rewards, expected.rewards)
    assert result.metrics["distinct_outcomes"] == pytest.approx((2 + 3) / 2)
    assert result.metrics["without_outcome"] == pytest.approx(2 / 8)
    assert result.metrics["clipped"] == pytest.approx(3 / 8)


def test_ips_refuses_negative_rewards() -> None:
    samples = batch([1, 0.5, -0.25, NAN], outcome_ids=torch.tensor([0, 0, 1, 2]))
    with pytest.raises(InputError, match=r"^rewards must not be negative for IPS, .*; got -0.25. Clip them"):
        IPS(outcome_key=str)(samples, beta=0.1)


@pytest.mark.parametrize(("k", "times"), [(1, 1), (2, 2), (None, 4)])
def test_best_of_n_is_k_times_what_is_added_to_the_maximum(k: int | None, times: int) -> None:
    samples = batch([1, 0, 0.5, 0.25, 0, 0, 1, 1])
    result = BestOfN(k)(samples, beta=0.0)
    added = best_of_n_rewards(samples.rewards, k=k, group_ids=samples.group_ids)
    assert same(result.rewards, times * added)


def test_best_of_n_leaves_out_the_unscorable_and_skips_what_is_left_too_small() -> None:
    result = BestOfN(3)(batch([1, NAN, 0.5, 0.25, NAN, NAN, 1, 0]), beta=0.0)
    of_three = 3 * best_of_n_rewards(torch.tensor([1, 0.5, 0.25]), k=3)
    assert same(result.rewards, torch.tensor([of_three[0], NAN, *of_three[1:], NAN, NAN, 0, 0]))
    assert result.metrics["groups_too_small"] == 0.5


def test_unlikeliness_ranks_by_the_mean_token() -> None:
    lengths = torch.tensor([1, 2, 4, 8])
    samples = batch([1, 1, 1, 1], lengths=lengths)
    result = Unlikeliness(0.5)(samples, beta=0.0)
    mean = samples.logprobs / lengths if samples.logprobs is not None else torch.empty(0)
    assert same(result.rewards, unlikeliness_rewards(samples.rewards, mean, strength=0.5))
    assert result.rewards.argmax() == 0


def test_the_entropy_bonus_by_hand() -> None:
    """log π_θ is −2, −2.5, −3, −3.5: not over the three tokens, and not of the reference."""
    result = EntropyBonus(0.5)(batch([1, 0, NAN, 0.5]), beta=0.1)
    assert same(result.rewards, torch.tensor([2, 1.25, NAN, 2.25]))
    assert result.rewards.dtype == torch.float32
    assert result.metrics == pytest.approx(
        {"sequence_entropy": 2.75, "bonus_mean": (1 + 1.25 + 1.75) / 3, "bonus_max": 1.75}
    )


def test_an_empty_completion_gets_no_entropy_bonus() -> None:
    logprobs = torch.tensor([0.0, -1, -2, -3]).double()
    samples = batch([1, 1, 1, 1], lengths=torch.tensor([0, 3, 3, 3]), logprobs=logprobs)
    assert same(EntropyBonus(0.1)(samples, beta=0.0).rewards, torch.tensor([1, 1.1, 1.2, 1.3]))


def test_a_batch_that_cannot_be_scored_has_no_bonus_to_log() -> None:
    result = EntropyBonus(0.1)(batch([NAN] * 4), beta=0.0)
    assert result.rewards.isnan().all()
    assert result.metrics["bonus_max"] != result.metrics["bonus_max"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MARA(threshold=NAN), "`threshold` must not be NaN"),
        (lambda: MARA(threshold=0.5, anchor="best"), "`anchor` must be one of"),  # pyright: ignore
        (lambda: MARA(threshold=0.5, max_gap_bonus=0), "`max_gap_bonus` must be a finite number above 0"),
        (lambda: IPS(outcome_key=str, min_probability=2), "`min_probability` must lie between 0 and 1"),
        (lambda: BestOfN(0), "`k` must be at least 1; got 0"),
        (lambda: EntropyBonus(-0.1), "`entropy` must be a finite number from 0 on; got -0.1"),
        (lambda: EntropyBonus(0.1)(batch([1] * 4, logprobs=None), beta=0.1), "`logprobs` is needed"),
        (lambda: Unlikeliness(1.5), "`strength` must lie between 0 and 1"),
        (
            lambda: MARA(threshold=0.5)(batch([1] * 4, ref_logprobs=None), beta=0.1),
            "`ref_logprobs` is needed",
        ),
        (lambda: MARA(threshold=0.5)(batch([1] * 4), beta=0.0), "`beta` must be a finite number above 0"),
        (lambda: Unlikeliness(0.5)(batch([-1.0] * 4), beta=0.1), "`rewards` must not be negative"),
    ],
)
def test_what_has_no_meaning_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
