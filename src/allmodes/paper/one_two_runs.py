"""The 1-2 task by methods, KLs, βs and seeds: what MARA's Figures 6, 9 and 10 are drawn from.

At quick scale on the stand-in, at real scale on SmolLM2 after a warm start, at paper scale on the paper's
model.
"""

import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

from allmodes.paper.real_models import SMOLLM2, smollm2
from allmodes.paper.reproduction import Progress, Scale
from allmodes.runs.folder import RunFolder
from allmodes.text.base_statistics import BaseStatistics
from allmodes.text.config import STAND_IN, TextConfig
from allmodes.text.models import free_memory, load_model, load_tokenizer, quieten
from allmodes.text.reporting.curves import Bin, bins
from allmodes.text.reporting.results import Arm, TextResult, result_of
from allmodes.text.sampling import sample_responses
from allmodes.text.training import arms, train

HIGH_REWARD, ONE_ANSWER = 0.9, 0.95
"""Mean reward of the last bin from which a run counts as having learned the task; the share of an answer
from which it is all there is."""

_COMMON: dict[str, Any] = {
    "kind": "text", "task": "one_two", "trainer": ["rloo"], "kl": ["reverse"], "method": ["vanilla"],
    "beta": [0.01], "steps": 104, "group_size": 32, "learning_rate": 1e-3, "max_tokens": 24, "samples": 1024,
    "bin": 8, "threads": 1, "log_samples": False, "checkpoint_every": 10_000,
}  # fmt: skip
_REAL: dict[str, Any] = {
    "steps": 80, "learning_rate": 2e-4, "lora": {}, "max_tokens": 32, "samples": 512,
    "warm_start": {"steps": 12, "learning_rate": 8e-5}, "seeds": [0],
}  # fmt: skip
_PAPER: dict[str, Any] = {
    "steps": 300, "learning_rate": 1e-6, "max_tokens": 256, "samples": 8192, "precision": "bfloat16",
    "micro_batch": 8, "gradient_checkpointing": True, "threads": None, "seeds": [0, 1, 2],
}  # fmt: skip
_PAPER_MODEL = "Qwen/Qwen2.5-3B"


@final
@dataclass(frozen=True, kw_only=True)
class Runs:
    """base: the policy that every run begins with. before: of a model before its warm start, if it had one.

    bins: of each run's training, by arm and seed.
    """

    config: TextConfig
    base: TextResult
    before: BaseStatistics | None
    bins: Mapping[tuple[Arm, int], Sequence[Bin]]

    def of(self, method: str) -> list[Bin]:
        """The last bin of each run of a method."""
        return [found[-1] for (arm, _), found in self.bins.items() if arm.method == method]


def configuration(scale: Scale, **changes: Any) -> TextConfig:
    """The runs of a scale; `changes` are of the quick scale's settings, `real` and `paper` of those."""
    own = {"real": _REAL, "paper": _PAPER}.get(scale.name, {})
    values = {**_COMMON, **changes, **own}
    if scale.steps < 1:
        values |= {"steps": 2 * scale.own_steps(values["steps"]), "samples": 16, "bin": 1, "group_size": 4}
    return TextConfig.model_validate(values)


def run(configs: Sequence[TextConfig], scale: Scale, progress: Progress, *, item: str) -> Runs:
    """Prepare the base model, measure it, and train every combination of each configuration; no file stays.

    configs: which differ in what is compared alone. Raises ConfigError for a model, package or accelerator
    that is missing.
    """
    quieten()
    config = configs[0]
    with tempfile.TemporaryDirectory(prefix=f"allmodes-{item}-") as name:
        folder = Path(name)
        task = config.task.make()
        model, before = base_model(config, scale, folder, item=item)
        progress(1)
        tokenizer, policy = load_tokenizer(model), load_model(model)
        responses = sample_responses(
            policy, tokenizer, task.prompts, count=config.samples, max_tokens=config.max_tokens,
            temperature=config.temperature, seed=0, batch_size=config.sample_batch,
        )  # fmt: skip
        base, _ = result_of(task, task.prompts, responses, arm=None, seed=0)
        del policy
        found = {}
        for part in configs:
            for arm, seed in itertools.product(arms(part), part.seeds):
                with RunFolder(folder / f"{arm.folder_name}-{seed}") as runs:
                    train(
                        part, task, arm, seed=seed, model=model, folder=runs,
                        on_step=lambda _: progress(1),
                    )  # fmt: skip
                    found[arm, seed] = bins(runs.read_metrics(), size=config.bin, knows_answers=True)
                free_memory()
    return Runs(config=config, base=base, before=before, bins=found)


