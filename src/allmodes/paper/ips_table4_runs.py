"""The runs of IPS's Table 4: HypoSpace with group sizes and clippings of IPS-GRPO, and with GRPO."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

from allmodes.metrics import summarise
from allmodes.paper import hypospace_runs, text_runs
from allmodes.paper.reproduction import Progress, Scale
from allmodes.text.base_statistics import BaseStatistics
from allmodes.text.config import TextConfig
from allmodes.text.reporting.results import TextResult

Cell = tuple[int, float | None]  # group size and p_min; None is GRPO


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """Group sizes, values of p_min, and responses per step, which are the same for all cells."""

    groups: tuple[int, ...]
    clips: tuple[float, ...]
    batch: int

    def cells(self) -> list[Cell]:
        """Every group size with every p_min, and with GRPO."""
        return list(itertools.product(self.groups, (*self.clips, None)))


_GRIDS = {
    "quick": Grid(groups=(4, 16, 64), clips=(0.0, 0.1, 0.5), batch=64),
    "real": Grid(groups=(4, 8, 16), clips=(0.0, 0.1, 0.5), batch=16),
    "paper": Grid(groups=(4, 8, 16, 32, 64), clips=(0.0, 0.05, 0.1, 0.2, 0.5), batch=64),
}
_SMALLEST = Grid(groups=(4, 8), clips=(0.0, 0.5), batch=8)  # in tests alone


@final
@dataclass(frozen=True, kw_only=True)
class Runs:
    """The runs of all cells.

    results: of each seed, by cell. rewards: mean reward of each step, of each seed, by cell. before: the base
    model's statistics before a warm start.
    """

    grid: Grid
    config: TextConfig
    base: TextResult
    before: BaseStatistics | None
    results: Mapping[Cell, Sequence[TextResult]]
    rewards: Mapping[Cell, Sequence[Sequence[float]]]

    def mean(self, cell: Cell, metric: str = "recovery_rate") -> float:
        """The mean over seeds of the mean over prompts."""
        return summarise([result.metrics[metric] for result in self.results[cell]]).mean

    def error(self, cell: Cell) -> float:
        """Bootstrap standard error over prompts of the mean recovery, with seeds taken as independent."""
        errors = [result.errors["recovery_rate"] for result in self.results[cell]]
        return math.sqrt(math.fsum(error**2 for error in errors)) / len(errors)

    def unsteadiness(self, cell: Cell) -> float:
        """Standard deviation of a step's mean reward over the second half of training, mean over seeds."""
        halves = [rewards[len(rewards) // 2 :] for rewards in self.rewards[cell]]
        return summarise([_deviation(half) for half in halves]).mean


def _deviation(values: Sequence[float]) -> float:
    return summarise(values).std if len(values) > 1 else 0.0


def grid_of(scale: Scale) -> Grid:
    """The cells of a scale."""
    return _SMALLEST if scale.steps < 1 else _GRIDS[scale.kind]


def domain_of(scale: Scale) -> str:
    """The domain of HypoSpace: the paper's at paper scale, else the one with the shortest answers."""
    return "causal" if scale.kind == "paper" else "boolean"


def configuration(scale: Scale, cell: Cell) -> TextConfig:
    """The configuration of a cell: that of Table 2 except for the group size and the method."""
    group, clip = cell
    own: dict[str, Any] = {"method": "vanilla"} if clip is None else {
        "method": "ips", "methods": {"ips": {"min_probability": clip}}
    }  # fmt: skip
    return hypospace_runs.configuration(
        scale, domain_of(scale), trainer="grpo", flowrl={}, group_size=group,
        prompts_per_step=grid_of(scale).batch // group, **own,
    )  # fmt: skip


def representative(cell: Cell) -> Cell:
    """The cell with the same training: p_min ≤ 1/G changes nothing, since no frequency is below 1/G."""
    group, clip = cell
    return (group, 0.0) if clip is not None and clip <= 1 / group else cell


def run(scale: Scale, progress: Progress, *, item: str) -> Runs:
    """Train every cell, or reuse the runs of other items. Raises as `text_runs.run` does."""
    grid = grid_of(scale)
    cells = list(dict.fromkeys(map(representative, grid.cells())))
    configs = {cell: configuration(scale, cell) for cell in cells}
    subject = hypospace_runs.subject(domain_of(scale))
    runs = text_runs.run(subject, list(configs.values()), scale, progress, item=item)
    done = iter(runs.done)  # in the order of the cells
    results: dict[Cell, list[TextResult]] = {}
    rewards: dict[Cell, list[list[float]]] = {}
    for cell, config in configs.items():
        own = list(itertools.islice(done, len(config.seeds)))
        results[cell] = [cast("TextResult", one.result) for one in own]
        rewards[cell] = [[row["reward"] for row in one.rows() if row["reward"] is not None] for one in own]
    same = {cell: representative(cell) for cell in grid.cells()}
    return Runs(
        grid=grid, config=configs[cells[0]], base=runs.base, before=runs.before,
        results={cell: results[one] for cell, one in same.items()},
        rewards={cell: rewards[one] for cell, one in same.items()},
    )  # fmt: skip


def name_of(cell: Cell) -> str:
    """The cell's name in files and among the numbers."""
    group, clip = cell
    return f"groups-of-{group}-" + ("grpo" if clip is None else f"p-min-{clip:g}")
