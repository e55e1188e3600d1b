"""Studies of molecular design: tasks × algorithms × σ × seeds, each run measured at every screen.

    from dataclasses import replace
    from allmodes.paper.study import study
    from allmodes.paper.study_settings import PAPER

    settings = replace(PAPER, tasks=("SYNTH",), sigmas=(128.0,), seeds=(0, 1))
    result = study(settings, Path("runs/table2-work"))

Each run has a folder of its own, named by task, algorithm, σ and seed, with its configuration, its ledger and
its screens.json. A call resumes where a killed one stopped, and runs that studies have in common are done
once. All runs of a folder share one store, so that no molecule is docked or searched for routes twice.
Source: MARA, section 6.3, appendix C.5, Tables 2, 6 and 7; IPS, section 5.3, appendix B.2, Table 3.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

from allmodes.chem.design.design import check_design, read_result
from allmodes.chem.design.grid import Cell, run_cells
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.design.results import RunResult, find_hits, result_of
from allmodes.chem.oracles.components import SurrogateComponent
from allmodes.chem.surrogate import SurrogateCard, load_surrogate, shipped_surrogate
from allmodes.metrics import Summary, summarise, welch_test
from allmodes.paper.study_settings import Arm, Settings, run_config
from allmodes.runs.seals import read_sealed_json, seal_json

METRICS = ("hits", "ob100", "intdiv1", "circles")  # of a RunResult
_FEWER_IS_BETTER = ("ob100",)


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: the runs of an arm at one screen, in the order of the seeds."""

    task: str
    screen: float
    sigma: float
    arm: str
    runs: tuple[RunResult, ...]

    def seeds(self, metric: str) -> tuple[float | None, ...]:
        """Each seed's value; None if it is undefined."""
        return tuple(getattr(run, metric) for run in self.runs)

    def defined(self, metric: str) -> list[float]:
        """The values of the seeds that have one."""
        return [value for value in self.seeds(metric) if value is not None]

    def summary(self, metric: str) -> Summary | None:
        """Mean and standard deviation over the seeds that have a value; None if no seed has."""
        values = self.defined(metric)
        return summarise(values) if values else None

    def p_better(self, other: "Row", metric: str) -> float:
        """One-sided p-value of Welch's test that this row is not better than another.

        NaN with fewer than two seeds, where neither varies and the means are equal, and where any seed of
        either has no value: leaving out such seeds would favour the row that has more of them.
        """
        ours, theirs = self.defined(metric), other.defined(metric)
        if len(ours) < len(self.runs) or len(theirs) < len(other.runs):
            return math.nan
        return welch_test(theirs, ours) if metric in _FEWER_IS_BETTER else welch_test(ours, theirs)


@final
@dataclass(frozen=True, kw_only=True)
class Study:
    """A finished study. surrogate: the card of the regression that stands in for docking, if one does."""

    settings: Settings
    rows: tuple[Row, ...]
    surrogate: SurrogateCard | None

    def row(self, task: str, *, screen: float, sigma: float, arm: Arm) -> Row:
        """The row of an arm."""
        key = (task, screen, sigma, arm.name)
        return next(row for row in self.rows if (row.task, row.screen, row.sigma, row.arm) == key)

    def reference(self, row: Row) -> Row:
        """The row of the first arm at the same task, screen and σ, which is what a row is compared with."""
        return self.row(row.task, screen=row.screen, sigma=row.sigma, arm=self.settings.arms[0])


