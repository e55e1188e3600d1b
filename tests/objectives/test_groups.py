"""Statistics per group against numpy, one group at a time."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from allmodes.errors import InputError
from allmodes.objectives.groups import (
    Groups,
    group_argmax,
    group_max,
    group_mean,
    group_min,
    group_quantile,
    group_size,
    group_std,
    group_sum,
    make_groups,
    outcome_frequency,
)

PROPERTY = settings(deadline=None, max_examples=150)
GROUP_IDS = {
    "dense": st.integers(0, 4),
    "negative": st.integers(-3, 1),
    "far apart": st.sampled_from([-(2**62), 0, 10**6, 2**62]),
}
NUMBERS = st.floats(-5, 5) | st.sampled_from([0.0, 1.0])
NUMBERS_OR_NAN = NUMBERS | st.just(math.nan)


def spread(statistic: Tensor, groups: Groups) -> np.ndarray:
    return statistic[groups.index].numpy()


def draw_batch(data: st.DataObject, ids: str, numbers: st.SearchStrategy[float]) -> tuple[Tensor, np.ndarray]:
    """Group ids (N,) and values (N,)."""
    pairs = data.draw(st.lists(st.tuples(GROUP_IDS[ids], numbers), max_size=20))
    group_ids = torch.tensor([group for group, _ in pairs], dtype=torch.long)
    return group_ids, np.array([value for _, value in pairs], dtype=np.float64)


def by_group(statistic: Callable[[np.ndarray], float], ids: Tensor, values: np.ndarray) -> np.ndarray:
    """The statistic of each sample's group, (N,), one group at a time."""
    names = ids.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy warns where all are NaN
        return np.array([statistic(values[names == name]) for name in names], dtype=np.float64)


def std_without_nan(values: np.ndarray) -> float:
    scored = values[~np.isnan(values)]
    return float(np.std(scored, ddof=1)) if len(scored) > 1 else 0.0


@pytest.mark.parametrize("ids", GROUP_IDS)
@PROPERTY
@given(data=st.data())
def test_groups_are_the_samples_that_share_an_id(ids: str, data: st.DataObject) -> None:
    group_ids, values = draw_batch(data, ids, NUMBERS)
    groups = make_groups(group_ids, torch.from_numpy(values))
    assert groups.index.dtype == torch.long
    assert torch.equal(
        groups.index[:, None] == groups.index[None, :], group_ids[:, None] == group_ids[None, :]
    )
    if len(values):
        assert int(groups.index.min()) >= 0
        assert int(groups.index.max()) < groups.count <= 2 * len(values)
    assert int(group_size(groups).sum()) == len(values)


