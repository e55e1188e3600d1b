"""Grids: cells and rewards in exact arithmetic, distributions and walks against all trajectories.

`Walks` enumerates every trajectory from the rules of a grid alone: of GridWorld it uses only the order of the
cells. A statistical test here has a fixed seed and a false-alarm rate of 1e-6 under a fresh one.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from scipy.stats import chisquare
from torch import Generator, Tensor

from allmodes.errors import InputError
from allmodes.worlds.grid import GridWorld, hyper_grid, hyper_grid_reward, mode_cells, two_paths
from tensors import close
from world_steps import constant_uniform

Cell = tuple[int, ...]
Moves = Callable[[Cell], list[tuple[int, Cell, bool]]]  # action, where it leads, whether that is an outcome
FALSE_ALARM = 1e-6


def seeded(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def raised(cell: Cell, coordinate: int) -> Cell:
    return (*cell[:coordinate], cell[coordinate] + 1, *cell[coordinate + 1 :])


def hyper_grid_moves(dimensions: int, side: int) -> Moves:
    def moves(cell: Cell) -> list[tuple[int, Cell, bool]]:
        upwards = [(d, raised(cell, d), False) for d in range(dimensions) if cell[d] + 1 < side]
        return [*upwards, (dimensions, cell, True)]

    return moves


def two_path_moves(cell: Cell) -> list[tuple[int, Cell, bool]]:
    return [(d, raised(cell, d), sum(cell) == 6) for d in (0, 1)]


@dataclass(frozen=True)
class Walks:
    """All T trajectories of a grid.

    taken: (T, cells · actions), how often an action is taken. outcomes, lengths: (T,).
    """

    world: GridWorld
    moves: Moves
    taken: Tensor
    outcomes: Tensor
    lengths: Tensor

    def action_logprobs(self, logits: Tensor) -> Tensor:
        """(S, cells, actions), 0 where an action is not allowed: there nobody goes."""
        allowed = torch.zeros(logits.shape[1:], dtype=torch.bool)
        for index, cell in enumerate(self.world.cells):
            for action, _, _ in self.moves(cell):
                allowed[index, action] = True
        log_total = (logits.exp() * allowed).sum(-1, keepdim=True).log()
        return torch.where(allowed, logits - log_total, 0)

    def logprobs(self, logits: Tensor) -> Tensor:
        """Log-probability of each trajectory, (S, T), with gradient."""
        return self.action_logprobs(logits).flatten(1) @ self.taken.T

    def outcome_logprobs(self, logits: Tensor) -> Tensor:
        """Log of the sum of the probabilities of all trajectories to each outcome, (S, K)."""
        probabilities = self.logprobs(logits).exp()
        ends = torch.nn.functional.one_hot(self.outcomes, len(self.world.outcomes)).double()
        return (probabilities @ ends).log()


def enumerate_walks(world: GridWorld, moves: Moves) -> Walks:
    number = {cell: index for index, cell in enumerate(world.cells)}
    end = {cell: index for index, cell in enumerate(world.outcomes)}
    actions = max(action for cell in world.cells for action, _, _ in moves(cell)) + 1

    def walk(cell: Cell, path: list[int]) -> Iterator[tuple[list[int], Cell]]:
        for action, goal, is_end in moves(cell):
            longer = [*path, number[cell] * actions + action]
            if is_end:
                yield longer, goal
            else:
                yield from walk(goal, longer)

    walks = list(walk((0,) * len(world.cells[0]), []))
    taken = torch.zeros(len(walks), len(world.cells) * actions, dtype=torch.float64)
    for index, (path, _) in enumerate(walks):
        taken[index, path] = 1
    return Walks(
        world=world,
        moves=moves,
        taken=taken,
        outcomes=torch.tensor([end[goal] for _, goal in walks]),
        lengths=torch.tensor([len(path) for path, _ in walks]),
    )


SMALL = {
    "1 x 6": (lambda: hyper_grid(1, 6, background=0.1), hyper_grid_moves(1, 6), 6),
    "4 x 4": (lambda: hyper_grid(2, 4, background=0.1), hyper_grid_moves(2, 4), math.comb(8, 4) - 1),
    "2^4": (lambda: hyper_grid(4, 2, background=0.1), hyper_grid_moves(4, 2), 1 + 4 + 12 + 24 + 24),
    "two paths": (two_paths, two_path_moves, 2**7),
}


@pytest.fixture(params=SMALL, scope="module")
def walks(request: pytest.FixtureRequest) -> Walks:
    make, moves, count = SMALL[request.param]
    found = enumerate_walks(make(), moves)
    assert len(found.taken) == count
    return found


def random_logits(walks: Walks, settings: int, seed: int) -> Tensor:
    """Policies far from uniform, (S, cells, actions); where an action is not allowed the logit is large."""
    shape = (settings, *walks.world.initial_logits(1).shape[1:])
    logits = torch.randn(shape, generator=seeded(seed), dtype=torch.float64)
    for index, cell in enumerate(walks.world.cells):
        illegal = set(range(shape[-1])) - {action for action, _, _ in walks.moves(cell)}
        logits[:, index, list(illegal)] = 30.0
    return logits


def fits(counts: Tensor, probabilities: Tensor) -> bool:
    """Pearson's chi-square test, (K,); what is expected fewer than 5 times is one class."""
    expected = probabilities * counts.sum()
    rare = expected < 5
    assert float(probabilities[rare].sum()) < 0.05, "too few samples for the chi-square distribution to hold"
    counts, expected = counts.double(), expected / expected.sum() * counts.sum()
    if float(expected[rare].sum()) >= 5:
        counts = torch.cat([counts[~rare], counts[rare].sum().unsqueeze(0)])
        expected = torch.cat([expected[~rare], expected[rare].sum().unsqueeze(0)])
    else:
        assert float(counts[rare].sum()) < 40  # a Poisson of mean 5 reaches that with a chance below 1e-20
        counts, expected = counts[~rare], expected[~rare]
        expected = expected / expected.sum() * counts.sum()
    return chisquare(counts.numpy(), expected.numpy()).pvalue > FALSE_ALARM


