"""HypoSpace by domains, methods and seeds: what IPS's Table 2 and Figures 2, 4 and 5 are made from.

At quick scale on stand-ins and few prompts, at real scale on SmolLM2 after a warm start, at paper scale on
the paper's model. All items read the same runs, which a process does once. A domain is the folder of an
experiment as `allmodes run` has it, below the folder that the environment variable ALLMODES_HYPOSPACE_WORK
names, else below runs/hypospace-work: a killed run resumes there. Without the variable the quick scale leaves
no files.
"""

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, cast, final

import torch

from allmodes.methods import color_of
from allmodes.metrics import summarise
from allmodes.paper.real_models import SMOLLM2, smollm2
from allmodes.paper.reproduction import Holds, Progress, Scale
from allmodes.reports.formatting import listing, plural
from allmodes.reports.plotting import distinct_colors
from allmodes.runs.experiment import (
    refuse_other_settings,
    resume_experiment,
    saved_config,
    start_experiment,
    threads_of,
)
from allmodes.runs.folder import RunFolder
from allmodes.tasks.hypospace.hypotheses import Hypotheses
from allmodes.text.base_statistics import BaseModel, load_base_model
from allmodes.text.config import STAND_IN, TextConfig
from allmodes.text.experiment import Job, measure_base_model, result_path, run_inputs, run_job
from allmodes.text.models import quieten
from allmodes.text.reporting.results import TextResult, load_result
from allmodes.text.stand_ins.task_stand_in import LEAST, make_task_stand_in
from allmodes.text.training import arms
from allmodes.text.warm_start import warm_started

WORK = "ALLMODES_HYPOSPACE_WORK"
DOMAINS = {"causal": "causal inference", "voxels": "3D reconstruction", "boolean": "Boolean expressions"}
GRPO, FLOWRL, IPS, MARA, OMM = "GRPO", "FlowRL", "IPS-GRPO", "MARA", "OMM"
METHODS = {
    ("grpo", "vanilla"): GRPO, ("flowrl", "vanilla"): FLOWRL, ("grpo", "ips"): IPS, ("grpo", "mara"): MARA,
    ("grpo", "outcome_matching"): OMM,
}  # fmt: skip
"""The name of each trainer with a method."""

_COMMON: dict[str, Any] = {
    "kind": "text", "trainer": ["grpo", "flowrl"], "kl": ["reverse"],
    "method": ["vanilla", "ips", "mara", "outcome_matching"], "beta": [0.01], "seeds": [0],
    "steps": 16, "prompts_per_step": 4, "group_size": 16, "samples": 64, "threads": 1,
    "log_samples": False, "flowrl": {"form": "paper", "method": ["vanilla"]},
}  # fmt: skip
_REAL: dict[str, Any] = {
    "steps": 30, "group_size": 8, "learning_rate": 1e-4, "samples": 32, "sample_batch": 128, "threads": None,
    "lora": {}, "warm_start": {"steps": 48, "skew": 1.25}, "checkpoint_every": 5,
}  # fmt: skip
_PAPER: dict[str, Any] = {
    "steps": 300, "prompts_per_step": 8, "learning_rate": 1e-5, "precision": "bfloat16", "micro_batch": 16,
    "threads": None, "lora": {"r": 16, "alpha": 32.0, "dropout": 0.05}, "seeds": [0, 1, 2],
}  # fmt: skip
_PAPER_MODEL = "google/gemma-3-4b-it"
_STAND_IN_STEPS = {"causal": 70, "voxels": 150, "boolean": 100}
_STAND_IN_RATES = {"causal": 1.5e-3, "voxels": 6e-4, "boolean": 1e-3}
_LONGEST = {"causal": (16, 64), "voxels": (24, 160), "boolean": (16, 32)}
"""Tokens of a response, by the stand-in's tokenizer and by a real model's."""

# Prompts to train on and to measure on. Of voxels the seed of the split is the first that has the instance of
# the paper's Figures 4 and 5 among the latter.
_SPLITS: dict[str, dict[str, tuple[int, int, int]]] = {
    "quick": {"causal": (8, 8, 0), "voxels": (8, 8, 35), "boolean": (8, 8, 0)},
    "real": {"causal": (50, 16, 0), "voxels": (50, 16, 10), "boolean": (39, 16, 0)},
    "paper": {"causal": (50, 50, 0), "voxels": (50, 50, 1), "boolean": (39, 39, 0)},
}


