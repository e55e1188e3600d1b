"""Grids with upward steps: the hyper-grid of the GFlowNet literature, and two outcomes with unequal paths."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Generator, Tensor

from allmodes.errors import InputError
from allmodes.worlds.categorical import draw_heights
from allmodes.worlds.world import Rollout

Cell = tuple[int, ...]


@final
class GridWorld:
    """A tabular policy on grid cells; each step increases one coordinate, or ends the walk.

    cells: in which the policy acts, the start first, then in order of the sum of coordinates. step: the cell
    or outcome that an action leads to, None if it is not allowed. outcomes: cells at which walks end, with
    their rewards. The reference policy chooses among the allowed actions of a cell with equal probability,
    and training starts there.
    """

    samples_per_prompt = None

    def __init__(
        self,
        cells: Sequence[Cell],
        outcomes: dict[Cell, float],
        actions: int,
        step: Callable[[Cell, int], "Goal"],
    ) -> None:
        self.cells, self.outcomes = tuple(cells), tuple(outcomes)
        self.rewards = torch.tensor(list(outcomes.values()), dtype=torch.float64)
        number = {cell: index for index, cell in enumerate(self.cells)}
        ends = {cell: len(self.cells) + index for index, cell in enumerate(self.outcomes)}
        table = torch.full((len(self.cells), actions), -1, dtype=torch.long)
        for cell, action in itertools.product(self.cells, range(actions)):
            goal = step(cell, action)
            if goal is not None:
                where, is_outcome = goal
                table[number[cell], action] = ends[where] if is_outcome else number[where]
        self._next = table
        self._allowed = table >= 0
        heights = torch.tensor([sum(cell) for cell in self.cells])
        self._levels = [(heights == height).nonzero().squeeze(1) for height in heights.unique()]
        count = self._allowed.sum(-1, keepdim=True)
        uniform = torch.where(self._allowed, -count.double().log(), -torch.inf)
        self._ref_table = uniform.to(torch.get_default_dtype())
        self.ref_outcome_logprobs = self._flow(uniform.exp().unsqueeze(0)).squeeze(0).log()
        paths = self._flow(self._allowed.double().unsqueeze(0)).squeeze(0)
        self.path_counts = paths
        self.log_path_shares = paths.log() - paths.sum().log()

    def initial_logits(self, settings: int) -> Tensor:
        """(S, cells, actions), zero."""
        return torch.zeros(settings, *self._next.shape)

    def action_logprobs(self, logits: Tensor) -> Tensor:
        """Log-probabilities of the actions in each cell, (S, cells, actions); −inf where not allowed."""
        return torch.log_softmax(logits.masked_fill(~self._allowed, -torch.inf), -1)

    def rollout(self, logits: Tensor, *, batch_size: int, generator: Generator) -> Rollout:
        """B walks for each setting, in parallel, one step at a time."""
        settings, (cells, actions) = len(logits), self._next.shape
        logprobs = self.action_logprobs(logits)
        rows = torch.arange(settings).unsqueeze(1)
        with torch.no_grad():
            cumulative = logprobs.exp().cumsum(-1)
            at = torch.zeros(settings, batch_size, dtype=torch.long)
            taken, walking = [], []
            for _ in self._levels:
                inside = at < cells
                cell = torch.where(inside, at, 0)
                heights = cumulative[rows, cell]
                action = (draw_heights(heights[..., -1:], 1, generator) >= heights).sum(-1)
                taken.append(cell * actions + action)
                walking.append(inside)
                at = torch.where(inside, self._next[cell, action], at)
            choice, alive = torch.stack(taken, -1), torch.stack(walking, -1)
        flat = logprobs.flatten(1).gather(1, choice.flatten(1)).view(choice.shape)
        return Rollout(
            outcomes=at - cells,
            rewards=self.rewards.to(logits.dtype)[at - cells],
            logprobs=torch.where(alive, flat, 0).sum(-1),
            ref_logprobs=torch.where(alive, self._ref_table.flatten()[choice], 0).sum(-1),
            lengths=alive.sum(-1),
        )

    def outcome_logprobs(self, logits: Tensor) -> Tensor:
        """Exact distribution over outcomes by dynamic programming, (S, outcomes)."""
        return self._flow(self.action_logprobs(logits).exp()).log()

    def _flow(self, weights: Tensor) -> Tensor:
        """Total weight of the paths to each outcome, (S, outcomes), for weights (S, cells, actions)."""
        cells = len(self.cells)
        mass = weights.new_zeros(len(weights), cells + len(self.outcomes))
        mass = mass.index_fill(1, torch.tensor([0]), 1.0)
        for level in self._levels:
            allowed = self._allowed[level]
            moved = (mass[:, level].unsqueeze(-1) * weights[:, level])[:, allowed]
            mass = mass.index_add(1, self._next[level][allowed], moved)
        return mass[:, cells:]


Goal = tuple[Cell, bool] | None


def hyper_grid(dimensions: int, side: int, *, background: float) -> GridWorld:
    """Hyper-grid of H^d cells: +1 on a coordinate, or stop and take the cell's reward.

    R(x) = R0 + 0.5 Π 1[|x/(H−1) − ½| > ¼] + 2 Π 1[0.3 < |x/(H−1) − ½| < 0.4]

    computed in integers, because floats misplace cells. background: R0, above 0. Raises InputError for fewer
    than one dimension, a side below 2, or R0 ≤ 0. Source: IPS, equation 10; Bengio et al. 2021.
    """
    if dimensions < 1 or side < 2:
        raise InputError(f"a hyper-grid has `dimensions` >= 1 and `side` >= 2; got {dimensions} and {side}")
    if not (math.isfinite(background) and background > 0):
        raise InputError(f"`background` must be a finite number above 0; got {background}")
    cells = sorted(itertools.product(range(side), repeat=dimensions), key=sum)

    def step(cell: Cell, action: int) -> Goal:
        if action == dimensions:
            return cell, True
        if cell[action] == side - 1:
            return None
        return _raised(cell, action), False

    rewards = {cell: hyper_grid_reward(cell, side, background=background) for cell in cells}
    return GridWorld(cells, rewards, dimensions + 1, step)


def hyper_grid_reward(cell: Cell, side: int, *, background: float) -> float:
    """R(x) of `hyper_grid`; integers decide on which side of a boundary a cell lies."""
    width = side - 1
    off_centre = [abs(2 * x - width) for x in cell]
    in_ring = all(2 * distance > width for distance in off_centre)
    in_mode = all(3 * width < 5 * distance < 4 * width for distance in off_centre)
    return background + 0.5 * in_ring + 2.0 * in_mode


def two_paths() -> GridWorld:
    """Steps +x or +y from (0, 0) until x + y = 7; reward 1 at A = (4, 3), 35 paths, and B = (6, 1), 7 paths.

    Source: IPS, section 6.
    """
    length = 7
    cells = sorted(((x, y) for x in range(length) for y in range(length - x)), key=sum)
    ends = {(x, length - x): float((x, length - x) in ((4, 3), (6, 1))) for x in range(length + 1)}

    def step(cell: Cell, action: int) -> Goal:
        moved = _raised(cell, action)
        return moved, sum(moved) == length

    return GridWorld(cells, ends, 2, step)


def _raised(cell: Cell, coordinate: int) -> Cell:
    return tuple(x + (i == coordinate) for i, x in enumerate(cell))


def mode_cells(world: GridWorld) -> Tensor:
    """Which outcomes have the highest reward, (K,) of booleans."""
    return world.rewards == world.rewards.max()
