"""An experiment with a language model: methods × trainers × KLs × βs × seeds, each in its own folder."""

import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import torch

from allmodes.errors import AllmodesWarning, ConfigError
from allmodes.extras import require
from allmodes.reports.pages import require_report_extra
from allmodes.reports.progress import ProgressDisplay, progress_bar
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
from allmodes.runs.seals import seal_last_line
from allmodes.runs.weights import refuse_pickled_weights
from allmodes.tasks import HasTestPrompts, OneTwo, Task, WritesExamples
from allmodes.text.adapters import check_adapter, merged
from allmodes.text.base_statistics import BaseModel, BaseStatistics, base_statistics, load_base_model
from allmodes.text.config import STAND_IN, TextConfig
from allmodes.text.gguf_models import check_gguf, is_gguf
from allmodes.text.models import free_memory, has_bfloat16, load_model, load_tokenizer, quieten
from allmodes.text.reporting.report import arm_name, write_report
from allmodes.text.reporting.results import Arm, load_result, result_of
from allmodes.text.stand_ins.stand_in import make_stand_in
from allmodes.text.stand_ins.task_stand_in import check_task_stand_in, make_task_stand_in
from allmodes.text.task_kinds.kind import resolved_model
from allmodes.text.training import (
    Progress,
    arms,
    check_arm,
    measured_prompts,
    policy_responses,
    train,
    usable_prompts,
)
from allmodes.text.warm_start import check_warm_start, no_examples, warm_started


@final
@dataclass(frozen=True)
class Job:
    """One arm with one seed, in a folder inside the experiment's."""

    arm: Arm
    seed: int
    path: Path


def check_training_files(config: TextConfig) -> None:
    """Check TRL's settings, the prompts and the folders of models, without loading a model.

    Raises `ConfigError` for what would fail later.
    """
    require_report_extra()
    quieten()
    for name in config.method:
        method = config.methods.make(name)
        if config.task.has_negative_rewards and not method.takes_negative_rewards:
            raise ConfigError(
                f"`method`: expected one that takes rewards of any sign, as a reward model gives them; "
                f"got {name!r}"
            )
        warning = method.group_warning(config.group_size)
        if warning is not None:
            warnings.warn(f"{warning}; got group_size = {config.group_size}", AllmodesWarning, stacklevel=2)
    if config.precision == "bfloat16" and not has_bfloat16():
        warnings.warn(
            "`precision`: this processor has no bfloat16; it is emulated and slower than float32",
            AllmodesWarning,
            stacklevel=2,
        )
    if config.lora is not None:
        require("LoRA needs", "peft", extras="text")
    for arm in arms(config):
        check_arm(config, arm)
    config.task.check_files()
    if is_gguf(config.model):
        check_gguf(Path(config.model))
    for model in (config.model, *config.task.models().values()):
        refuse_pickled_weights(model)


def check_training(config: TextConfig) -> None:
    """Check files, load task and model. Raises `ConfigError` for errors that would appear later."""
    check_training_files(config)
    task = config.task.make()
    if config.model != STAND_IN:
        tokenizer, model = load_tokenizer(config.model), load_model(config.model)
        if config.warm_start is not None:
            check_warm_start(config, task, usable_prompts(config, task, tokenizer), model, tokenizer)
        if config.lora is not None:
            check_adapter(model, config.lora)
        del model
    elif _has_own_stand_in(task):
        check_task_stand_in(task, max_tokens=config.max_tokens)
    elif config.warm_start is not None and not isinstance(task, WritesExamples):
        raise no_examples(task)
    free_memory()


def new_training(config: TextConfig, out: Path) -> Path:
    """Run an experiment in a new folder `out` and return its report's path.

    Raises `ConfigError` before anything is written if the configuration cannot work, and `RunError` if
    `out` already holds a run or cannot be written.
    """
    refuse_old_folder(out)
    check_training(config)
    threads = threads_of(config.threads, config.workers)
    model = config.model if config.model == STAND_IN else resolved_model(config.model)
    config = config.model_copy(update={"threads": threads, "model": model, "task": config.task.resolved()})
    return start_experiment(config, out, inputs=run_inputs(config), run=_run)


def resume_training(path: Path, *, accept_changes: bool = False) -> Path:
    """Resume the interrupted experiment in folder `path`, and return its report's path.

    Raises `ConfigError` if the folder holds no run, and `RunError` if a setting, a local model or the prompts
    have changed, unless changes are accepted; accepted changes are recorded.
    """
    config = saved_config(TextConfig, path)
    check_training(config)
    return resume_experiment(config, path, inputs=run_inputs(config), run=_run, accept_changes=accept_changes)


def run_inputs(config: TextConfig) -> dict[str, Path]:
    """The local files that a run depends on."""
    folders = {} if config.model == STAND_IN else {"model": config.model}
    files = config.task.inputs()
    for key, folder in {**folders, **config.task.models()}.items():
        if is_gguf(folder):
            files[key] = Path(folder)
            continue
        found = [*Path(folder).glob("*.safetensors"), *Path(folder).glob("*.json")]
        files |= {f"{key}/{path.name}": path for path in sorted(found)}
    return files