# The hyper-grid's rewards


@pytest.mark.parametrize(
    ("dimensions", "side", "modes", "cells", "totals", "shares"),
    [
        (2, 8, {1, 6}, 64, (22.4, 16.64, 16.064), (0.464, 0.603, 0.623)),
        (2, 16, {2, 13}, 256, (65.6, 42.56, 40.256), (0.159, 0.236, 0.249)),
        (4, 8, {1, 6}, 4096, (569.6, 200.96, 164.096), (0.073, 0.200, 0.244)),
    ],
)
def test_cells_modes_and_total_reward_are_those_of_the_table(
    dimensions: int,
    side: int,
    modes: set[int],
    cells: int,
    totals: tuple[float, ...],
    shares: tuple[float, ...],
) -> None:
    for background, total, share in zip((0.1, 0.01, 0.001), totals, shares, strict=True):
        world = hyper_grid(dimensions, side, background=background)
        assert len(world.outcomes) == len(world.cells) == cells
        assert world.rewards.shape == (cells,)
        is_mode = mode_cells(world)
        found = {cell for cell, mode in zip(world.outcomes, is_mode.tolist(), strict=True) if mode}
        assert found == set(itertools.product(modes, repeat=dimensions))
        assert float(world.rewards.sum()) == pytest.approx(total, abs=1e-9)
        assert float(world.rewards[is_mode].sum()) / total == pytest.approx(share, abs=5.1e-4)


def test_at_side_20_the_16_mode_cells_lie_in_4_regions() -> None:
    world = hyper_grid(2, 20, background=0.1)
    modes = {world.outcomes[index] for index in mode_cells(world).nonzero().squeeze(1).tolist()}
    assert len(modes) == 16
    regions = 0
    while modes:
        regions += 1
        border = [modes.pop()]
        while border:
            x, y = border.pop()
            near = {(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)} & modes
            modes -= near
            border.extend(near)
    assert regions == 4


