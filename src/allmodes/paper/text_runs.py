"""Runs of language models that the papers' items share: each is done once, kept, and resumed.

Quick scale uses a stand-in, real scale SmolLM2 after a warm start, paper scale the paper's model. Runs are in
the folder that the environment variable ALLMODES_TEXT_WORK names, by default runs/text-work: a killed item
resumes there, and items that need the same run share it. Without the variable the quick scale leaves no
files.
"""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

import torch

from allmodes.methods import IPS
from allmodes.paper.real_models import SMOLLM2, smollm2
from allmodes.paper.reproduction import Progress, Scale
from allmodes.runs.experiment import refuse_other_settings
from allmodes.runs.folder import RunFolder
from allmodes.runs.seals import read_sealed_json, seal_json
from allmodes.text.base_statistics import BaseStatistics
from allmodes.text.config import STAND_IN, TextConfig
from allmodes.text.experiment import Job, measure_base_model, result_path, run_job
from allmodes.text.models import free_memory, load_tokenizer, quieten
from allmodes.text.reporting.results import Arm, TextResult, load_result
from allmodes.text.training import arms, measured_prompts, train, usable_prompts
from allmodes.text.warm_start import warm_started

WORK, _WORK_FOLDER = "ALLMODES_TEXT_WORK", "runs/text-work"

_OF_TRAINING = {
    "model", "trainer", "kl", "method", "methods", "beta", "seeds", "steps", "group_size", "prompts_per_step",
    "learning_rate", "scale_rewards", "flowrl", "lora", "micro_batch", "checkpoint_every", "bin",
}  # fmt: skip
"""Settings that the base model and its samples do not depend on. The model's path may differ, since the
folder may have been moved."""


@final
@dataclass(frozen=True, kw_only=True)
class Subject:
    """What several items train on.

    name: of its folder. paper_model: the model of the paper. make_stand_in: writes the stand-in into a new
    folder, its README.md last.
    """

    name: str
    paper_model: str
    make_stand_in: Callable[[Path, Scale], object]

    def whose(self, scale: Scale) -> str:
        """The model of a scale, as verdicts name it."""
        names = {"real": f"{SMOLLM2}, warm-started", "paper": self.paper_model}
        return names.get(scale.kind, STAND_IN)


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is done. result: of its final policy, None if that is not measured."""

    config: TextConfig
    arm: Arm
    seed: int
    path: Path
    result: TextResult | None

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one per step."""
        return RunFolder(self.path).read_metrics()


@final
@dataclass(frozen=True, kw_only=True)
class Runs:
    """base: the policy that every run begins with. before: its statistics before a warm start, if any."""

    base: TextResult
    before: BaseStatistics | None
    done: Sequence[Run]


def run(
    subject: Subject,
    configs: Sequence[TextConfig],
    scale: Scale,
    progress: Progress,
    *,
    item: str,
    is_measured: bool = True,
) -> Runs:
    """Do every run of every configuration that is missing in the scale's folder, and read all of them.

    configs: they differ only in settings of training. progress: called with 1 after each training step.
    is_measured: whether the final policies are sampled, too. Raises ConfigError for a model, package or
    accelerator that is missing, before there is a folder; RunError if the folder holds runs of other settings
    or is in use.
    """
    threads = torch.get_num_threads()
    gc.freeze()  # each run collects garbage several times, which would scan all loaded objects: 0.3 s
    try:
        with base_model(subject, configs[0], scale, progress, item=item) as (model, before, folder):
            base = folder / "base"
            if not result_path(base).exists():
                measure_base_model(configs[0], model, base, before)
            progress(1)
            done = [
                _do(config, arm, seed, model=model, folder=folder, progress=progress, is_measured=is_measured)
                for config in configs
                for seed in config.seeds
                for arm in arms(config)
            ]
            return Runs(base=load_result(result_path(base)), before=before, done=done)
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads)  # for later computations


@contextmanager
def base_model(
    subject: Subject, config: TextConfig, scale: Scale, progress: Progress, *, item: str
) -> Iterator[tuple[str, BaseStatistics | None, Path]]:
    """The model that runs begin with, its shares of answers before a warm start, and the subject's folder.

    The model is made if it is missing; the folder is locked for the caller. Raises as `run` does.
    """
    quieten()
    model = _real_model(subject, scale, item=item)
    with RunFolder(work_folder(scale) / subject.name) as runs:
        base = runs.path / "base"
        _check_same(base, config.model_dump(mode="json", exclude=_OF_TRAINING))
        torch.set_num_threads(config.threads or 1)
        before = None
        if model is None:
            model = str(runs.path / "stand-in")
            if not Path(model, "README.md").exists():
                subject.make_stand_in(Path(model), scale)
        if config.warm_start is not None:
            task, tokenizer = config.task.make(), load_tokenizer(model)
            model, before = warm_started(
                config, config.warm_start, task, usable_prompts(config, task, tokenizer),
                measured=measured_prompts(config, task, tokenizer), model=model,
                out=runs.path / "warm-start", on_step=lambda _: progress(1),
            )  # fmt: skip
        yield model, before, runs.path


