"""A design experiment: losses × methods × seeds, side by side, each in a folder of its own."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

import torch

from allmodes.chem.arms import Arm
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.audit_settings import audit_settings
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.design.loop import DesignLoop, Progress
from allmodes.chem.design.outcomes import regions_of
from allmodes.chem.design.results import RunResult, find_hits, result_of
from allmodes.chem.design.tracking import RunTracking
from allmodes.chem.oracles.config import has_stored, oracle_inputs
from allmodes.chem.oracles.inputs import check_oracle_files
from allmodes.chem.oracles.oracle import ComponentOracle
from allmodes.chem.oracles.store import ResultStore
from allmodes.chem.policies.policy import load_policy
from allmodes.chem.policies.prior import prior_path
from allmodes.chem.reporting.export import write_hits
from allmodes.chem.reporting.report import write_report
from allmodes.errors import ConfigError, RunError
from allmodes.reports.formatting import plural
from allmodes.reports.pages import require_report_extra
from allmodes.reports.progress import progress_bar, show_notes
from allmodes.runs.experiment import (
    refuse_old_folder,
    resume_experiment,
    saved_config,
    start_experiment,
    threads_of,
)
from allmodes.runs.files import write_text
from allmodes.runs.folder import RunFolder
from allmodes.runs.jobs import run_jobs
from allmodes.runs.seals import (
    check_last_line,
    read_sealed_json,
    restoring,
    seal_json,
    seal_last_line,
)
from allmodes.runs.tracking import Trackers, check_trackers


@final
@dataclass(frozen=True)
class Job:
    """One arm with one seed, in a folder inside the experiment's."""

    arm: Arm
    seed: int
    path: Path


def check_design_files(config: MoleculesConfig) -> None:
    """Load the prior and check the oracle's files, without running anything that the recipe names.

    Raises `ConfigError` for what would fail later.
    """
    require_report_extra()
    check_trackers(config.track)
    try:
        load_policy(prior_path(config.prior))
    except RunError as error:
        raise ConfigError(f"`prior`: {error}") from error
    check_oracle_files(config.oracle)


def check_design(config: MoleculesConfig) -> None:
    """Check files, start the oracle, and test programs with ethanol, which does not count as a call.

    Raises `ConfigError` for what would fail later.
    """
    check_design_files(config)
    one = config.oracle.model_copy(update={"workers": 1})
    with contextlib.ExitStack() as stack:
        if config.oracle.store is not None:
            stack.enter_context(ResultStore(config.oracle.store))
        oracle = stack.enter_context(ComponentOracle(one))
        oracle.probe()
        show_notes(oracle.notes())


def new_design(config: MoleculesConfig, out: Path) -> Path:
    """Run an experiment in a new folder `out` and return its report's path.

    Raises `ConfigError` before anything is written when the configuration cannot work, and `RunError` when
    `out` holds a run already or cannot be written.
    """
    refuse_old_folder(out)
    check_design(config)
    # By the file where it is one, since the run may be resumed from another folder.
    prior = config.prior.resolve() if config.prior is not None and config.prior.is_file() else config.prior
    threads = threads_of(config.threads, config.workers)
    config = config.model_copy(update={"threads": threads, "prior": prior})
    return start_experiment(config, out, inputs=run_inputs(config), run=_run_jobs)


def resume_design(path: Path, *, accept_changes: bool = False) -> Path:
    """Resume the interrupted experiment in folder `path`, and return its report's path.

    Raises `ConfigError` if the folder holds no run, and `RunError` if a setting or an input file has changed
    since it began, unless changes are accepted; accepted changes are recorded.
    """
    config = saved_config(MoleculesConfig, path)
    check_design(config)
    return resume_experiment(
        config, path, inputs=run_inputs(config), run=_run_jobs, accept_changes=accept_changes
    )


def run_inputs(config: MoleculesConfig) -> dict[str, Path]:
    """The input files of the run, by configuration key."""
    return {"prior": prior_path(config.prior), **oracle_inputs(config.oracle)}