@final
@dataclass(frozen=True, kw_only=True)
class Runs:
    """One domain's. model: what the base model is before a warm start and after it.

    results: of each method, in the order of the seeds. folders: of the runs, in the same order.
    """

    config: TextConfig
    model: BaseModel | None
    base: TextResult
    results: Mapping[str, Sequence[TextResult]]
    folders: Mapping[str, Sequence[Path]]

    def values(self, method: str, metric: str) -> list[float]:
        """A figure of each seed; NaN where there is none."""
        return [result.metrics.get(metric, math.nan) for result in self.results[method]]

    def mean(self, method: str, metric: str) -> float:
        """The mean over seeds of those that have a figure; NaN where none has."""
        known = [value for value in self.values(method, metric) if not math.isnan(value)]
        return summarise(known).mean if known else math.nan


def configuration(scale: Scale, domain: str, *, model: str) -> TextConfig:
    """The runs of a scale in one domain."""
    kind = scale.name if scale.name in ("real", "paper") else "quick"
    train, test, seed = _SPLITS[kind][domain]
    values = {
        **_COMMON, "learning_rate": _STAND_IN_RATES[domain], "model": model,
        **{"real": _REAL, "paper": _PAPER}.get(kind, {}),
        "task": {"kind": "hypospace", "domain": domain, "train": train, "test": test, "split_seed": seed},
        "max_tokens": _LONGEST[domain][kind != "quick"],
    }  # fmt: skip
    if scale.steps < 1:
        values |= {"steps": scale.own_steps(values["steps"]), "samples": 4, "group_size": 2}
    config = TextConfig.model_validate(values)
    return config.model_copy(update={"threads": threads_of(config.threads, config.workers)})


def task_of(config: TextConfig) -> Hypotheses:
    """The domain of a configuration, its prompts divided."""
    return cast("Hypotheses", config.task.make())


def run(
    scale: Scale, progress: Progress, *, item: str, domains: Sequence[str] | None = None
) -> dict[str, Runs]:
    """Do the runs that the scale's folder does not have yet, and read all of them, by domain.

    domains: None for all. progress: called with 1 after each training step. Raises ConfigError for a model,
    package or accelerator that is missing; RunError where the folder holds runs of other settings or is in
    use.
    """
    quieten()
    folder = work_folder(scale)
    threads = torch.get_num_threads()
    try:
        return {domain: _runs(scale, domain, folder, progress, item=item) for domain in domains or DOMAINS}
    finally:
        torch.set_num_threads(threads)  # of whoever computes next


def work_folder(scale: Scale) -> Path:
    """Where the runs of a scale are."""
    named = os.environ.get(WORK)
    if named is None and scale.name not in ("real", "paper"):
        return Path(_passing_folder().name) / scale.name
    return Path(named or "runs/hypospace-work").absolute() / scale.name


@cache
def _passing_folder() -> "tempfile.TemporaryDirectory[str]":
    """One for all items of a command; it goes with the process."""
    return tempfile.TemporaryDirectory(prefix="allmodes-hypospace-")


def _runs(scale: Scale, domain: str, folder: Path, progress: Progress, *, item: str) -> Runs:
    model = _model(scale, domain, folder, item=item)
    config = configuration(scale, domain, model=model)
    path = folder / domain
    jobs = [
        Job(arm, seed, path / f"{arm.folder_name}-{seed}") for seed in config.seeds for arm in arms(config)
    ]
    work = partial(_train, jobs, lambda: progress(1))
    if not (path / "config.json").exists():
        start_experiment(config, path, inputs=run_inputs(config), run=work)
    else:
        then = saved_config(TextConfig, path).model_dump(mode="json")
        # The model's place may differ: the whole folder may have been moved.
        refuse_other_settings(path, then=then, now=config.model_dump(mode="json"), ignored=["model"])
        resume_experiment(config, path, inputs=run_inputs(config), run=work)
    found: dict[str, list[Path]] = {name: [] for name in METHODS.values()}
    for job in jobs:
        found[METHODS[job.arm.trainer, job.arm.method]].append(job.path)
    return Runs(
        config=config,
        model=load_base_model(path / "base"),
        base=load_result(result_path(path / "base")),
        results={name: [load_result(result_path(one)) for one in paths] for name, paths in found.items()},
        folders=found,
    )