def study(settings: Settings, folder: Path, *, advance: Callable[[int], None] = lambda done: None) -> Study:
    """Do the runs that are missing in `folder`, and read all of them.

    advance: called with 1 after each training step. Raises ConfigError before anything is written when a
    task's reward cannot be computed or the prior is missing; RunError if `folder` holds a run of other
    settings or other input files, or is in use.
    """
    cells = _cells(settings, folder.absolute())
    missing = [cell for cell in cells if not _is_measured(settings, cell)]
    for task in dict.fromkeys(cell.task for cell in missing):
        first = next(cell for cell in missing if cell.task == task)
        oracle = first.run.config.oracle.model_copy(update={"store": None})  # nothing is written before
        check_design(first.run.config.model_copy(update={"oracle": oracle}))
    run_cells(
        folder,
        [cell.run for cell in cells],
        [cell.run for cell in missing],
        finish=partial(_measure, settings.screens),
        workers=settings.workers,
        show=lambda *_: advance(1),
    )
    rows = tuple(_rows(settings, cells))
    return Study(settings=settings, rows=rows, surrogate=_surrogate_card(cells[0]))


@final
@dataclass(frozen=True)
class _Cell:
    """One run, and its place in the study."""

    task: str
    arm: Arm
    sigma: float
    run: Cell


def _cells(settings: Settings, folder: Path) -> list[_Cell]:
    """All runs, seed by seed, so that an interrupted study has complete seeds."""
    return [
        _Cell(task, arm, sigma, _cell(settings, folder, task=task, arm=arm, sigma=sigma, seed=seed))
        for seed in settings.seeds
        for task in settings.tasks
        for sigma in settings.sigmas
        for arm in settings.arms
        if arm.sigmas is None or sigma in arm.sigmas
    ]


def _cell(settings: Settings, folder: Path, *, task: str, arm: Arm, sigma: float, seed: int) -> Cell:
    store = str(folder / "evaluations.sqlite")
    config = run_config(settings, task=task, arm=arm, sigma=sigma, seed=seed, store=store)
    return Cell(folder / _slug(f"{task} {arm.name} sigma {sigma:g} seed {seed}"), config)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower().replace("τ", "tau"))


def _measure(screens: Sequence[float], cell: Cell) -> Path:
    """Write the figures at each screen, all from the same ledger."""
    finished = read_result(cell.job.path / "result.json")
    ledger = read_ledger(cell.job.path / "ledger.sqlite", calls=finished.calls)
    found = _measured(cell)
    for screen in screens:
        if _key(screen) not in found:
            hits = find_hits(ledger, hit_threshold=screen, circle_distance=cell.config.circle_distance)
            found[_key(screen)] = result_of(
                ledger,
                hits,
                algorithm=finished.algorithm,
                seed=finished.seed,
                stopped_by=finished.stopped_by,
                steps=finished.steps,
                collapsed_at_step=finished.collapsed_at_step,
                hit_threshold=screen,
            ).as_json()
    path = _screens_path(cell)
    seal_json(path, found)
    return path


def _screens_path(cell: Cell) -> Path:
    """A run's figures, by screen."""
    return cell.path / "screens.json"


def _key(screen: float) -> str:
    return f"{screen:g}"


def _measured(cell: Cell) -> dict[str, Any]:
    path = _screens_path(cell)
    return read_sealed_json(path) if path.exists() else {}


def _is_measured(settings: Settings, cell: _Cell) -> bool:
    return {_key(screen) for screen in settings.screens} <= set(_measured(cell.run))


def _rows(settings: Settings, cells: list[_Cell]) -> list[Row]:
    runs: dict[tuple[str, float, Arm], list[dict[str, Any]]] = {}
    for cell in cells:
        runs.setdefault((cell.task, cell.sigma, cell.arm), []).append(_measured(cell.run))
    return [
        Row(
            task=task,
            screen=screen,
            sigma=sigma,
            arm=arm.name,
            runs=tuple(RunResult(**run[_key(screen)]) for run in measured),
        )
        for screen in settings.screens
        for (task, sigma, arm), measured in runs.items()
    ]


def _surrogate_card(cell: _Cell) -> SurrogateCard | None:
    for component in cell.run.config.oracle.components:
        if isinstance(component, SurrogateComponent):
            return load_surrogate(component.model or shipped_surrogate())[1]
    return None