def _run_jobs(config: MoleculesConfig, folder: RunFolder) -> Path:
    jobs = [
        Job(arm, seed, folder.path / f"{arm.name}-{seed}") for seed in config.seeds for arm in config.arms
    ]
    unfinished = [job for job in jobs if not (job.path / "result.json").exists()]
    width = max(9, *(len(arm.name) for arm in config.arms))
    with progress_bar() as progress:
        tasks = {
            job: progress.add_task(
                f"{job.arm.name:{width}} seed {job.seed}",
                total=config.budget,
                completed=0 if job in unfinished else config.budget,
                note="waiting" if job in unfinished else "finished before",
                start=False,
            )
            for job in jobs
        }

        def show(job: Job, seen: Progress) -> None:
            mean = "" if seen.mean_reward is None else f", mean reward {seen.mean_reward:.2f}"
            alarm = ", few new molecules" if seen.collapsed else ""
            busy = f", workers {100 * share:.0f} % busy" if (share := seen.busy) is not None else ""
            note = f"{plural(seen.hits, 'hit')}{mean}{busy}{alarm}"
            progress.update(tasks[job], completed=seen.calls, note=note)

        run_jobs(partial(run_job, config), unfinished, workers=config.workers, show=show)
    results = [read_result(job.path / "result.json") for job in jobs]
    ledgers = {
        (job.arm.name, job.seed): read_ledger(job.path / "ledger.sqlite", calls=result.calls)
        for job, result in zip(jobs, results, strict=True)
    }
    summary = json.dumps([result.as_json() for result in results], indent=2)
    write_text(folder.path / "results.json", summary + "\n")
    report = folder.path / "report.html"
    write_report(report, config, results, ledgers)
    write_hits(folder.path, config, results, ledgers)
    return report


def run_job(config: MoleculesConfig, job: Job, on_step: Callable[[Progress], None]) -> None:
    """Run or resume one job to its end, and write its result.json.

    The checkpoint is then removed: a job with a result.json is not run again.
    """
    torch.set_num_threads(config.threads or 1)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(RunFolder(job.path))
        store = stack.enter_context(ResultStore(url)) if (url := _store_url(config, job)) else None
        oracle = stack.enter_context(ComponentOracle(config.oracle, store=store))
        settings = json.dumps(audit_settings(config, job.arm), indent=1)
        write_text(job.path / "audit.json", settings + "\n")
        loop = DesignLoop(config, arm=job.arm, seed=job.seed, folder=folder, oracle=oracle)
        tracking = stack.enter_context(_tracking(config, job, first_step=loop.step + 1))
        reason = loop.run(
            lambda seen: on_step(replace(seen, busy=oracle.busy_share())),
            None if tracking is None else tracking.log,
        )
        if tracking is not None:
            tracking.show_best(step=loop.step)
        folder.append_timing({"workers": config.oracle.workers, **oracle.busy_times()})
        seal_last_line(
            job.path / "timing.jsonl"
        )  # not covered by checksums of result.json, since it differs between runs
        rows = read_ledger(job.path / "ledger.sqlite", calls=loop.calls)
        hits = find_hits(rows, hit_threshold=config.hit_threshold, circle_distance=config.circle_distance)
        metrics = folder.read_metrics()
        result = result_of(
            rows,
            hits,
            algorithm=job.arm.name,
            seed=job.seed,
            stopped_by=reason,
            steps=len(metrics),
            collapsed_at_step=next((row["step"] for row in metrics if row["collapsed"]), None),
            hit_threshold=config.hit_threshold,
            regions=regions_of(config),
        )
        files = [
            job.path / name for name in ("metrics.jsonl", "samples.jsonl", "agent.safetensors", "audit.json")
        ]
        seal_json(job.path / "result.json", result.as_json(), files=files)
        folder.checkpoint_path.unlink(missing_ok=True)


@contextlib.contextmanager
def _tracking(config: MoleculesConfig, job: Job, *, first_step: int) -> Iterator[RunTracking | None]:
    """What shows the job in `config.track`, if anything does."""
    if not config.track:
        yield None
        return
    settings = {**config.model_dump(mode="json"), "run": job.arm.name, "seed": job.seed}
    with Trackers(config.track, job.path, settings=settings, first_step=first_step) as trackers:
        yield RunTracking(trackers, job.path / "ledger.sqlite", every=config.checkpoint_every)


def _store_url(config: MoleculesConfig, job: Job) -> str | None:
    """Where the job's docking and retrosynthesis results are shared; None when it has no such component."""
    if not has_stored(config.oracle.components):
        return None
    return config.oracle.store or str(job.path.parent / "evaluations.sqlite")


def read_result(path: Path) -> RunResult:
    """The result of a finished job. Raises RunError if it, or a file covered by its checksums, is damaged."""
    found = read_sealed_json(path)
    check_last_line(path.with_name("timing.jsonl"))
    with restoring(path):
        return RunResult(**found)