def _model(scale: Scale, domain: str, folder: Path, *, item: str) -> str:
    """Name or folder of the model, which is made where it is not there yet."""
    from allmodes.paper.table1_inputs import check_models

    if scale.name == "paper":
        check_models((_PAPER_MODEL,), item=item, on_accelerator=True)
        return _PAPER_MODEL
    if scale.name == "real":
        return smollm2(folder, item=item)
    out = folder / f"{domain}-stand-in"
    if not (out / "README.md").exists():  # which is written last
        steps = scale.own_steps(_STAND_IN_STEPS[domain])
        task = configuration(scale, domain, model=STAND_IN).task.make()
        make_task_stand_in(task, out, steps=steps, least=LEAST if scale.steps >= 1 else 0.0)
    return str(out)


def _train(jobs: Sequence[Job], on_step: Callable[[], object], config: TextConfig, folder: RunFolder) -> Path:
    """Measure the base model and do every job, each where that is not done."""
    torch.set_num_threads(config.threads or 1)
    model, before, base = config.model, None, folder.path / "base"
    if config.warm_start is not None:
        task = task_of(config)
        model, before = warm_started(
            config, config.warm_start, config.task.make(), task.prompts, measured=task.test_prompts,
            model=model, out=folder.path / "warm-start", on_step=lambda _: on_step(),
        )  # fmt: skip
    if not result_path(base).exists():
        measure_base_model(config, model, base, before)
    for job in jobs:
        if not result_path(job.path).exists():
            run_job(config, model, job, lambda seen: None if seen is None else on_step())
    return folder.path


def numbers(runs: Mapping[str, Runs]) -> dict[str, Any]:
    """For JSON: figures of the base model and of each seed of each method, by domain."""
    return {
        domain: {
            "base": _figures(found.base),
            **{name: [_figures(result) for result in found.results[name]] for name in found.results},
        }
        for domain, found in runs.items()
    }


def _figures(result: TextResult) -> dict[str, Any]:
    names = ("valid_rate", "uniqueness", "recovery_rate")
    return {"seed": result.seed} | {
        name: {"mean": result.metrics[name], "error_over_prompts": result.errors[name]}
        for name in names
        if name in result.metrics
    }


def colours() -> dict[str, str]:
    """The colour of each method; FlowRL, which trains on plain rewards, has a shade of GRPO's."""
    return distinct_colors({name: color_of(method) for (_, method), name in METHODS.items()})


def number(value: float) -> str:
    """Two digits, or a dash for what there is none of."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def some(found: int, total: int) -> Holds:
    """Yes for all of them, partly for some."""
    return "yes" if found == total else "partly" if found else "no"


def whose(scale: Scale) -> str:
    """The model of a scale, as verdicts name it."""
    return {"real": f"{SMOLLM2}, warm-started", "paper": _PAPER_MODEL}.get(scale.name, f"{STAND_IN}s")


def notes(scale: Scale, runs: Mapping[str, Runs]) -> list[str]:
    """What was trained, on what, and what the paper leaves open."""
    first = next(iter(runs.values())).config
    splits = ", ".join(
        f"{DOMAINS[domain]} {len(task.prompts)} and {len(task.test_prompts)}"
        for domain, task in ((domain, task_of(found.config)) for domain, found in runs.items())
    )
    rates = dict.fromkeys(f"{found.config.learning_rate:g}" for found in runs.values())
    shown = [
        f"{first.steps} steps of {plural(first.prompts_per_step, 'prompt')} with {first.group_size} "
        f"responses each, rate {listing(list(rates))}, β = {first.beta[0]:g}, "
        f"{plural(len(first.seeds), 'seed')}; {first.samples} samples of each test prompt. Prompts "
        f"to train and to test on: {splits}. The paper gives its splits and LoRA's settings, but "
        "neither steps, rates, group sizes nor numbers of samples; the numbers of its table could not be "
        "recovered.",
        "FlowRL is in its paper's form, without β. MARA is uniform over answers "
        '(`level = "outcomes"`), with τ = 0.5; OMM is outcome marginal matching, ours.',
    ]
    if scale.name not in ("real", "paper"):
        shown.append(
            "Stand-ins: a tiny model for each domain, built at run time and trained on examples of all "
            "prompts, test prompts included; RL sees the training prompts alone. They are no evidence about "
            "language models. docs/guide/hypospace.md has a longer run of the same."
        )
    if scale.name == "paper":
        shown.append("The paper's model has 4-bit weights; here they are in bfloat16.")
    for domain, found in runs.items():
        if found.model is not None and found.model.before is not None and found.config.warm_start is not None:
            shown.append(
                f"Warm start, {DOMAINS[domain]}: {found.config.warm_start.describe()}. Before it: "
                f"{found.model.before.describe()}. The paper's base model needs none."
            )
    return shown
