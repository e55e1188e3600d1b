"""HypoSpace by group sizes and clippings of IPS-GRPO, and by GRPO: the runs of IPS's Table 4.

At quick scale on a stand-in, at real scale on SmolLM2 after a warm start, at paper scale on the paper's
model. The real and the paper's scale keep their work below the folder that the environment variable
ALLMODES_HYPOSPACE_WORK names, else below runs/hypospace-work: a killed run resumes there.
"""

import itertools
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from allmodes.metrics import summarise
from allmodes.paper.real_models import SMOLLM2, smollm2
from allmodes.paper.reproduction import Progress, Scale
from allmodes.runs.experiment import refuse_other_settings
from allmodes.runs.folder import RunFolder
from allmodes.runs.seals import read_sealed_json, seal_json
from allmodes.text.adapters import merged
from allmodes.text.base_statistics import BaseStatistics
from allmodes.text.config import STAND_IN, TextConfig
from allmodes.text.models import free_memory, load_model, load_tokenizer, quieten
from allmodes.text.packaged_models import packaged_file
from allmodes.text.reporting.results import TextResult, load_result, result_of
from allmodes.text.stand_ins.task_stand_in import LEAST, make_task_stand_in
from allmodes.text.training import arms, measured_prompts, policy_responses, train
from allmodes.text.warm_start import warm_started

WORK = "ALLMODES_HYPOSPACE_WORK"
Cell = tuple[int, float | None]  # group size and p_min; None is GRPO

_STAND_IN_STEPS = 100
_COMMON: dict[str, Any] = {
    "kind": "text", "trainer": "grpo", "kl": "reverse", "beta": 0.01, "scale_rewards": True, "seeds": [0],
    "task": {"kind": "hypospace", "domain": "boolean", "train": 8, "test": 8}, "steps": 24,
    "learning_rate": 1e-3, "max_tokens": 16, "samples": 32, "log_samples": False,
}  # fmt: skip
_REAL: dict[str, Any] = {
    "task": {"kind": "hypospace", "domain": "boolean", "train": 39, "test": 16}, "steps": 30,
    "learning_rate": 1e-4, "lora": {}, "warm_start": {"steps": 48, "skew": 1.25}, "max_tokens": 32,
    "sample_batch": 128, "checkpoint_every": 5,
}  # fmt: skip
_PAPER: dict[str, Any] = {
    "task": {"kind": "hypospace", "domain": "causal", "train": 50, "test": 50}, "steps": 300,
    "learning_rate": 1e-5, "lora": {"r": 16, "alpha": 32.0, "dropout": 0.05}, "max_tokens": 64,
    "micro_batch": 16, "precision": "bfloat16", "seeds": [0, 1, 2],
}  # fmt: skip
_PAPER_MODEL = "google/gemma-3-4b-it"


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """Group sizes, values of p_min, and responses of a step, which all cells have alike."""

    groups: tuple[int, ...]
    clips: tuple[float, ...]
    batch: int

    def cells(self) -> list[Cell]:
        """Every group size with every p_min, and with GRPO."""
        return list(itertools.product(self.groups, (*self.clips, None)))


_GRIDS = {
    "quick": Grid(groups=(4, 16, 32), clips=(0.0, 0.1, 0.5), batch=32),
    "real": Grid(groups=(4, 8, 16, 32), clips=(0.0, 0.1, 0.5), batch=32),
    "paper": Grid(groups=(4, 8, 16, 32, 64), clips=(0.0, 0.05, 0.1, 0.2, 0.5), batch=64),
}
_SMALLEST = Grid(groups=(4, 8), clips=(0.0, 0.5), batch=8)  # in tests alone


