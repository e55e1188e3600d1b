"""Hits and oracle burden against going through the calls one by one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.errors import InputError
from allmodes.metrics import count_hits, oracle_burden

REWARDS = st.lists(st.sampled_from([0.0, 0.5, 0.8, 1.0, math.nan]), max_size=30)


@settings(deadline=None, max_examples=150)
@given(values=REWARDS, threshold=st.sampled_from([0.5, 0.8, 0.9]), hits=st.integers(1, 6))
def test_going_through_the_calls(values: list[float], threshold: float, hits: int) -> None:
    rewards = torch.tensor(values, dtype=torch.float64)
    found, burden = 0, None
    for call, reward in enumerate(values, start=1):
        found += reward >= threshold
        if found == hits and burden is None:
            burden = call
    assert count_hits(rewards, threshold=threshold) == found
    assert oracle_burden(rewards, threshold=threshold, hits=hits) == burden


def test_a_run_by_hand() -> None:
    """A reward at the threshold is a hit, also in float32; a failed evaluation is none."""
    rewards = torch.tensor([0.1, 0.85, math.nan, 0.8, 0.9, 0.79])
    assert count_hits(rewards, threshold=0.8) == 3
    assert [oracle_burden(rewards, threshold=0.8, hits=hits) for hits in (1, 2, 3, 4)] == [2, 4, 5, None]


def test_no_calls() -> None:
    empty = torch.empty(0)
    assert count_hits(empty, threshold=0.8) == 0
    assert oracle_burden(empty, threshold=0.8, hits=1) is None


def test_errors() -> None:
    for hits in (0, -1):
        with pytest.raises(InputError, match=f"`hits` must be at least 1; got {hits}"):
            oracle_burden(torch.ones(3), threshold=0.8, hits=hits)
    with pytest.raises(InputError, match=r"`rewards` must have shape \(N,\)"):
        count_hits(torch.ones(2, 2), threshold=0.8)
    with pytest.raises(InputError, match=r"`rewards` must have shape \(N,\)"):
        oracle_burden(torch.ones(2, 2), threshold=0.8, hits=1)
    with pytest.raises(InputError, match="`rewards` must be floating point"):
        count_hits(torch.ones(2, dtype=torch.long), threshold=0.8)
