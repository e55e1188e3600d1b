"""Unlikeliness rewards on batches that a trainer could have gathered."""

import pytest
import torch

from allmodes.errors import InputError
from allmodes.methods import Unlikeliness
from allmodes.objectives import unlikeliness_rewards
from method_cases import same, simple_batch


def test_unlikeliness_ranks_by_the_mean_token() -> None:
    lengths = torch.tensor([1, 2, 4, 8])
    samples = simple_batch([1, 1, 1, 1], lengths=lengths)
    result = Unlikeliness(0.5)(samples, beta=0.0)
    mean = samples.logprobs / lengths if samples.logprobs is not None else torch.empty(0)
    assert same(result.rewards, unlikeliness_rewards(samples.rewards, mean, strength=0.5))
    assert result.rewards.argmax() == 0


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(InputError, match=r"`strength` must be at least 0 and at most 1; got 1\.5"):
        Unlikeliness(1.5)
    with pytest.raises(InputError, match="`rewards` must not be negative"):
        Unlikeliness(0.5)(simple_batch([-1.0] * 4), beta=0.1)
