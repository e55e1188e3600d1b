"""Hits and oracle burden against going through the calls one by one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.errors import InputError
from allmodes.metrics import count_hits, oracle_burden, top_k_auc, top_mean

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


@settings(deadline=None, max_examples=150)
@given(values=REWARDS, k=st.integers(1, 12), every=st.integers(1, 9), rest=st.integers(0, 20))
def test_area_under_the_best_k_call_by_call(values: list[float], k: int, every: int, rest: int) -> None:
    """A polygon through the top-k mean after every few calls, summed call by call as its height at each."""
    if not values and not rest:
        return
    budget = len(values) + rest

    def mean_of_best(calls: int) -> float:
        best = sorted((value for value in values[:calls] if not math.isnan(value)), reverse=True)[:k]
        return sum(best) / len(best) if best else 0.0

    nodes = [0, *(call for call in range(every, len(values), every)), len(values), budget]
    heights = [0.0, *map(mean_of_best, nodes[1:])]
    area = sum(
        (heights[i] + (heights[i + 1] - heights[i]) * (step + 0.5) / (nodes[i + 1] - nodes[i]))
        for i in range(len(nodes) - 1)
        for step in range(nodes[i + 1] - nodes[i])
    )
    rewards = torch.tensor(values, dtype=torch.float64)
    assert top_k_auc(rewards, k=k, budget=budget, every=every) == pytest.approx(area / budget)
    if any(not math.isnan(value) for value in values):
        assert top_mean(rewards, k=k) == pytest.approx(mean_of_best(len(values)))
    else:
        assert math.isnan(top_mean(rewards, k=k))


def test_area_of_runs_by_hand() -> None:
    """1 from the first call on: the ramp of the first 100 calls costs half of them. Later is worse."""
    ones = torch.ones(1000, dtype=torch.float64)
    assert top_k_auc(ones, k=1, budget=1000) == pytest.approx(0.95)
    late = torch.cat([torch.zeros(500), torch.ones(500)]).double()
    assert top_k_auc(late, k=1, budget=1000) == pytest.approx((50 + 400) / 1000)
    assert top_k_auc(ones[:100], k=10, budget=1000) == pytest.approx((50 + 900) / 1000)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"every": 0}, {"budget": 0}, {"budget": 2}])
def test_areas_refuse_what_has_no_meaning(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        top_k_auc(torch.ones(3), **{"k": 1, "budget": 5, **wrong})
    with pytest.raises(InputError):
        top_mean(torch.ones(3), k=0)
