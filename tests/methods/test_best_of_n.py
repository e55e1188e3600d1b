"""Best of n on batches that a trainer could have gathered."""

import pytest
import torch

from allmodes.errors import InputError
from allmodes.methods import BestOfN
from allmodes.objectives import best_of_n_rewards
from method_cases import same, simple_batch

NAN = float("nan")


@pytest.mark.parametrize(("k", "times"), [(1, 1), (2, 2), (None, 4)])
def test_best_of_n_is_k_times_what_is_added_to_the_maximum(k: int | None, times: int) -> None:
    samples = simple_batch([1, 0, 0.5, 0.25, 0, 0, 1, 1])
    result = BestOfN(k)(samples, beta=0.0)
    added = best_of_n_rewards(samples.rewards, k=k, group_ids=samples.group_ids)
    assert same(result.rewards, times * added)


def test_best_of_n_leaves_out_the_unscorable_and_skips_what_is_left_too_small() -> None:
    result = BestOfN(3)(simple_batch([1, NAN, 0.5, 0.25, NAN, NAN, 1, 0]), beta=0.0)
    of_three = 3 * best_of_n_rewards(torch.tensor([1, 0.5, 0.25]), k=3)
    assert same(result.rewards, torch.tensor([of_three[0], NAN, *of_three[1:], NAN, NAN, 0, 0]))
    assert result.metrics["groups_too_small"] == 0.5


def test_no_samples_have_no_best() -> None:
    with pytest.raises(InputError, match="`k` must be a whole number at least 1; got 0"):
        BestOfN(0)