@pytest.mark.parametrize("ids", GROUP_IDS)
@PROPERTY
@given(data=st.data())
def test_sum_size_max_and_min(ids: str, data: st.DataObject) -> None:
    group_ids, values = draw_batch(data, ids, NUMBERS)
    tensor = torch.from_numpy(values)
    groups = make_groups(group_ids, tensor)
    for ours, theirs in ((group_sum, np.sum), (group_max, np.max), (group_min, np.min)):
        expected = by_group(lambda v, f=theirs: float(f(v)), group_ids, values)
        np.testing.assert_allclose(spread(ours(tensor, groups), groups), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(spread(group_size(groups), groups), by_group(len, group_ids, values))
    positive = by_group(lambda v: int((v > 0).sum()), group_ids, values)
    np.testing.assert_array_equal(spread(group_size(groups, tensor > 0), groups), positive)


@pytest.mark.parametrize("ids", GROUP_IDS)
@PROPERTY
@given(data=st.data(), q=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1))
def test_mean_std_and_quantile_leave_nan_out(ids: str, data: st.DataObject, q: float) -> None:
    group_ids, values = draw_batch(data, ids, NUMBERS_OR_NAN)
    tensor = torch.from_numpy(values)
    groups = make_groups(group_ids, tensor)
    for ours, theirs in (
        (group_mean(tensor, groups), lambda v: float(np.nanmean(v))),
        (group_std(tensor, groups), std_without_nan),
        (group_quantile(tensor, groups, q=q), lambda v: float(np.nanquantile(v, q))),
    ):
        expected = by_group(theirs, group_ids, values)
        np.testing.assert_allclose(spread(ours, groups), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ids", GROUP_IDS)
@PROPERTY
@given(data=st.data())
def test_argmax_breaks_ties_by_the_second_key_then_by_the_lowest_index(ids: str, data: st.DataObject) -> None:
    tied = st.sampled_from([-math.inf, 0.0, 1.0])
    samples = data.draw(st.lists(st.tuples(GROUP_IDS[ids], tied, tied, st.booleans()), max_size=20))
    group_ids = torch.tensor([group for group, *_ in samples], dtype=torch.long)
    # under a false mask a value may be anything
    values = torch.tensor([v if m else math.nan for _, v, _, m in samples], dtype=torch.float64)
    tie_break = torch.tensor([t for _, _, t, _ in samples], dtype=torch.float64)
    mask = torch.tensor([m for *_, m in samples], dtype=torch.bool)
    groups = make_groups(group_ids, values)
    winner = group_argmax(values, groups, tie_break=tie_break, mask=mask)
    assert winner.shape == (groups.count,)
    for (group, *_), got in zip(samples, winner[groups.index].tolist(), strict=True):
        members = [i for i, (other, _, _, m) in enumerate(samples) if m and other == group]
        expected = max(members, key=lambda i: (samples[i][1], samples[i][2], -i), default=-1)
        assert got == expected


def test_empty_groups() -> None:
    """Groups 1 and 2 of 4 have no sample."""
    values = torch.tensor([1.0, 3.0, 5.0, 7.0, 9.0], dtype=torch.float64)
    groups = Groups(index=torch.tensor([0, 3, 0, 3, 3]), count=4)
    assert group_sum(values, groups).tolist() == [6, 0, 0, 19]
    assert group_size(groups).tolist() == [2, 0, 0, 3]
    assert group_max(values, groups).tolist() == [5, -math.inf, -math.inf, 9]
    assert group_min(values, groups).tolist() == [1, math.inf, math.inf, 3]
    everything = torch.ones(5, dtype=torch.bool)
    assert group_argmax(values, groups, tie_break=values, mask=everything).tolist() == [2, -1, -1, 4]
    assert group_std(values, groups)[[1, 2]].tolist() == [0, 0]
    nan = torch.full((2,), math.nan, dtype=torch.float64)
    for statistic in (group_mean(values, groups), group_quantile(values, groups, q=0.5)):
        torch.testing.assert_close(statistic[[1, 2]], nan, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_integer_type_names_groups(dtype: torch.dtype) -> None:
    values = torch.tensor([1.0, 2.0, 4.0])
    for ids in ([1, 0, 1], [200, 3, 200]):  # dense and not
        groups = make_groups(torch.tensor(ids, dtype=dtype), values)
        assert group_sum(values, groups)[groups.index].tolist() == [5, 2, 5]


def test_no_ids_is_one_group() -> None:
    values = torch.tensor([3.0, 1.0])
    groups = make_groups(None, values)
    assert (groups.count, groups.index.tolist()) == (1, [0, 0])
    assert group_mean(values, groups).tolist() == [2]


@pytest.mark.parametrize("ids", [None, torch.empty(0, dtype=torch.long)])
def test_no_samples(ids: Tensor | None) -> None:
    empty = torch.empty(0)
    groups = make_groups(ids, empty)
    mask = torch.empty(0, dtype=torch.bool)
    for statistic in (
        group_sum(empty, groups),
        group_size(groups),
        group_max(empty, groups),
        group_min(empty, groups),
        group_argmax(empty, groups, tie_break=empty, mask=mask),
        group_mean(empty, groups),
        group_std(empty, groups),
        group_quantile(empty, groups, q=0.5),
    ):
        assert statistic.shape == (groups.count,)
    assert outcome_frequency(torch.empty(0, dtype=torch.long), groups).shape == (0,)


def test_frequencies_are_of_the_own_group() -> None:
    """Outcome −5 is in both groups, and counts apart in each."""
    outcomes = torch.tensor([-5, -5, 10**12, -5, 3])
    groups = make_groups(torch.tensor([0, 0, 0, 1, 1]), torch.ones(5))
    frequency = outcome_frequency(outcomes, groups)
    assert frequency.dtype == torch.float64
    assert frequency.tolist() == [2 / 3, 2 / 3, 1 / 3, 1 / 2, 1 / 2]


def test_float32_stays_float32() -> None:
    values = torch.tensor([1.0, 2.0, 4.0])
    groups = make_groups(None, values)
    for statistic in (group_sum, group_max, group_min, group_mean, group_std):
        assert statistic(values, groups).dtype == torch.float32
    assert group_quantile(values, groups, q=0.3).dtype == torch.float32


def test_ids_that_are_no_integers_are_refused() -> None:
    values = torch.ones(3)
    with pytest.raises(InputError, match=r"`group_ids` must hold integers; got torch\.float32"):
        make_groups(values, values)
    with pytest.raises(InputError, match=r"`group_ids` must hold integers; got torch\.bool"):
        make_groups(values > 0, values)
    with pytest.raises(InputError, match=r"`group_ids` must have shape \(3,\)"):
        make_groups(torch.zeros(3, 1, dtype=torch.long), values)