def exact_reward(cell: Cell, side: int, background: Fraction) -> Fraction:
    """R0 + ½ Π 1[|x/(H−1) − ½| > ¼] + 2 Π 1[.3 < |x/(H−1) − ½| < .4] as it is written, in rationals."""
    off_centre = [abs(Fraction(x, side - 1) - Fraction(1, 2)) for x in cell]
    ring = math.prod(int(distance > Fraction(1, 4)) for distance in off_centre)
    band = math.prod(int(Fraction(3, 10) < distance < Fraction(4, 10)) for distance in off_centre)
    return background + Fraction(1, 2) * ring + 2 * band


@pytest.mark.parametrize("side", range(2, 25))
def test_rewards_are_the_formula_in_exact_arithmetic(side: int) -> None:
    for dimensions, background in ((1, 0.1), (2, 0.001)):
        for cell in itertools.product(range(side), repeat=dimensions):
            exact = exact_reward(cell, side, Fraction(background))
            assert hyper_grid_reward(cell, side, background=background) == pytest.approx(
                float(exact), rel=1e-15
            )


@pytest.mark.parametrize(("dimensions", "side"), [(1, 11), (2, 9), (3, 6)])
def test_each_outcome_of_the_world_has_the_reward_of_its_cell(dimensions: int, side: int) -> None:
    world = hyper_grid(dimensions, side, background=0.01)
    assert set(world.outcomes) == set(world.cells) == set(itertools.product(range(side), repeat=dimensions))
    assert world.rewards.tolist() == [
        pytest.approx(float(exact_reward(cell, side, Fraction(1, 100)))) for cell in world.outcomes
    ]


def test_the_test_of_the_rewards_has_cells_on_the_borders_where_floats_go_wrong() -> None:
    """Integers are there for a reason: the formula in floats misplaces some of the cells that are tested."""

    def in_floats(x: int, side: int) -> float:
        off_centre = abs(x / (side - 1) - 0.5)
        return 0.1 + 0.5 * (off_centre > 0.25) + 2.0 * (0.3 < off_centre < 0.4)

    misplaced = [
        (x, side)
        for side in range(2, 25)
        for x in range(side)
        if abs(in_floats(x, side) - float(exact_reward((x,), side, Fraction(1, 10)))) > 1e-9
    ]
    assert any(side == 16 for _, side in misplaced)


def test_bad_grids_are_refused() -> None:
    for dimensions, side in ((0, 8), (-1, 8), (2, 1), (2, 0)):
        with pytest.raises(InputError, match="`dimensions` >= 1 and `side` >= 2"):
            hyper_grid(dimensions, side, background=0.1)
    for background in (0.0, -0.1, math.nan, math.inf):
        with pytest.raises(InputError, match="`background` must be a finite number above 0"):
            hyper_grid(2, 8, background=background)


# Paths


@pytest.mark.parametrize(("dimensions", "side"), [(1, 7), (2, 6), (3, 4), (4, 3)])
def test_path_counts_of_the_hyper_grid_are_multinomial_coefficients(dimensions: int, side: int) -> None:
    world = hyper_grid(dimensions, side, background=0.1)
    expected = [
        math.factorial(sum(cell)) // math.prod(math.factorial(x) for x in cell) for cell in world.outcomes
    ]
    assert world.path_counts.tolist() == expected
    shares = torch.tensor(expected, dtype=torch.float64) / sum(expected)
    close(world.log_path_shares.exp(), shares)
    assert world.log_path_shares.dtype == torch.float64


def test_two_paths_ends_in_seven_steps_with_35_and_7_ways_to_the_rewarded_outcomes() -> None:
    world = two_paths()
    assert set(world.outcomes) == {(x, 7 - x) for x in range(8)}
    assert set(world.cells) == {(x, y) for x in range(7) for y in range(7) if x + y < 7}
    paths = dict(zip(world.outcomes, world.path_counts.tolist(), strict=True))
    assert paths == {(x, 7 - x): math.comb(7, x) for x in range(8)}
    assert paths[4, 3] == 35
    assert paths[6, 1] == 7
    rewards = dict(zip(world.outcomes, world.rewards.tolist(), strict=True))
    assert rewards == {cell: float(cell in {(4, 3), (6, 1)}) for cell in world.outcomes}
    # Two allowed actions everywhere: the uniform policy is uniform over paths.
    close(world.ref_outcome_logprobs, world.log_path_shares)
    rollout = world.rollout(world.initial_logits(2), batch_size=50, generator=seeded(0))
    assert bool((rollout.lengths == 7).all())