def base_model(
    config: TextConfig, scale: Scale, folder: Path, *, item: str
) -> tuple[str, BaseStatistics | None]:
    """Folder or name of the model that runs begin with, and the shares of answers before its warm start."""
    from allmodes.paper.table1_inputs import check_models
    from allmodes.text.warm_start import warm_started

    if scale.name == "paper":
        check_models((_PAPER_MODEL,), item=item, on_accelerator=True)
        return _PAPER_MODEL, None
    model = smollm2(folder, item=item) if scale.name == "real" else _stand_in(scale)
    if config.warm_start is None:
        return model, None
    task = config.task.make()
    return warm_started(
        config, config.warm_start, task, task.prompts, measured=task.prompts, model=model,
        out=folder / "warm-start", on_step=lambda _: None,
    )  # fmt: skip


def _stand_in(scale: Scale) -> str:
    return _made_stand_in(None if scale.steps >= 1 else scale.own_steps(300)).name


@cache
def _made_stand_in(steps: int | None) -> "tempfile.TemporaryDirectory[str]":
    """Built once for all items of a command; it goes with the process."""
    from allmodes.text.stand_ins.stand_in import make_stand_in

    folder = tempfile.TemporaryDirectory(prefix="allmodes-one-two-")
    make_stand_in(Path(folder.name), steps=steps)
    return folder


def numbers(runs: Runs) -> dict[str, Any]:
    """For JSON: the base model's answers and the last steps of each run."""
    return {
        "base": {"samples": runs.base.samples, "reward": runs.base.reward, "answers": runs.base.answers},
        "runs": [
            {
                "trainer": arm.trainer, "kl": arm.kl, "method": arm.method, "beta": arm.beta, "seed": seed,
                "reward": found[-1].reward, "answers": dict(found[-1].counts),
                "entropy": found[-1].diversity, "rewards": [step.reward for step in found],
                "entropies": [step.diversity for step in found],
            }
            for (arm, seed), found in runs.bins.items()
        ],
    }  # fmt: skip


def share_of_one(counts: Mapping[str, int]) -> float:
    """The share of "1" among valid answers; NaN where there are none."""
    total = sum(counts.values())
    return counts.get("1", 0) / total if total else math.nan


def has_one_answer(counts: Mapping[str, int]) -> bool:
    """Whether one answer is all there is; False where no answer is valid."""
    share = share_of_one(counts)
    return not math.isnan(share) and max(share, 1 - share) >= ONE_ANSWER


def number(value: float) -> str:
    """Two digits, or a dash for what there is none of."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def mean(values: Sequence[float]) -> float:
    """Of those that are no NaN; NaN where there are none."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def whose(scale: Scale) -> str:
    """The model of a scale, as verdicts name it."""
    return {"real": f"{SMOLLM2}, warm-started", "paper": _PAPER_MODEL}.get(scale.name, STAND_IN)


def notes(scale: Scale, runs: Runs) -> list[str]:
    """What was trained, and on what."""
    config = runs.config
    shown = [
        f"{len(runs.bins)} runs of {config.steps} steps of {config.group_size} responses, rate "
        f"{config.learning_rate:g}, rewards not scaled; curves take {config.bin} steps together. The paper "
        f"names neither its βs nor its seeds; a run has learned the task from a reward of {HIGH_REWARD} on, "
        f"and has one answer from a share of {ONE_ANSWER:.0%} on, in its last {config.bin} steps.",
    ]
    if scale.name not in ("real", "paper"):
        shown.append(
            "The base model is a stand-in: tiny, built at run time, trained on made-up responses with the "
            "paper's share of right answers. It is no evidence about language models."
        )
    if runs.before is not None and config.warm_start is not None:
        shown.append(
            f"Warm start: {config.warm_start.describe()}. Before it: {runs.before.describe()}. The paper's "
            "base model needs none."
        )
    return shown
