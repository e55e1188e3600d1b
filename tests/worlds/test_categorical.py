"""The categorical world: what is drawn, with which probabilities, and how the edges behave.

A statistical test here has a fixed seed and a false-alarm rate of 1e-6 under a fresh one.
"""

import math

import pytest
import torch
from scipy.stats import chisquare
from torch import Generator, Tensor

from allmodes.errors import InputError
from allmodes.worlds.categorical import Categorical, draw, draw_heights
from tensors import close
from world_steps import constant_uniform

FALSE_ALARM = 1e-6


def seeded(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def fits(counts: Tensor, probabilities: Tensor) -> bool:
    """Pearson's chi-square test of counts against probabilities above 0, (K,)."""
    expected = probabilities.double() / probabilities.double().sum() * counts.sum()
    assert float(expected.min()) > 5, "too few samples for the chi-square distribution to hold"
    return chisquare(counts.numpy(), expected.numpy()).pvalue > FALSE_ALARM


def largest_below_one(dtype: torch.dtype) -> float:
    """The largest number that torch.rand can return."""
    return 1 - 2.0 ** -{torch.float32: 24, torch.float64: 53}[dtype]


def small_world(dtype: torch.dtype = torch.float64) -> Categorical:
    ref_logprobs = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=dtype).log()
    return Categorical(ref_logprobs, torch.tensor([0.1, 1.0, -0.4, 0.7], dtype=dtype))


# draw


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frequencies_of_what_is_drawn_are_the_probabilities_of_each_row(dtype: torch.dtype) -> None:
    probabilities = torch.tensor(
        [[0.1, 0.2, 0.3, 0.4], [0.97, 0.01, 0.01, 0.01], [0.25, 0.25, 0.25, 0.25]], dtype=dtype
    )
    drawn = draw(probabilities, 20_000, seeded(0))
    assert drawn.shape == (3, 20_000)
    for row, expected in zip(drawn, probabilities, strict=True):
        assert fits(torch.bincount(row, minlength=4), expected)


def test_a_wrong_distribution_would_be_noticed() -> None:
    """The power of the test above: probabilities off by 3 points in 20,000 draws do not pass."""
    drawn = draw(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), 20_000, seeded(0))
    counts = torch.bincount(drawn[0], minlength=4)
    assert not fits(counts, torch.tensor([0.13, 0.17, 0.3, 0.4]))
    assert not fits(counts, torch.tensor([0.4, 0.3, 0.2, 0.1]))


def test_successive_draws_are_independent() -> None:
    """All 9 pairs of one draw and the next, with replacement."""
    probabilities = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    drawn = draw(probabilities, 40_000, seeded(1))[0].view(-1, 2)
    pairs = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9)
    assert fits(pairs, (probabilities[0].unsqueeze(1) * probabilities[0]).flatten())


def test_rows_are_drawn_independently_of_each_other() -> None:
    probabilities = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    first, second = draw(probabilities.expand(2, -1), 20_000, seeded(2))
    pairs = torch.bincount(3 * first + second, minlength=9)
    assert fits(pairs, (probabilities.unsqueeze(1) * probabilities).flatten())


def test_an_outcome_of_probability_zero_is_never_drawn() -> None:
    """At the first place, at the last, in between, several on end; and alone the others fit."""
    probabilities = torch.tensor([0.0, 0.0, 0.3, 0.0, 0.6, 0.1, 0.0, 0.0])
    drawn = draw(probabilities.expand(50, -1), 2_000, seeded(3))
    counts = torch.bincount(drawn.flatten(), minlength=8)
    possible = probabilities > 0
    assert int(counts[~possible].sum()) == 0
    assert fits(counts[possible], probabilities[possible])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("total", [1.0, 0.7, 3.0, 1e-3])