def test_paths_and_the_reference_policy_are_those_of_all_trajectories(walks: Walks) -> None:
    world = walks.world
    assert world.cells[0] == (0,) * len(world.cells[0])
    assert [sum(cell) for cell in world.cells] == sorted(sum(cell) for cell in world.cells)
    counted = torch.bincount(walks.outcomes, minlength=len(world.outcomes))
    assert world.path_counts.tolist() == counted.tolist()
    close(world.log_path_shares.exp(), counted.double() / len(walks.outcomes))
    uniform = torch.zeros_like(world.initial_logits(1), dtype=torch.float64)
    close(world.ref_outcome_logprobs, walks.outcome_logprobs(uniform)[0])
    assert world.ref_outcome_logprobs.dtype == torch.float64


def test_training_starts_at_the_reference(walks: Walks) -> None:
    world = walks.world
    logits = world.initial_logits(2)
    assert torch.equal(logits, torch.zeros(2, len(world.cells), logits.shape[-1]))
    close(world.outcome_logprobs(logits.double()), world.ref_outcome_logprobs.expand(2, -1))


# The distribution over outcomes


@pytest.mark.parametrize("seed", [0, 1])
def test_the_distribution_over_outcomes_is_that_of_all_trajectories(walks: Walks, seed: int) -> None:
    logits = random_logits(walks, 3, seed)
    exact = walks.world.outcome_logprobs(logits)
    assert exact.shape == (3, len(walks.world.outcomes))
    close(exact, walks.outcome_logprobs(logits))
    close(exact.exp().sum(-1), torch.ones(3, dtype=torch.float64))


def test_the_gradient_of_the_distribution_is_that_of_all_trajectories(walks: Walks) -> None:
    logits = random_logits(walks, 2, 3).requires_grad_()
    weights = torch.randn(2, len(walks.world.outcomes), generator=seeded(4), dtype=torch.float64)
    exact = torch.autograd.grad((weights * walks.world.outcome_logprobs(logits)).sum(), logits)[0]
    expected = torch.autograd.grad((weights * walks.outcome_logprobs(logits)).sum(), logits)[0]
    close(exact, expected, 1e-11)
    assert float(expected.abs().max()) > 0.01


def test_actions_that_are_not_allowed_have_no_probability_and_no_gradient(walks: Walks) -> None:
    world = walks.world
    logits = random_logits(walks, 2, 5).requires_grad_()
    probabilities = world.action_logprobs(logits).exp()
    close(probabilities.sum(-1), torch.ones(probabilities.shape[:-1], dtype=torch.float64))
    gradient = torch.autograd.grad(world.outcome_logprobs(logits).sum(), logits)[0]
    for index, cell in enumerate(world.cells):
        allowed = {action for action, _, _ in walks.moves(cell)}
        for action in range(logits.shape[-1]):
            here = probabilities[:, index, action]
            assert bool((here > 0).all()) == bool((here != 0).any()) == (action in allowed)
            if action not in allowed:
                assert not bool(gradient[:, index, action].any())
    assert bool(gradient.isfinite().all())


# Walks


def test_rollouts_are_walks_with_the_frequencies_and_log_probabilities_of_all_trajectories(
    walks: Walks,
) -> None:
    """Every trajectory has its own probability, so that a sample's log-probability tells which one it is."""
    logits = random_logits(walks, 2, 6).requires_grad_()
    exact = walks.logprobs(logits).detach()
    reference = walks.logprobs(torch.zeros_like(logits).detach())[0]
    rollout = walks.world.rollout(logits, batch_size=40_000, generator=seeded(7))
    for setting in range(2):
        by_size = exact[setting].sort()
        assert float(by_size.values.diff().min()) > 1e-6, "two trajectories look alike"
        middles = (by_size.values[1:] + by_size.values[:-1]) / 2
        which = by_size.indices[torch.searchsorted(middles, rollout.logprobs[setting].detach())]
        close(rollout.logprobs[setting].detach(), exact[setting][which], 1e-10)
        assert torch.equal(rollout.outcomes[setting], walks.outcomes[which])
        assert torch.equal(rollout.lengths[setting], walks.lengths[which])
        close(rollout.ref_logprobs[setting].double(), reference[which], 1e-5)
        assert fits(torch.bincount(which, minlength=len(exact[setting])), exact[setting].exp())
        ends = torch.bincount(rollout.outcomes[setting], minlength=len(walks.world.outcomes))
        assert fits(ends, walks.world.outcome_logprobs(logits)[setting].detach().exp())
    assert not rollout.ref_logprobs.requires_grad