def _run(config: TextConfig, folder: RunFolder) -> Path:
    quieten()
    torch.set_num_threads(config.threads or 1)
    jobs = [
        Job(arm, seed, folder.path / f"{arm.folder_name}-{seed}")
        for seed in config.seeds
        for arm in arms(config)
    ]
    unfinished = [job for job in jobs if not result_path(job.path).exists()]
    with progress_bar() as progress:
        base = folder.path / "base"
        model = _base(config, base, progress)
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

        run_jobs(partial(run_job, config, model), unfinished, workers=config.workers, show=show)
    return write_report(
        folder.path,
        config,
        base=load_result(result_path(base)),
        base_model=load_base_model(base),
        results=[load_result(result_path(job.path)) for job in jobs],
        metrics={(job.arm, job.seed): RunFolder(job.path).read_metrics() for job in jobs},
        prompts=json.loads((base / "prompts.json").read_text(encoding="utf-8")),
    )


def result_path(path: Path) -> Path:
    """The result file in the folder of a finished job or of the measured base model."""
    return path / "result.json"


def _base(config: TextConfig, path: Path, progress: ProgressDisplay) -> str:
    """Prepare and measure the base model of all runs, if this is not done yet.

    The configuration's, or the stand-in, which is made in `path`; warm-started, if so configured, in a folder
    beside it.
    """
    model = str(path) if config.model == STAND_IN else config.model
    if config.model == STAND_IN and not (path / "README.md").exists():  # which is written last
        row = progress.add_task("stand-in", total=None, note="built")
        task = config.task.make()
        if _has_own_stand_in(task):
            make_task_stand_in(task, path)
        else:
            make_stand_in(path)
        progress.update(row, total=1, completed=1, note="")
    before = None
    if config.warm_start is not None:
        row = progress.add_task("warm start", total=config.warm_start.steps, note="")
        task = config.task.make()
        model, before = warm_started(
            config,
            config.warm_start,
            task,
            usable_prompts(config, task, load_tokenizer(model)),
            measured=measured_prompts(config, task, load_tokenizer(model)),
            model=model,
            out=path.with_name("warm-start"),
            on_step=lambda done: progress.update(row, completed=done),
        )
        progress.update(row, completed=config.warm_start.steps)
    if not result_path(path).exists():
        row = progress.add_task("base model", total=None, note="measured")
        measure_base_model(config, model, path, before)
        progress.update(row, total=1, completed=1, note="")
    return model


def _has_own_stand_in(task: Task) -> bool:
    """Whether the stand-in learns the task's own format, or else that of the 1-2 task."""
    return isinstance(task, WritesExamples) and not isinstance(task, OneTwo)


def measure_base_model(config: TextConfig, model: str, path: Path, before: BaseStatistics | None) -> None:
    """Sample the base model; write prompts.json, statistics.json where answers are known, and the result.

    before: the shares of the model before its warm start, if it had one.
    """
    task, tokenizer = config.task.make(), load_tokenizer(model)
    used = len(usable_prompts(config, task, tokenizer))
    has_test = isinstance(task, HasTestPrompts) and bool(task.test_prompts)
    counts = {
        "used": used,
        "too_long": len(task.prompts) - used,
        "duplicates": getattr(task, "duplicates", 0),  # of tasks that read a file
        "test": len(measured_prompts(config, task, tokenizer)) if has_test else 0,
    }
    write_text(path / "prompts.json", json.dumps(counts) + "\n")
    if config.model == STAND_IN and config.lora is not None:  # others were checked before
        check_adapter(load_model(model), config.lora)
    seed = config.seeds[0]
    asked, responses = _sample(config, task, load_model(model), tokenizer, seed=seed)
    statistics = base_statistics(task, asked, responses)
    if statistics is not None:
        BaseModel(base=statistics, before=before).save(path)
    _write_result(task, asked, responses, arm=None, seed=seed, path=path)
    free_memory()


def run_job(config: TextConfig, model: str, job: Job, on_step: Callable[[Progress | None], object]) -> None:
    """Train, sample and write the result, then delete TRL's checkpoints."""
    torch.set_num_threads(config.threads or 1)
    task = config.task.make()
    with RunFolder(job.path) as folder:
        trainer = train(config, task, job.arm, seed=job.seed, model=model, folder=folder, on_step=on_step)
        policy, tokenizer = merged(trainer.model, source=model), trainer.processing_class
        if config.save_model:
            policy.save_pretrained(job.path / "model")
            tokenizer.save_pretrained(job.path / "model")
        if (timing := job.path / "timing.jsonl").exists():
            seal_last_line(timing)
        asked, responses = _sample(config, task, policy, tokenizer, seed=job.seed)
        _write_result(task, asked, responses, arm=job.arm, seed=job.seed, path=job.path)
        shutil.rmtree(job.path / "trainer")
    del trainer, policy
    free_memory()
    on_step(None)


def _sample(
    config: TextConfig, task: Task, model: Any, tokenizer: Any, *, seed: int
) -> tuple[list[str], list[list[str]]]:
    """The prompts for the final measurement, and the policy's responses to each."""
    prompts = measured_prompts(config, task, tokenizer)
    return prompts, policy_responses(config, model, tokenizer, prompts, count=config.samples, seed=seed)


def _write_result(
    task: Task,
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    *,
    arm: Arm | None,
    seed: int,
    path: Path,
) -> None:
    """Write generations.jsonl, and result.json when all else is there."""
    result, rows = result_of(task, prompts, responses, arm=arm, seed=seed)
    method = "base" if arm is None else arm.method
    lines = (json.dumps({**row, "method": method}, ensure_ascii=False) + "\n" for row in rows)
    write_text(path / "generations.jsonl", "".join(lines))
    result.save(result_path(path))
