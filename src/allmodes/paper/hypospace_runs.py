"""Runs of HypoSpace by domain, method and seed, the basis of IPS's Tables 2 and 4 and Figures 2, 4 and 5."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

from allmodes.methods import color_of
from allmodes.metrics import summarise
from allmodes.paper import text_runs
from allmodes.paper.reproduction import Progress, Scale
from allmodes.paper.text_runs import Subject
from allmodes.reports.formatting import listing, plural
from allmodes.reports.plotting import distinct_colors
from allmodes.runs.experiment import threads_of
from allmodes.tasks.hypospace.hypotheses import Hypotheses
from allmodes.text.base_statistics import BaseStatistics
from allmodes.text.config import TextConfig
from allmodes.text.reporting.results import TextResult
from allmodes.text.stand_ins.task_stand_in import LEAST, make_task_stand_in

DOMAINS = {"causal": "causal inference", "voxels": "3D reconstruction", "boolean": "Boolean expressions"}
GRPO, FLOWRL, IPS, MARA, OMM = "GRPO", "FlowRL", "IPS-GRPO", "MARA", "OMM"
METHODS = {
    ("grpo", "vanilla"): GRPO, ("flowrl", "vanilla"): FLOWRL, ("grpo", "ips"): IPS, ("grpo", "mara"): MARA,
    ("grpo", "outcome_matching"): OMM,
}  # fmt: skip
"""The display name of each trainer with a method."""

_COMMON: dict[str, Any] = {
    "kind": "text", "trainer": ["grpo", "flowrl"], "kl": ["reverse"],
    "method": ["vanilla", "ips"], "beta": [0.01], "seeds": [0],
    "steps": 10, "prompts_per_step": 4, "group_size": 16, "samples": 64, "threads": 1,
    "log_samples": False, "flowrl": {"form": "paper", "method": ["vanilla"]},
}  # fmt: skip
_REAL: dict[str, Any] = {
    "steps": 16, "prompts_per_step": 2, "group_size": 8, "learning_rate": 2e-4, "samples": 16,
    "sample_batch": 128, "lora": {}, "warm_start": {"steps": 48, "skew": 1.25}, "checkpoint_every": 4,
}  # fmt: skip
_PAPER: dict[str, Any] = {
    "steps": 300, "prompts_per_step": 8, "learning_rate": 1e-5, "precision": "bfloat16", "micro_batch": 16,
    "threads": None, "lora": {"r": 16, "alpha": 32.0, "dropout": 0.05}, "seeds": [0, 1, 2],
}  # fmt: skip
_STAND_IN_STEPS, _STAND_IN_BATCH = {"causal": 90, "voxels": 150, "boolean": 110}, 24
_STAND_IN_RATES = {"causal": 1e-3, "voxels": 8e-4, "boolean": 1.2e-3}
_LONGEST = {"causal": (16, 64), "voxels": (24, 160), "boolean": (16, 32)}
"""Most tokens of a response, for the stand-in's tokenizer and for a real model's."""

# Numbers of training and test prompts, and the seed of the split. For voxels it is the first seed with the
# instance of the paper's Figures 4 and 5 among the test prompts.
_SPLITS: dict[str, dict[str, tuple[int, int, int]]] = {
    "quick": {"causal": (8, 8, 0), "voxels": (8, 8, 35), "boolean": (8, 8, 0)},
    "real": {"causal": (50, 16, 0), "voxels": (50, 16, 10), "boolean": (39, 16, 0)},
    "paper": {"causal": (50, 50, 0), "voxels": (50, 50, 1), "boolean": (39, 39, 0)},
}


@final
@dataclass(frozen=True, kw_only=True)
class Runs:
    """The runs of one domain.

    before: the base model's statistics before a warm start. results: of each method, in the order of the
    seeds. folders: of the runs, in the same order.
    """

    config: TextConfig
    before: BaseStatistics | None
    base: TextResult
    results: Mapping[str, Sequence[TextResult]]
    folders: Mapping[str, Sequence[Path]]

    def values(self, method: str, metric: str) -> list[float]:
        """A metric of each seed; NaN where it is missing."""
        return [result.metrics.get(metric, math.nan) for result in self.results[method]]

    def mean(self, method: str, metric: str) -> float:
        """The mean over the seeds that have the metric; NaN if none has it."""
        known = [value for value in self.values(method, metric) if not math.isnan(value)]
        return summarise(known).mean if known else math.nan


def configuration(scale: Scale, domain: str, **changes: Any) -> TextConfig:
    """The configuration of a scale in one domain; `changes` replace its settings."""
    train, test, seed = _SPLITS[scale.kind][domain]
    values = {
        **_COMMON, "learning_rate": _STAND_IN_RATES[domain],
        **{"real": _REAL, "paper": _PAPER}.get(scale.kind, {}),
        "task": {"kind": "hypospace", "domain": domain, "train": train, "test": test, "split_seed": seed},
        "max_tokens": _LONGEST[domain][scale.kind != "quick"], **changes,
    }  # fmt: skip
    if scale.steps < 1:
        size = changes.get("group_size", 2)
        values |= {"steps": scale.own_steps(values["steps"]), "samples": 4, "group_size": size}
    config = TextConfig.model_validate(values)
    return config.model_copy(update={"threads": threads_of(config.threads, config.workers)})


def task_of(config: TextConfig) -> Hypotheses:
    """The task of a configuration, with its split of the prompts."""
    return cast("Hypotheses", config.task.make())


def run(
    scale: Scale, progress: Progress, *, item: str, domains: Sequence[str] | None = None
) -> dict[str, Runs]:
    """Train every method in every domain, or reuse the runs of other items; by domain.

    domains: None takes all, at real scale only the one with the shortest answers. Raises as `text_runs.run`
    does.
    """
    own = ["boolean"] if scale.kind == "real" else DOMAINS
    return {domain: _runs(scale, domain, progress, item=item) for domain in domains or own}


def _runs(scale: Scale, domain: str, progress: Progress, *, item: str) -> Runs:
    config = configuration(scale, domain)
    runs = text_runs.run(subject(domain), [config], scale, progress, item=item)
    results: dict[str, list[TextResult]] = {}
    folders: dict[str, list[Path]] = {}
    for one in runs.done:
        name = METHODS[one.arm.trainer, one.arm.method]
        results.setdefault(name, []).append(cast("TextResult", one.result))
        folders.setdefault(name, []).append(one.path)
    return Runs(config=config, before=runs.before, base=runs.base, results=results, folders=folders)


def whose(scale: Scale) -> str:
    """The model of a scale, as verdicts name it."""
    return subject(next(iter(DOMAINS))).whose(scale)


def subject(domain: str) -> Subject:
    """A domain as a subject of `text_runs`."""

    def make(folder: Path, scale: Scale) -> None:
        least = LEAST if scale.steps >= 1 else 0.0
        task = configuration(scale, domain).task.make()
        steps = scale.own_steps(_STAND_IN_STEPS[domain])
        make_task_stand_in(task, folder, steps=steps, batch=_STAND_IN_BATCH, least=least)

    return Subject(name=f"hypospace-{domain}", paper_model="google/gemma-3-4b-it", make_stand_in=make)


def numbers(runs: Mapping[str, Runs]) -> dict[str, Any]:
    """Metrics of the base model and of each seed of each method, by domain, ready for JSON."""
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


def colours(found: Runs) -> dict[str, str]:
    """The colour of each trained method; FlowRL, which trains on plain rewards, has a shade of GRPO's."""
    return distinct_colors(
        {name: color_of(method) for (_, method), name in METHODS.items() if name in found.results}
    )