def test_a_wrong_policy_would_be_noticed(walks: Walks) -> None:
    """The power of the test above: the walks of one policy do not pass as those of another."""
    logits = random_logits(walks, 2, 6)
    rollout = walks.world.rollout(logits, batch_size=40_000, generator=seeded(7))
    ends = torch.bincount(rollout.outcomes[0], minlength=len(walks.world.outcomes))
    other = walks.world.outcome_logprobs(0.9 * logits[:1] + 0.1 * logits[1:])[0].exp()
    assert not fits(ends, other)


def test_the_gradient_of_a_rollout_is_that_of_its_trajectories(walks: Walks) -> None:
    logits = random_logits(walks, 2, 8).requires_grad_()
    rollout = walks.world.rollout(logits, batch_size=9, generator=seeded(9))
    weights = torch.randn(2, 9, generator=seeded(10), dtype=torch.float64)
    gradient = torch.autograd.grad((weights * rollout.logprobs).sum(), logits)[0]
    exact = walks.logprobs(logits)
    which = (exact.detach().unsqueeze(1) - rollout.logprobs.detach().unsqueeze(2)).abs().argmin(-1)
    expected = torch.autograd.grad((weights * exact.gather(1, which)).sum(), logits)[0]
    close(gradient, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_the_lowest_and_the_highest_height_take_the_first_and_the_last_allowed_action(
    dtype: torch.dtype, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lowest: all the way up one coordinate after the other, then stop. Highest: stop at once."""
    world = hyper_grid(3, 4, background=0.1)
    shape = (2, *world.initial_logits(1).shape[1:])
    logits = torch.randn(shape, generator=seeded(seed), dtype=dtype)
    constant_uniform(monkeypatch, 0.0)
    lowest = world.rollout(logits, batch_size=2, generator=seeded(0))
    assert [world.outcomes[index] for index in lowest.outcomes.flatten().tolist()] == [(3, 3, 3)] * 4
    assert lowest.lengths.tolist() == [[10, 10]] * 2
    constant_uniform(monkeypatch, 1 - 2.0**-24 if dtype == torch.float32 else 1 - 2.0**-53)
    highest = world.rollout(logits, batch_size=2, generator=seeded(0))
    assert [world.outcomes[index] for index in highest.outcomes.flatten().tolist()] == [(0, 0, 0)] * 4
    assert highest.lengths.tolist() == [[1, 1]] * 2
    assert bool(lowest.logprobs.isfinite().all())
    assert bool(highest.logprobs.isfinite().all())


def test_an_allowed_action_without_probability_left_is_not_taken_by_the_highest_height(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = two_paths()
    logits = torch.zeros_like(world.initial_logits(1))
    logits[..., 1] = -200.0  # e^−200 is 0 in float32: the last action has no width
    constant_uniform(monkeypatch, 1 - 2.0**-24)
    rollout = world.rollout(logits, batch_size=1, generator=seeded(0))
    assert world.outcomes[int(rollout.outcomes)] == (7, 0)
    assert float(rollout.logprobs) == 0


def test_walks_depend_on_the_generator_alone(walks: Walks) -> None:
    logits = random_logits(walks, 2, 11)
    first = walks.world.rollout(logits, batch_size=30, generator=seeded(12))
    torch.manual_seed(0)
    again = walks.world.rollout(logits, batch_size=30, generator=seeded(12))
    other = walks.world.rollout(logits, batch_size=30, generator=seeded(13))
    assert torch.equal(first.logprobs, again.logprobs)
    assert not torch.equal(first.logprobs, other.logprobs)
    assert not torch.equal(first.logprobs[0], first.logprobs[1])