def work_folder(scale: Scale) -> Path:
    """The folder of a scale's runs."""
    named = os.environ.get(WORK)
    if named is None and scale.kind == "quick":
        return Path(_passing_folder().name) / scale.name
    return Path(named or _WORK_FOLDER).absolute() / scale.name


@cache
def _passing_folder() -> "tempfile.TemporaryDirectory[str]":
    """One temporary folder for all items of a command, deleted when the process ends."""
    return tempfile.TemporaryDirectory(prefix="allmodes-text-")


def _real_model(subject: Subject, scale: Scale, *, item: str) -> str | None:
    """Name or folder of the scale's model, None for a stand-in. Raises ConfigError if it is missing."""
    from allmodes.paper.table1_inputs import check_models

    if scale.kind == "paper":
        check_models((subject.paper_model,), item=item, on_accelerator=True)
        return subject.paper_model
    return smollm2(work_folder(scale), item=item) if scale.kind == "real" else None


def _check_same(path: Path, now: dict[str, Any]) -> None:
    """Save the settings of the results in `path`. Raises RunError if it holds results of other settings."""
    file = path / "settings.json"
    if not file.exists():
        seal_json(file, now)
    refuse_other_settings(path, then=read_sealed_json(file), now=now)


def _do(
    config: TextConfig,
    arm: Arm,
    seed: int,
    *,
    model: str,
    folder: Path,
    progress: Progress,
    is_measured: bool,
) -> Run:
    """Train and measure, unless that is done."""
    config = _narrowed(config, arm, seed)
    path = folder / _name(config, arm, seed)
    # FlowRL's settings are those of its own runs.
    others = {"model"} if arm.trainer == "flowrl" else {"model", "flowrl"}
    _check_same(path, config.model_dump(mode="json", exclude=others))
    result = None
    if is_measured:
        if not result_path(path).exists():
            job = Job(arm, seed, path)
            run_job(config, model, job, lambda seen: None if seen is None else progress(1))
        result = load_result(result_path(path))
    else:
        _train(config, arm, seed, model=model, path=path, progress=progress)
    return Run(config=config, arm=arm, seed=seed, path=path, result=result)


def _narrowed(config: TextConfig, arm: Arm, seed: int) -> TextConfig:
    """The configuration of one run alone."""
    return config.model_copy(
        update={
            "trainer": (arm.trainer,), "kl": (arm.kl,), "method": (arm.method,), "beta": (arm.beta,),
            "seeds": (seed,),
        }
    )  # fmt: skip


def _name(config: TextConfig, arm: Arm, seed: int) -> str:
    """The name of a run's folder: what differs between runs of one subject and scale."""
    method = config.methods.make(arm.method)
    clip = method.min_probability if isinstance(method, IPS) else 0
    parts = [arm.folder_name, f"groups-of-{config.group_size}", *([f"p-min-{clip:g}"] if clip else [])]
    return "-".join([*parts, str(seed)])


def _train(config: TextConfig, arm: Arm, seed: int, *, model: str, path: Path, progress: Progress) -> None:
    """Train, unless that is done; only metrics and settings are kept."""
    torch.set_num_threads(config.threads or 1)
    checkpoints = path / "trainer"
    with RunFolder(path) as runs:
        if len(runs.read_metrics()) == config.steps and not checkpoints.exists():
            return
        train(
            config, config.task.make(), arm, seed=seed, model=model, folder=runs,
            on_step=lambda _: progress(1),
        )  # fmt: skip
        shutil.rmtree(checkpoints)
    free_memory()


def stand_in_note(what: str) -> str:
    """A note on what a stand-in is. what: its training data."""
    return (
        f"The base model is a stand-in: tiny, built at run time, trained on {what}. It is no evidence about "
        "language models."
    )


def warm_start_note(config: TextConfig, before: BaseStatistics | None) -> list[str]:
    """Notes on the warm start and on the model before it; empty without one."""
    if before is None or config.warm_start is None:
        return []
    return [
        f"Warm start: {config.warm_start.describe()}. Before it: {before.describe()}. The paper's base model "
        "needs none."
    ]
