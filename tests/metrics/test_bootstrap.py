"""The bootstrap's standard error against its closed form and against all resamples of few values."""

import itertools
import math
import statistics

import pytest
import torch

from allmodes.errors import InputError
from allmodes.metrics import bootstrap_sem

VALUES = [0.3, 1.7, -2.0, 0.9, 4.4, 0.0, 0.1]


def closed_form(values: list[float]) -> float:
    """Standard deviation of the mean of n draws with replacement."""
    return statistics.pstdev(values) / math.sqrt(len(values))


def test_the_closed_form_is_that_of_all_resamples() -> None:
    """27 resamples of three values, each as likely."""
    values = [0.0, 1.0, 5.0]
    means = [statistics.fmean(resample) for resample in itertools.product(values, repeat=3)]
    assert statistics.pstdev(means) == pytest.approx(closed_form(values), rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_closed_form_within_sampling_error(seed: int) -> None:
    """Relative error 1/√(2B) = .5% for nearly normal means: 5 of these, false alarms below 1e-5 in all."""
    resamples = 20_000
    tolerance = 5 / math.sqrt(2 * resamples)
    actual = bootstrap_sem(VALUES, resamples=resamples, seed=seed)
    assert actual == pytest.approx(closed_form(VALUES), rel=tolerance)


def test_seeds() -> None:
    once = bootstrap_sem(VALUES, resamples=500, seed=3)
    assert once == bootstrap_sem(VALUES, resamples=500, seed=3)
    spread = [bootstrap_sem(VALUES, resamples=500, seed=seed) for seed in range(40)]
    assert len(set(spread)) == 40
    # 1/√(2 · 500) = 3.2% of itself; the spread of 40 of them is within a factor 2 but for 1e-7
    relative = statistics.stdev(spread) / closed_form(VALUES)
    assert 0.5 < relative * math.sqrt(2 * 500) < 2


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    bootstrap_sem(VALUES)
    assert torch.equal(torch.rand(3), expected)


def test_many_values_are_drawn_in_blocks() -> None:
    """262,144 indices a block: 300 resamples of 50,000 values take sixty, each with draws of its own."""
    values = torch.linspace(-1, 1, 50_000, dtype=torch.float64)
    actual = bootstrap_sem(values.tolist(), resamples=300, seed=1)
    expected = float(values.std(correction=0)) / math.sqrt(50_000)
    assert actual == pytest.approx(expected, rel=5 / math.sqrt(600))


def test_shift_and_scale() -> None:
    plain = bootstrap_sem(VALUES, seed=5)
    moved = bootstrap_sem([1e3 + 10 * value for value in VALUES], seed=5)
    assert moved == pytest.approx(10 * plain, rel=1e-9)


def test_values_without_spread_and_too_few() -> None:
    assert bootstrap_sem([2.5] * 9) == pytest.approx(0, abs=1e-15)
    assert math.isnan(bootstrap_sem([1.0]))
    assert math.isnan(bootstrap_sem([]))


def test_wrong_input() -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError, match="`values` must be finite"):
            bootstrap_sem([1.0, bad])
    for resamples in (1, 0):
        with pytest.raises(InputError, match="`resamples` must be at least 2"):
            bootstrap_sem(VALUES, resamples=resamples)