@final
@dataclass(frozen=True, kw_only=True)
class Runs:
    """results: of each seed, by cell. rewards: of each seed the steps' mean rewards. before: a warm start."""

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
        """The bootstrap's standard error of recovery over prompts, of the seeds' mean as if independent."""
        errors = [result.errors["recovery_rate"] for result in self.results[cell]]
        return math.sqrt(math.fsum(error**2 for error in errors)) / len(errors)

    def unsteadiness(self, cell: Cell) -> float:
        """Standard deviation of a step's mean reward over the second half of training, mean over seeds."""
        halves = [rewards[len(rewards) // 2 :] for rewards in self.rewards[cell]]
        return summarise([_deviation(half) for half in halves]).mean


def _deviation(values: Sequence[float]) -> float:
    return summarise(values).std if len(values) > 1 else 0.0


def kind_of(scale: Scale) -> str:
    """The name of the settings: "real" and "paper" have their own, any other scale those of "quick"."""
    return scale.name if scale.name in ("real", "paper") else "quick"


def grid_of(scale: Scale) -> Grid:
    """The cells of a scale."""
    return _SMALLEST if scale.steps < 1 else _GRIDS[kind_of(scale)]


def configuration(scale: Scale, cell: Cell) -> TextConfig:
    """The runs of a cell, one a seed."""
    (group, clip), grid = cell, grid_of(scale)
    values = {
        **_COMMON, **{"real": _REAL, "paper": _PAPER}.get(kind_of(scale), {}),
        "group_size": group, "prompts_per_step": grid.batch // group,
        "method": "vanilla" if clip is None else "ips",
        "methods": {} if clip is None else {"ips": {"min_probability": clip}},
    }  # fmt: skip
    if scale.steps < 1:
        values |= {"steps": 1, "samples": 4}
    return TextConfig.model_validate(values)


def representative(cell: Cell) -> Cell:
    """The cell that is the same training: p_min ≤ 1/G changes nothing, since no frequency is below 1/G."""
    group, clip = cell
    return (group, 0.0) if clip is not None and clip <= 1 / group else cell


def run(scale: Scale, progress: Progress, *, item: str) -> Runs:
    """Do the runs that the scale's folder does not have yet, and read all of them.

    progress: called with 1 after each training step. Raises ConfigError for a model, package or accelerator
    that is missing; RunError where the folder holds runs of other settings or is in use.
    """
    quieten()
    _check_model(scale, item=item)
    grid = grid_of(scale)
    with _folder(scale) as folder, RunFolder(folder):
        _check_same(scale, grid, folder / "settings.json")
        first = configuration(scale, grid.cells()[0])
        model, before = _base_model(scale, first, folder, item=item)
        base = folder / "base.json"
        if not base.exists():
            _measure(first, load_model(model), model, arm=None, seed=first.seeds[0], path=base)
        results: dict[Cell, list[TextResult]] = {}
        rewards: dict[Cell, list[list[float]]] = {}
        for cell in grid.cells():
            same = representative(cell)
            if same in results:
                results[cell], rewards[cell] = results[same], rewards[same]
                continue
            config = configuration(scale, cell)
            found = [_run_cell(config, cell, seed, model, folder, progress) for seed in config.seeds]
            results[cell], rewards[cell] = [one for one, _ in found], [steps for _, steps in found]
        return Runs(
            grid=grid, config=first, base=load_result(base), before=before, results=results, rewards=rewards
        )


def _check_model(scale: Scale, *, item: str) -> None:
    """Raise ConfigError where the model of a scale is not at hand, before there is a folder."""
    from allmodes.paper.table1_inputs import check_models

    if kind_of(scale) == "paper":
        check_models((_PAPER_MODEL,), item=item, on_accelerator=True)
    elif kind_of(scale) == "real":
        packaged_file("smollm2")


@contextmanager
def _folder(scale: Scale) -> Iterator[Path]:
    if kind_of(scale) == "quick":
        with tempfile.TemporaryDirectory(prefix="allmodes-ips-table4-") as name:
            yield Path(name)
    else:
        yield Path(os.environ.get(WORK, "runs/hypospace-work")).absolute() / scale.name / "ips-table4"


def _check_same(scale: Scale, grid: Grid, path: Path) -> None:
    cells = {name_of(cell): configuration(scale, cell).model_dump(mode="json") for cell in grid.cells()}
    now = json.loads(json.dumps(cells))
    if not path.exists():
        seal_json(path, now)
    refuse_other_settings(path.parent, then=read_sealed_json(path), now=now)


def _base_model(
    scale: Scale, config: TextConfig, folder: Path, *, item: str
) -> tuple[str, BaseStatistics | None]:
    """Folder or name of the model that runs begin with, and the shares of answers before its warm start."""
    kind, task = kind_of(scale), config.task.make()
    if kind == "paper":
        return _PAPER_MODEL, None
    if kind == "quick":
        out = folder / "stand-in"
        least = LEAST if scale.steps >= 1 else 0.0
        make_task_stand_in(task, out, steps=scale.own_steps(_STAND_IN_STEPS), least=least)
        return str(out), None
    model = smollm2(folder.parent, item=item)
    if config.warm_start is None:
        return model, None
    return warm_started(
        config, config.warm_start, task, task.prompts,
        measured=measured_prompts(config, task, load_tokenizer(model)), model=model,
        out=folder / "warm-start", on_step=lambda _: None,
    )  # fmt: skip


def _run_cell(
    config: TextConfig, cell: Cell, seed: int, model: str, folder: Path, progress: Progress
) -> tuple[TextResult, list[float]]:
    """Train and measure where that is not done. The result, and the mean reward of each step."""
    (arm,) = arms(config)
    with RunFolder(folder / f"{name_of(cell)}-{seed}") as runs:
        path = runs.path / "result.json"
        if not path.exists():
            trainer = train(
                config, config.task.make(), arm, seed=seed, model=model, folder=runs,
                on_step=lambda _: progress(1),
            )  # fmt: skip
            _measure(config, merged(trainer.model, source=model), model, arm=arm, seed=seed, path=path)
            del trainer
            free_memory()
        shutil.rmtree(runs.path / "trainer", ignore_errors=True)  # nothing is left to resume
        steps = [row["reward"] for row in runs.read_metrics()]
        return load_result(path), [reward for reward in steps if reward is not None]


def _measure(config: TextConfig, policy: Any, model: str, *, arm: Any, seed: int, path: Path) -> None:
    """Sample a policy on the test prompts and save its result."""
    task, tokenizer = config.task.make(), load_tokenizer(model)
    prompts = measured_prompts(config, task, tokenizer)
    responses = policy_responses(config, policy, tokenizer, prompts, count=config.samples, seed=seed)
    result, _ = result_of(task, prompts, responses, arm=arm, seed=seed)
    result.save(path)


def name_of(cell: Cell) -> str:
    """For files and numbers."""
    group, clip = cell
    return f"groups-of-{group}-" + ("grpo" if clip is None else f"p-min-{clip:g}")


def whose(scale: Scale) -> str:
    """The model of a scale, as verdicts name it."""
    return {"real": f"{SMOLLM2}, warm-started", "paper": _PAPER_MODEL}.get(scale.name, STAND_IN)
