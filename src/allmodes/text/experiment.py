"""An experiment with a language model: methods × trainers × KLs × βs × seeds, each in its own folder."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import torch

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
from allmodes.runs.pages import require_report_extra
from allmodes.runs.progress import progress_bar
from allmodes.runs.text_config import STAND_IN, TextConfig
from allmodes.tasks import Task
from allmodes.text.report import arm_name, write_report
from allmodes.text.results import Arm, load_result, result_of
from allmodes.text.sampling import sample_responses
from allmodes.text.stand_in import make_stand_in
from allmodes.text.training import Progress, arms, load_model, load_tokenizer, make_task, quieten, train


@final
@dataclass(frozen=True)
class Job:
    """One arm with one seed, in a folder below the experiment's."""

    arm: Arm
    seed: int
    path: Path


def check_training(config: TextConfig) -> None:
    """Load the task and the model's tokenizer. Raises `ConfigError` for what would fail later."""
    require_report_extra()
    make_task(config.task)
    if config.model != STAND_IN:
        load_tokenizer(config.model)


def new_training(config: TextConfig, out: Path) -> Path:
    """Run an experiment in a new folder `out` and return its report's path.

    Raises `ConfigError` before anything is written when the configuration cannot work, and `RunError` when
    `out` holds a run already or cannot be written.
    """
    refuse_old_folder(out)
    check_training(config)
    threads = threads_of(config.threads, config.workers)
    model = str(Path(config.model).resolve()) if Path(config.model).is_dir() else config.model
    config = config.model_copy(update={"threads": threads, "model": model})
    return start_experiment(config, out, inputs=_model_files(model), run=_run)


def resume_training(path: Path) -> Path:
    """Continue the experiment in folder `path` where it was interrupted; returns its report's path.

    Raises `ConfigError` when the folder holds no run, and `RunError` when a local base model is another one.
    """
    config = saved_config(TextConfig, path)
    check_training(config)
    return resume_experiment(config, path, inputs=_model_files(config.model), run=_run)


def _model_files(model: str) -> dict[str, Path]:
    """A local model's files; none for a name, whose revisions the hub keeps."""
    files = [*Path(model).glob("*.safetensors"), *Path(model).glob("*.json")]
    return {f"model/{path.name}": path for path in sorted(files)}


def _run(config: TextConfig, folder: RunFolder) -> Path:
    quieten()
    torch.set_num_threads(config.threads or 1)
    jobs = [
        Job(arm, seed, folder.path / f"{arm.folder_name}-{seed}")
        for seed in config.seeds
        for arm in arms(config)
    ]
    unfinished = [job for job in jobs if not _result_path(job.path).exists()]
    with progress_bar() as progress:
        base = folder.path / "base"
        if not _result_path(base).exists():
            task = progress.add_task("base model", total=None, note="made on the spot and measured")
            model = _base(config, base)
            _measure_base(config, model, base)
            progress.update(task, total=1, completed=1, note="")
        model = _base(config, base)
        whole = progress.add_task("runs", total=len(jobs), completed=len(jobs) - len(unfinished), note="")
        running: dict[Job, Any] = {}

        def show(job: Job, seen: Progress | None) -> None:
            if job not in running:
                label = f"{arm_name(job.arm)}, seed {job.seed}"
                running[job] = progress.add_task(label, total=config.steps, note="")
            if seen is None:
                progress.remove_task(running[job])
                progress.advance(whole)
            else:
                progress.update(running[job], completed=seen.step, note=f"reward {seen.reward:.2f}")

        run_jobs(partial(_run_job, config, model), unfinished, workers=config.workers, show=show)
    results = [load_result(_result_path(job.path)) for job in jobs]
    metrics = {
        (job.arm, job.seed): [
            json.loads(line) for line in (job.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for job in jobs
    }
    return write_report(
        folder.path, config, base=load_result(_result_path(base)), results=results, metrics=metrics
    )


def _result_path(path: Path) -> Path:
    return path / "result.json"


def _base(config: TextConfig, path: Path) -> str:
    """The base model: the configuration's, or the stand-in, made in `path` where it is not there yet."""
    if config.model != STAND_IN:
        return config.model
    if not (path / "README.md").exists():  # which is written last
        make_stand_in(path)
    return str(path)


def _measure_base(config: TextConfig, model: str, path: Path) -> None:
    task = make_task(config.task)
    _finish(config, task, load_model(model), load_tokenizer(model), arm=None, seed=config.seeds[0], path=path)


def _run_job(config: TextConfig, model: str, job: Job, on_step: Callable[[Progress | None], object]) -> None:
    """Train, sample, write the result; what TRL keeps to go on goes when nothing is left to resume."""
    torch.set_num_threads(config.threads or 1)
    task = make_task(config.task)
    with RunFolder(job.path) as folder:
        trainer = train(config, task, job.arm, seed=job.seed, model=model, folder=folder, on_step=on_step)
        if config.save_model:
            trainer.save_model(str(job.path / "model"))
        _finish(
            config, task, trainer.model, trainer.processing_class, arm=job.arm, seed=job.seed, path=job.path
        )
        shutil.rmtree(job.path / "trainer")
    on_step(None)


def _finish(
    config: TextConfig, task: Task, model: Any, tokenizer: Any, *, arm: Arm | None, seed: int, path: Path
) -> None:
    """Sample the policy; write generations.jsonl, and result.json when all else is there."""
    responses = sample_responses(
        model,
        tokenizer,
        task.prompts,
        count=config.samples,
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        seed=seed,
        chat_template=config.chat_template,
    )
    result, rows = result_of(task, task.prompts, responses, arm=arm, seed=seed)
    method = "base" if arm is None else arm.method
    lines = (json.dumps({**row, "method": method}, ensure_ascii=False) + "\n" for row in rows)
    write_text(path / "generations.jsonl", "".join(lines))
    result.save(_result_path(path))