def quick_notes() -> list[str]:
    """Notes on what the quick scale shows."""
    return [
        text_runs.stand_in_note("examples of all prompts of its domain, test prompts included")
        + " RL sees only the training prompts.",
        "The quick scale's steps, learning rates and stand-ins were chosen for low cost, and by results on "
        "these same test prompts with one seed. Its verdicts show what the item measures; they do not test "
        "the claims.",
    ]


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
        f"responses each, learning rate {listing(list(rates))}, β = {first.beta[0]:g}, "
        f"{plural(len(first.seeds), 'seed')}; {first.samples} samples of each test prompt. Numbers of "
        f"training and test prompts: {splits}. The paper gives its splits and LoRA settings, but no steps, "
        "learning rates, group sizes or numbers of samples; the numbers of its table could not be recovered.",
        "FlowRL has the form of its paper, without β."
        + (
            ' MARA is uniform over answers (`level = "outcomes"`), with τ = 0.5; OMM is outcome marginal '
            "matching, ours."
            if {MARA, OMM} & set(next(iter(runs.values())).results)
            else " MARA and our own method are in recipes/hypospace-*.toml."
        ),
    ]
    if scale.kind == "quick":
        shown += quick_notes()
    if scale.kind == "real":
        shown.append(
            "Shortened for a CPU: Tables 2 and 4 and Figure 2 cover only Boolean expressions, which have the "
            "shortest answers. So few steps and responses, with one seed, do not rank the methods."
        )
    if scale.kind == "paper":
        shown.append("The paper's model has 4-bit weights; here they are in bfloat16.")
    for domain, found in runs.items():
        shown += [
            f"{DOMAINS[domain]}: {note}" for note in text_runs.warm_start_note(found.config, found.before)
        ]
    return shown