def test_the_lowest_and_the_highest_height_draw_the_first_and_the_last_possible_outcome(
    dtype: torch.dtype, total: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Totals other than 1 stand for what rounding leaves of a sum of probabilities."""
    probabilities = total * torch.tensor([0.0, 0.25, 0.5, 0.25, 0.0], dtype=dtype)
    constant_uniform(monkeypatch, 0.0)
    assert draw(probabilities.unsqueeze(0), 3, seeded(0)).tolist() == [[1, 1, 1]]
    constant_uniform(monkeypatch, largest_below_one(dtype))
    assert draw(probabilities.unsqueeze(0), 3, seeded(0)).tolist() == [[3, 3, 3]]


def test_a_height_on_the_border_of_two_outcomes_belongs_to_the_upper_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each outcome has the half-open interval [lower, upper), so that the chances are exact."""
    probabilities = torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64)
    for height, outcome in ((0.25, 1), (math.nextafter(0.25, 0), 0), (0.75, 2), (math.nextafter(0.75, 0), 1)):
        constant_uniform(monkeypatch, height)
        assert draw(probabilities, 1, seeded(0)).tolist() == [[outcome]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("excess", [False, True])
def test_heights_stay_below_the_total_even_where_the_product_does_not(
    dtype: torch.dtype, excess: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A product that rounds up to the total would draw an outcome that is not there."""
    uniform = 1.0 if excess else largest_below_one(dtype)
    constant_uniform(monkeypatch, uniform)
    totals = torch.linspace(0.5, 2, 1001, dtype=dtype).unsqueeze(1)
    heights = draw_heights(totals, 2, seeded(0))
    assert heights.shape == (1001, 2)
    assert heights.dtype == dtype
    assert bool((heights < totals).all())
    assert bool((heights >= totals * (1 - 4 * torch.finfo(dtype).eps)).all())
    assert draw(torch.tensor([[0.5, 0.5, 0.0]], dtype=dtype), 1, seeded(0)).tolist() == [[1]]


def test_heights_are_uniform_below_their_totals() -> None:
    heights = draw_heights(torch.tensor([[0.5], [4.0]], dtype=torch.float64), 20_000, seeded(4))
    for row, total in zip(heights, (0.5, 4.0), strict=True):
        tenths = (row / total * 10).long()
        assert fits(torch.bincount(tenths, minlength=10), torch.full((10,), 0.1))


def test_draws_depend_on_the_generator_alone() -> None:
    probabilities = torch.tensor([[0.2, 0.3, 0.5]])
    first = draw(probabilities, 100, seeded(5))
    torch.manual_seed(99)
    assert torch.equal(first, draw(probabilities, 100, seeded(5)))
    assert not torch.equal(first, draw(probabilities, 100, seeded(6)))
    state = torch.get_rng_state()
    draw(probabilities, 100, seeded(5))
    assert torch.equal(state, torch.get_rng_state())


# The world


def test_a_rollout_samples_the_policy_of_each_setting() -> None:
    world = small_world()
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.5], [2.0, -1.0, 0.0, 0.0]], dtype=torch.float64)
    rollout = world.rollout(logits, batch_size=20_000, generator=seeded(7))
    assert rollout.outcomes.shape == (2, 20_000)
    for drawn, row in zip(rollout.outcomes, logits, strict=True):
        assert fits(torch.bincount(drawn, minlength=4), row.softmax(0))


def test_a_rollout_tells_the_log_probabilities_of_what_it_drew() -> None:
    world = small_world()
    logits = torch.randn(3, 4, generator=seeded(8), dtype=torch.float64).requires_grad_()
    rollout = world.rollout(logits, batch_size=50, generator=seeded(9))
    for setting in range(3):
        for sample in range(50):
            outcome = int(rollout.outcomes[setting, sample])
            exact = logits[setting, outcome] - logits[setting].exp().sum().log()
            close(rollout.logprobs[setting, sample], exact)
            assert float(rollout.ref_logprobs[setting, sample]) == pytest.approx(
                math.log([0.5, 0.3, 0.15, 0.05][outcome]), abs=1e-6
            )
    assert rollout.lengths.tolist() == [[1] * 50] * 3
    assert not rollout.ref_logprobs.requires_grad


def test_the_gradient_of_a_rollout_is_that_of_its_own_setting() -> None:
    """∇ log p(y) = e_y − p."""
    world = small_world()
    logits = torch.randn(2, 4, generator=seeded(10), dtype=torch.float64).requires_grad_()
    rollout = world.rollout(logits, batch_size=7, generator=seeded(11))
    weights = torch.randn(2, 7, generator=seeded(12), dtype=torch.float64)
    gradient = torch.autograd.grad((weights * rollout.logprobs).sum(), logits)[0]
    one_hot = torch.nn.functional.one_hot(rollout.outcomes, 4).double()
    score = one_hot - logits.detach().softmax(-1).unsqueeze(1)
    close(gradient, (weights.unsqueeze(-1) * score).sum(1))


def test_the_distribution_over_outcomes_is_the_policy_with_its_gradient() -> None:
    world = small_world()
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    logprobs = world.outcome_logprobs(logits)
    close(logprobs, logits - logits.exp().sum().log())
    gradient = torch.autograd.grad(logprobs[0, 2], logits)[0]
    close(gradient, torch.tensor([[0.0, 0.0, 1.0, 0.0]], dtype=torch.float64) - logits.detach().softmax(-1))


def test_what_the_world_knows() -> None:
    world = small_world(torch.float32)
    assert world.ref_outcome_logprobs.dtype == torch.float64
    close(world.ref_outcome_logprobs.exp(), torch.tensor([0.5, 0.3, 0.15, 0.05]).double(), 1e-7)
    close(world.rewards, torch.tensor([0.1, 1.0, -0.4, 0.7]))
    close(world.log_path_shares, torch.full((4,), -math.log(4), dtype=torch.float64))


def test_training_starts_from_logits_of_zero() -> None:
    """Each setting with its own copy."""
    logits = small_world().initial_logits(3)
    assert torch.equal(logits, torch.zeros(3, 4))
    logits[0, 0] = 1
    assert torch.equal(logits[1:], torch.zeros(2, 4))


def test_training_starts_where_it_is_told() -> None:
    start = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    reference = torch.full((4,), 0.25).log()
    world = Categorical(reference, torch.zeros(4), start=start)
    logits = world.initial_logits(2)
    close(world.outcome_logprobs(logits), start.expand(2, -1), 1e-6)
    logits[0, 0] = 1
    close(world.initial_logits(1)[0], start, 1e-6)
    close(world.ref_outcome_logprobs, reference.double(), 1e-6)
    assert float(world.ref_outcome_logprobs.exp().sum()) == pytest.approx(1, abs=1e-15)


def test_bad_input_is_refused() -> None:
    half = torch.tensor([0.5, 0.5]).log()
    with pytest.raises(InputError, match=r"`rewards` must have shape \(2,\)"):
        Categorical(half, torch.zeros(3))
    with pytest.raises(InputError, match="`ref_logprobs` must be log-probabilities that sum to 1"):
        Categorical(torch.tensor([0.5, 0.4]).log(), torch.zeros(2))
    with pytest.raises(InputError, match="`ref_logprobs` must be finite"):
        Categorical(torch.tensor([1.0, 0.0]).log(), torch.zeros(2))
    for value in (math.nan, math.inf):
        with pytest.raises(InputError, match="`rewards` must be finite"):
            Categorical(half, torch.tensor([0.0, value]))
    with pytest.raises(InputError, match=r"`start` must have shape \(2,\)"):
        Categorical(half, torch.zeros(2), start=torch.zeros(3))


def test_a_start_that_is_not_finite_is_refused() -> None:
    """As documented: values that are not finite are refused. A NaN here would make every policy NaN."""
    half = torch.tensor([0.5, 0.5]).log()
    with pytest.raises(InputError, match="`start`"):
        Categorical(half, torch.zeros(2), start=torch.tensor([0.0, math.nan]))
