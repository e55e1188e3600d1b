"""Many parallel runs, each in its own folder, for studies and benchmarks."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.design import Job, run_inputs, run_job
from allmodes.runs.experiment import refuse_other_settings, resume_experiment, saved_config, start_experiment
from allmodes.runs.folder import RunFolder
from allmodes.runs.jobs import run_jobs


@final
@dataclass(frozen=True)
class Cell:
    """One run, in a folder as an experiment with one algorithm and one seed has it."""

    path: Path
    config: MoleculesConfig = field(compare=False, repr=False)

    @property
    def job(self) -> Job:
        """The run itself, in a folder below."""
        (arm,), (seed,) = self.config.arms, self.config.seeds
        return Job(arm, seed, self.path / f"{arm.name}-{seed}")

    @property
    def has_begun(self) -> bool:
        """Whether its folder has a configuration."""
        return (self.path / "config.json").exists()


Finish = Callable[[Cell], Path]  # measures a finished run, and returns the file that says so


def run_cells(
    folder: Path,
    cells: Sequence[Cell],
    missing: Sequence[Cell],
    *,
    finish: Finish,
    workers: int,
    show: Callable[[Cell, Any], None],
) -> None:
    """Do the runs that are missing, or what is missing of them, and `finish` each.

    finish: a function, or a partial of one, that a new process can import. show: called with each progress of
    a run. Raises RunError if `folder` is in use, or one of `cells`, done or not, is in a folder that holds
    a run of other settings or other input files.
    """
    with RunFolder(folder):
        for cell in cells:
            if cell.has_begun:
                _enter(cell, run=lambda _, run_folder: run_folder.path)
        run_jobs(partial(_run_cell, finish), missing, workers=min(workers, os.cpu_count() or 1), show=show)


def _run_cell(finish: Finish, cell: Cell, on_step: Callable[[Any], None]) -> None:
    def run(config: MoleculesConfig, _: RunFolder) -> Path:
        if not (cell.job.path / "result.json").exists():
            run_job(config, cell.job, on_step)
        return finish(cell)

    _enter(cell, run=run)


def _enter(cell: Cell, *, run: Callable[[MoleculesConfig, RunFolder], Path]) -> None:
    """Begin a run's folder, or resume it. Raises RunError if it is a run of something else."""
    config = cell.config
    if not cell.has_begun:
        start_experiment(config, cell.path, inputs=run_inputs(config), run=run)
        return
    then = saved_config(MoleculesConfig, cell.path).model_dump(mode="json")
    # The store's place may differ: the whole folder may have been moved.
    refuse_other_settings(cell.path, then=then, now=config.model_dump(mode="json"), ignored=["oracle.store"])
    resume_experiment(config, cell.path, inputs=run_inputs(config), run=run)
