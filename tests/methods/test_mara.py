"""MARA on batches that a trainer could have gathered."""

import warnings
from typing import Any

import pytest
import torch

from allmodes.errors import InputError
from allmodes.methods import MARA, stable_ids
from allmodes.objectives import BatchQuantile, GroupQuantile, mara_rewards
from method_cases import same, simple_batch

NAN = float("nan")


@pytest.mark.parametrize("anchor", ["group", "leave_one_out"])
@pytest.mark.parametrize("cap", [None, 0.1])
def test_mara_is_mara_rewards(anchor: Any, cap: float | None) -> None:
    samples = simple_batch([1, 0, 1, 0.5, 0, 0.5, 1, 1])
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


def test_algorithm_2_gives_the_anchors_reward_and_the_anchors_reference() -> None:
    samples = simple_batch([0.5, 0, 1, 0.5])
    result = MARA(threshold=0.5, algorithm=2)(samples, beta=0.2)
    assert same(result.rewards, torch.tensor([0.5, 0, 0.5, 0.5]))
    assert result.ref_logprobs is not None
    assert same(result.ref_logprobs, torch.tensor([-1.0, -2, -1, -1]))


def test_a_reward_equal_to_the_threshold_is_good_in_any_precision() -> None:
    """As a float64, 0.9 is above the float32 that 0.9 becomes in a trainer."""
    result = MARA(threshold=0.9)(simple_batch([0.9, 0.1, 0.9, 0.1]), beta=0.1)
    assert result.metrics["augmented"] == 0.5


@pytest.mark.parametrize("threshold", [BatchQuantile(0.9), GroupQuantile(0.9), 0.5])
def test_nothing_good_leaves_rewards_alone_and_is_counted(threshold: Any) -> None:
    samples = simple_batch([0.2] * 8, prompt_ids=stable_ids(["p"] * 4 + ["q"] * 4))
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
    first = mara(simple_batch([0, 0, 1, 1] * 2, prompt_ids=stable_ids(names)), beta=0.1)
    assert (mara.has_state, mara.needs_prompts) == (True, isinstance(threshold, GroupQuantile))
    again = simple_batch([1] * 8, prompt_ids=stable_ids(names[::-1]))
    second = mara(again, beta=0.1, state=first.state)
    assert second.metrics["augmented"] == 1
    assert second.metrics["threshold"] == 1
    assert second.metrics["groups_without_threshold"] == 0
    assert same(second.rewards, torch.tensor([1, 1.1, 1.2, 1.3] * 2))
    assert second.state == first.state
    fixed = MARA(threshold=0.5)
    assert (fixed.has_state, fixed(simple_batch([1] * 4), beta=0.1).state) == (False, None)


def test_empty_responses_are_neither_anchors_nor_augmented() -> None:
    lengths, ref = torch.tensor([0, 3, 3, 3]), torch.tensor([0.0, -2, -3, -4]).double()
    result = MARA(threshold=0.5)(simple_batch([1, 1, 1, 0], lengths=lengths, ref_logprobs=ref), beta=0.1)
    assert same(result.rewards, torch.tensor([1, 1, 1.1, 0]))
    assert result.metrics["anchor_ref_logprob"] == -2


def test_unscorable_samples_stay_so() -> None:
    result = MARA(threshold=0.5)(simple_batch([NAN, 1, 1, 0]), beta=0.1)
    assert same(result.rewards, torch.tensor([NAN, 1, 1.1, 0]))


@pytest.mark.parametrize("settings", [{"outcome_key": str}, {"level": "outcomes"}])
def test_on_outcomes_two_spellings_have_the_height_of_their_sum(settings: dict[str, Any]) -> None:
    ids = stable_ids(["yes", "yes", "no", None])
    policy = torch.tensor([0.1, 0.1, 0.1, 0.7]).log().double()
    reference = torch.tensor([0.2, 0.2, 0.1, 0.5]).log().double()
    samples = simple_batch([1, 1, 1, 1], outcome_ids=ids, ref_logprobs=reference, logprobs=policy)
    result = MARA(threshold=0.5, **settings)(samples, beta=0.1)
    # q̂ is (2 + 2)/4 = 1 of "yes", 1/4 of "no"; the sample without outcome stays as it is.
    bonus = 0.1 * torch.tensor(4.0).log()
    assert same(result.rewards, torch.tensor([1, 1, 1 + bonus, 1]))


def test_an_empty_response_adds_nothing_to_its_outcome() -> None:
    """A truncated answer can parse; over no tokens its weight would be 1."""
    reference = torch.tensor([0.0, -2, -3, -4]).double()
    changes = {"outcome_ids": stable_ids([1, 0, 1, 2]), "lengths": torch.tensor([0, 3, 3, 3])}
    samples = simple_batch([0, 1, 1, 0], ref_logprobs=reference, logprobs=0 * reference, **changes)
    result = MARA(threshold=0.5, outcome_key=str)(samples, beta=0.1)
    assert same(result.rewards, torch.tensor([0, 1, 1.1, 0]))


@pytest.mark.parametrize(
    ("settings", "changes", "beta", "message"),
    [
        ({"threshold": NAN}, {}, 0.1, "`threshold` must be a number; got nan"),
        ({"threshold": 0.5, "anchor": "best"}, {}, 0.1, "`anchor` must be one of"),
        ({"threshold": 0.5, "max_gap_bonus": 0}, {}, 0.1, "`max_gap_bonus` must be above 0; got 0"),
        ({"threshold": 0.5}, {"ref_logprobs": None}, 0.1, "`ref_logprobs` of the batch is needed"),
        ({"threshold": GroupQuantile(0.9)}, {}, 0.1, "`prompt_ids` of the batch is needed"),
        ({"threshold": 0.5}, {}, 0.0, "`beta` must be a finite number above 0"),
    ],
)
def test_what_has_no_meaning_is_refused(
    settings: dict[str, Any], changes: dict[str, Any], beta: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        MARA(**settings)(simple_batch([1] * 4, **changes), beta=beta)


def test_algorithm_2_has_no_optimum_under_a_forward_kl() -> None:
    """Its KL is in the rewards, where a forward one cannot be."""
    even, rewards = torch.full((2,), 0.5).double().log(), torch.tensor([1.0, 0]).double()
    for algorithm, kl, is_known in ((1, "forward", True), (2, "forward", False), (2, "reverse", True)):
        mara = MARA(threshold=0.5, algorithm=algorithm)  # pyright: ignore[reportArgumentType]
        assert (mara.optimum(even, rewards, beta=0.1, kl=kl) is not None) == is_known  # pyright: ignore
