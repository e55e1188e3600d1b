"""Run benchmarks: all tasks × methods × seeds, each run in its own folder, measured and compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

from allmodes.chem.benchmarks.measures import Figures, measure
from allmodes.chem.benchmarks.tasks import Task, find_task, tasks_of
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.design import check_design_files, read_result
from allmodes.chem.design.grid import Cell, run_cells
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.design.loop import Progress
from allmodes.errors import ConfigError, InputError
from allmodes.reports.formatting import plural
from allmodes.reports.progress import progress_bar
from allmodes.runs.config import build_config, read_config_file
from allmodes.runs.experiment import refuse_old_folder, refuse_other_settings
from allmodes.runs.files import write_text
from allmodes.runs.seals import read_sealed_json, restoring, seal_json

Name = Literal["pmo", "molexp"]

_SETTINGS, _FIGURES = "benchmark.json", "figures.json"
# Settings that a later call in the same folder may change: which runs there are.
_FREE = ("loss", "method", "algorithm", "seeds", "oracle")


@final
@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is run. config: the settings of all runs, with all methods and seeds, and one of the oracles.

    threshold: smallest score of a molecule that counts for circles and scaffolds.
    """

    name: Name
    tasks: tuple[Task, ...]
    config: MoleculesConfig
    threshold: float

    def cells(self, folder: Path) -> dict[tuple[str, str, int], Cell]:
        """Each run by task, method and seed; an interrupted benchmark has whole seeds."""
        return {
            (task.name, arm.name, seed): Cell(
                folder / f"{task.name.replace(':', '-')}-{arm.name}-{seed}",
                self.config.model_copy(
                    update={"oracle": task.oracle, "loss": None, "method": None, "algorithm": (arm.name,),
                            "seeds": (seed,)}
                ),
            )
            for seed in self.config.seeds
            for task in self.tasks
            for arm in self.config.arms
        }  # fmt: skip


Results = Mapping[tuple[str, str], Sequence[Figures]]  # by task and method, one of each seed


def make_benchmark(
    name: Name,
    tasks: Sequence[str],
    recipe: Mapping[str, Any],
    *,
    source: str,
    threshold: float | None = None,
    recipe_folder: Path | None = None,
) -> Benchmark:
    """A benchmark from the names of its tasks and a recipe of molecules, whose own oracle gives way.

    tasks: () for all of the benchmark's; also "molscore:FILE". source: the recipe's name, for messages.
    threshold: None for the recipe's `hit_threshold`. Raises InputError for a task that does not exist, and
    ConfigError for settings that do not fit each other.
    """
    found = [find_task(task) for task in tasks or tasks_of(name)]
    names = [task.name for task in found]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise InputError(f"tasks: expected each once; got {twice} twice")
    first = {"components": list(found[0].components), "aggregation": found[0].aggregation}
    values = {**recipe, "oracle": first, "workers": 1, "threads": 1}
    config = build_config(MoleculesConfig, values, source=source, recipe_folder=recipe_folder)
    if config.stop_at_hits is not None:
        raise ConfigError(f"{source}: `stop_at_hits`: expected none, since figures are for the whole budget")
    prior = config.prior.resolve() if config.prior is not None and config.prior.is_file() else config.prior
    return Benchmark(
        name=name,
        tasks=tuple(found),
        config=config.model_copy(update={"prior": prior}),
        threshold=config.hit_threshold if threshold is None else threshold,
    )


def run_benchmark(benchmark: Benchmark, folder: Path, *, workers: int = 1) -> Results:
    """Do the runs that are missing in `folder`, and measure all requested runs.

    A killed call resumes where it was; further tasks, methods and seeds join. workers: runs at a time, each
    on one thread. Raises ConfigError before anything is written where a file is missing, RunError where
    `folder` holds a benchmark of other settings or something else, or is in use.
    """
    folder = folder.absolute()
    _check_folder(benchmark, folder)
    cells = benchmark.cells(folder)
    missing = [cell for key, cell in cells.items() if not _is_measured(benchmark, cell)]
    for cell in {id(cell.config.oracle): cell for cell in missing}.values():
        check_design_files(cell.config)
    write_text(folder / _SETTINGS, json.dumps(_settings(benchmark), indent=1) + "\n")
    names = {cell: f"{task}, {method}, seed {seed}" for (task, method, seed), cell in cells.items()}
    budget = benchmark.config.budget
    done = dict.fromkeys(cells.values(), budget) | dict.fromkeys(missing, 0)
    with progress_bar() as progress:
        bar = progress.add_task(
            "oracle calls", total=budget * len(cells), completed=sum(done.values()), note=""
        )

        def show(cell: Cell, seen: Progress) -> None:
            done[cell] = seen.calls
            mean = "" if seen.mean_reward is None else f", mean score {seen.mean_reward:.2f}"
            over = sum(cell.path.joinpath(_FIGURES).exists() for cell in cells.values())
            note = f"{over} of {plural(len(cells), 'run')} done; {names[cell]}{mean}"
            progress.update(bar, completed=sum(done.values()), note=note)

        run_cells(
            folder,
            list(cells.values()),
            missing,
            finish=partial(_finish, benchmark),
            workers=workers,
            show=show,
        )
    return {
        (task.name, arm.name): [
            _figures(benchmark, cells[task.name, arm.name, seed]) for seed in benchmark.config.seeds
        ]
        for task in benchmark.tasks
        for arm in benchmark.config.arms
    }


def _check_folder(benchmark: Benchmark, folder: Path) -> None:
    """Raise RunError if a folder holds a benchmark of other settings, or anything else."""
    path = folder / _SETTINGS
    if not path.exists():
        refuse_old_folder(folder)
        return
    then = read_config_file(path)
    refuse_other_settings(folder, then=then, now=_settings(benchmark))


def _settings(benchmark: Benchmark) -> dict[str, Any]:
    """What all runs of a folder have in common, as JSON has it."""
    config = benchmark.config.model_dump(mode="json")
    return {"benchmark": benchmark.name, **{key: value for key, value in config.items() if key not in _FREE}}


def _measured(cell: Cell) -> dict[str, Any]:
    """A run's figures by threshold; empty before it is done."""
    path = cell.path / _FIGURES
    return read_sealed_json(path) if path.exists() else {}


def _is_measured(benchmark: Benchmark, cell: Cell) -> bool:
    return _key(benchmark) in _measured(cell)


def _key(benchmark: Benchmark) -> str:
    return f"{benchmark.threshold:g}"


def _figures(benchmark: Benchmark, cell: Cell) -> Figures:
    path = cell.path / _FIGURES
    with restoring(path):
        return Figures.from_json(_measured(cell)[_key(benchmark)])


def _finish(benchmark: Benchmark, cell: Cell) -> Path:
    """Measure a finished run at the threshold; figures at other thresholds stay."""
    cells = benchmark.cells(cell.path.parent)
    name, _, seed = next(key for key, one in cells.items() if one == cell)
    result = read_result(cell.job.path / "result.json")
    figures = measure(
        next(task for task in benchmark.tasks if task.name == name),
        read_ledger(cell.job.path / "ledger.sqlite", calls=result.calls),
        seed=seed,
        budget=benchmark.config.budget,
        threshold=benchmark.threshold,
        circle_distance=benchmark.config.circle_distance,
    )
    seal_json(cell.path / _FIGURES, {**_measured(cell), _key(benchmark): figures.as_json()})
    return cell.path / _FIGURES
