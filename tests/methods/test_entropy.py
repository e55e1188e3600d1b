"""The entropy bonus on batches that a trainer could have gathered."""

import pytest
import torch

from allmodes.errors import InputError
from allmodes.methods import EntropyBonus
from method_cases import same, simple_batch

NAN = float("nan")


def test_the_entropy_bonus_by_hand() -> None:
    """log π is −2, −2.5, −3, −3.5: not over the three tokens, and not of the reference."""
    result = EntropyBonus(0.5)(simple_batch([1, 0, NAN, 0.5]), beta=0.1)
    assert same(result.rewards, torch.tensor([2, 1.25, NAN, 2.25]))
    assert result.rewards.dtype == torch.float32
    assert result.metrics == pytest.approx(
        {"sequence_entropy": 2.75, "bonus_mean": (1 + 1.25 + 1.75) / 3, "bonus_max": 1.75}
    )


def test_an_empty_response_gets_no_entropy_bonus() -> None:
    logprobs = torch.tensor([0.0, -1, -2, -3]).double()
    samples = simple_batch([1, 1, 1, 1], lengths=torch.tensor([0, 3, 3, 3]), logprobs=logprobs)
    assert same(EntropyBonus(0.1)(samples, beta=0.0).rewards, torch.tensor([1, 1.1, 1.2, 1.3]))


def test_a_batch_that_cannot_be_scored_has_no_bonus_to_log() -> None:
    result = EntropyBonus(0.1)(simple_batch([NAN] * 4), beta=0.0)
    assert result.rewards.isnan().all()
    assert result.metrics["bonus_max"] != result.metrics["bonus_max"]


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(InputError, match=r"`entropy` must be at least 0; got -0\.1"):
        EntropyBonus(-0.1)
    with pytest.raises(InputError, match="`logprobs` of the batch is needed"):
        EntropyBonus(0.1)(simple_batch([1] * 4, logprobs=None), beta=0.1)
