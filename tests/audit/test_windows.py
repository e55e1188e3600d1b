"""Diversity over training, against the metrics of single groups, and change points against all partitions."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allmodes.audit.windows import change_points, error_of_mean, group_figures, windows
from allmodes.metrics import answer_entropy, bootstrap_sem
from allmodes.objectives.groups import Groups


@pytest.mark.parametrize("seed", range(5))
def test_every_groups_figures_are_those_of_its_own_samples(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(0, 6, (60,), generator=generator)
    step_of = torch.tensor([3, 1, 1, 2, 9, 0])  # group 6 has no sample
    outcomes = torch.randint(-1, 3, (60,), generator=generator)
    outcomes[index == 5] = -1
    responses = torch.randint(-5, 5, (60,), generator=generator)
    rewards = torch.rand(60, generator=generator, dtype=torch.float64)
    rewards[::7] = torch.nan
    found = group_figures(
        Groups(index=index, count=7), step_of[index], outcomes=outcomes, responses=responses, rewards=rewards
    )
    assert found.steps.tolist() == [0, 1, 1, 2, 3, 9]
    for place, group in enumerate([5, 1, 2, 3, 0, 4]):
        own = index == group
        answers = [None if o < 0 else o for o in outcomes[own].tolist()]
        expected = answer_entropy(answers)
        assert float(found.entropy[place]) == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert float(found.distinct[place]) == pytest.approx(len(set(answers) - {None}) / len(answers))
        texts = responses[own].tolist()
        assert float(found.repeated[place]) == pytest.approx(1 - len(set(texts)) / len(texts))
        scored = [reward for reward in rewards[own].tolist() if not math.isnan(reward)]
        assert float(found.reward[place]) == pytest.approx(sum(scored) / len(scored))


def test_without_responses_nothing_is_repeated() -> None:
    one = Groups(index=torch.zeros(3, dtype=torch.long), count=1)
    outcomes = torch.tensor([1, 1, 2])
    found = group_figures(
        one, torch.zeros(3, dtype=torch.long), outcomes=outcomes, responses=None, rewards=torch.ones(3)
    )
    assert found.repeated.isnan().all()
    assert float(found.distinct[0]) == pytest.approx(2 / 3)


def test_windows_have_whole_steps() -> None:
    steps = torch.tensor([1, 1, 2, 3, 3, 3, 8, 8])
    values = torch.tensor([1.0, 2.0, 5.0, math.nan, 4.0, 6.0, 7.0, 7.0], dtype=torch.float64)
    found = windows(steps, values)
    assert [(w.first_step, w.last_step, w.mean) for w in found] == [
        (1, 1, 1.5),
        (2, 2, 5),
        (3, 3, 5),
        (8, 8, 7),
    ]
    assert found[0].error == pytest.approx(0.5 / math.sqrt(2), rel=0.2)
    assert math.isnan(found[1].error)


def test_windows_of_single_groups_are_joined_in_pairs() -> None:
    found = windows(torch.arange(6), torch.arange(6, dtype=torch.float64))
    assert [(w.first_step, w.last_step, w.mean) for w in found] == [(0, 1, 0.5), (2, 3, 2.5), (4, 5, 4.5)]


def test_at_most_twenty_windows_of_all_steps() -> None:
    steps = torch.arange(1000).repeat_interleave(3)
    found = windows(steps, torch.ones(3000, dtype=torch.float64))
    assert len(found) == 20
    assert (found[0].first_step, found[-1].last_step) == (0, 999)
    assert sum(len(w.values) for w in found) == 3000


def test_the_error_of_a_mean_is_that_of_many_resamples() -> None:
    values = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # The spread of 20,000 means is known to one in 200.
    assert error_of_mean(values) == pytest.approx(bootstrap_sem(values.tolist(), resamples=20_000), rel=0.03)
    assert error_of_mean(torch.ones(9)) == 0
    assert math.isnan(error_of_mean(torch.ones(1)))


def test_a_window_without_a_value() -> None:
    found = windows(torch.tensor([1, 2]), torch.tensor([math.nan, 1.0], dtype=torch.float64))
    assert math.isnan(found[0].mean)
    assert found[1].mean == 1


def score(values: list[float], changes: tuple[int, ...]) -> float:
    """n log(RSS/n) + 5k log n, from the definition."""
    n = len(values)
    rss = 0.0
    for start, end in itertools.pairwise((0, *changes, n)):
        part = values[start:end]
        mean = math.fsum(part) / len(part)
        rss += math.fsum((value - mean) ** 2 for value in part)
    return n * math.log(rss / n) + 5 * len(changes) * math.log(n)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1, 1).filter(lambda v: abs(v) > 1e-3), min_size=4, max_size=10, unique=True),
    jump=st.floats(-3, 3),
    at=st.integers(1, 9),
)
def test_changes_are_the_best_of_all_partitions(values: list[float], jump: float, at: int) -> None:
    values = [value + (jump if i >= at else 0.0) + 0.01 * math.sin(37 * i) for i, value in enumerate(values)]
    n = len(values)
    most = min(3, n // 2 - 1)
    options = [c for k in range(most + 1) for c in itertools.combinations(range(1, n), k)]
    scores = {changes: score(values, changes) for changes in options}
    found = tuple(change_points(values))
    assert scores[found] == pytest.approx(min(scores.values()), abs=1e-6)


def test_a_step_is_found_and_noise_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = (0.05 * torch.randn(40, generator=generator)).tolist()
    level = [0.69 if i < 25 else 0.1 for i in range(40)]
    assert change_points([a + b for a, b in zip(level, noise, strict=True)]) == [25]
    assert change_points(level) == [25]
    # Of series of noise the criterion calls 0.5 % changed: more than 8 of 400 have a chance below 0.001.
    series = (torch.randn(20, generator=generator).tolist() for _ in range(400))
    assert sum(bool(change_points(values)) for values in series) <= 8


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0], [2.0] * 10])
def test_series_without_a_change(values: list[float]) -> None:
    assert change_points(values) == []
