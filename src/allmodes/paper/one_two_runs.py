"""Runs of the 1-2 task by method, KL, β and seed, the basis of MARA's Figures 6, 9 and 10.

Quick scale uses the stand-in, real scale SmolLM2 after a warm start, paper scale the paper's model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from allmodes.paper import text_runs
from allmodes.paper.reproduction import Progress, Scale
from allmodes.paper.text_runs import Subject
from allmodes.text.base_statistics import BaseStatistics
from allmodes.text.config import TextConfig
from allmodes.text.reporting.curves import Bin, bins
from allmodes.text.reporting.results import Arm, TextResult
from allmodes.text.stand_ins.stand_in import make_stand_in

HIGH_REWARD, ONE_ANSWER = 0.9, 0.95
"""From this mean reward of its last bin on, a run counts as having learned the task; from this share on, an
answer counts as the only one."""

_COMMON: dict[str, Any] = {
    "kind": "text", "task": "one_two", "trainer": ["rloo"], "kl": ["reverse"], "method": ["vanilla"],
    "beta": [0.01], "steps": 104, "group_size": 32, "learning_rate": 1e-3, "max_tokens": 24, "samples": 1024,
    "bin": 8, "threads": 1, "log_samples": False, "checkpoint_every": 10_000,
}  # fmt: skip
_REAL: dict[str, Any] = {
    "steps": 24, "learning_rate": 2e-4, "lora": {}, "max_tokens": 24, "samples": 512, "bin": 6,
    "warm_start": {"steps": 12, "learning_rate": 8e-5}, "seeds": [0], "checkpoint_every": 5,
}  # fmt: skip
_PAPER: dict[str, Any] = {
    "steps": 300, "learning_rate": 1e-6, "max_tokens": 256, "samples": 8192, "precision": "bfloat16",
    "micro_batch": 8, "gradient_checkpointing": True, "threads": None, "seeds": [0, 1, 2],
}  # fmt: skip


def _make_stand_in(folder: Path, scale: Scale) -> None:
    make_stand_in(folder, steps=None if scale.steps >= 1 else scale.own_steps(300))


SUBJECT = Subject(name="one-two", paper_model="Qwen/Qwen2.5-3B", make_stand_in=_make_stand_in)


@final
@dataclass(frozen=True, kw_only=True)
class Runs:
    """The finished runs.

    base: the policy that every run begins with. before: its statistics before a warm start, if any. bins: of
    each run's training, by arm and seed.
    """

    config: TextConfig
    base: TextResult
    before: BaseStatistics | None
    bins: Mapping[tuple[Arm, int], Sequence[Bin]]

    def of(self, method: str) -> list[Bin]:
        """The last bin of each run of a method."""
        return [found[-1] for (arm, _), found in self.bins.items() if arm.method == method]


def configuration(scale: Scale, **changes: Any) -> TextConfig:
    """The configuration of a scale; `changes` are for quick scale; real and paper scale override them."""
    own = {"real": _REAL, "paper": _PAPER}.get(scale.kind, {})
    values = {**_COMMON, **changes, **own}
    if scale.steps < 1:
        values |= {"steps": 2 * scale.own_steps(values["steps"]), "samples": 16, "bin": 1, "group_size": 4}
    return TextConfig.model_validate(values)


def run(configs: Sequence[TextConfig], scale: Scale, progress: Progress, *, item: str) -> Runs:
    """Train every combination of each configuration, or reuse the runs of other items.

    configs: they differ only in what is compared. Raises as `text_runs.run` does.
    """
    runs = text_runs.run(SUBJECT, configs, scale, progress, item=item, is_measured=False)
    return Runs(
        config=configs[0],
        base=runs.base,
        before=runs.before,
        bins={
            (one.arm, one.seed): bins(one.rows(), size=one.config.bin, knows_answers=True)
            for one in runs.done
        },
    )


def numbers(runs: Runs) -> dict[str, Any]:
    """The base model's answers and the last steps of each run, ready for JSON."""
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
    """The share of "1" among valid answers; NaN if there are none."""
    total = sum(counts.values())
    return counts.get("1", 0) / total if total else math.nan


def has_one_answer(counts: Mapping[str, int]) -> bool:
    """Whether one answer counts as the only one; False if no answer is valid."""
    share = share_of_one(counts)
    return not math.isnan(share) and max(share, 1 - share) >= ONE_ANSWER


def mean(values: Sequence[float]) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def notes(scale: Scale, runs: Runs) -> list[str]:
    """What was trained, and on what."""
    config = runs.config
    shown = [
        f"{len(runs.bins)} runs of {config.steps} steps of {config.group_size} responses, learning rate "
        f"{config.learning_rate:g}, rewards not scaled; curves average {config.bin} steps. The paper gives "
        "neither its values of β nor its seeds. A run has learned the task if the mean reward of its last "
        f"{config.bin} steps is at least {HIGH_REWARD}, and has one answer if its share in these steps is at "
        f"least {ONE_ANSWER:.0%}.",
    ]
    if scale.kind == "real":
        shown.append("Shortened for a CPU: one seed, and fewer steps than the quick scale's 104.")
    if scale.kind == "quick":
        shown.append(text_runs.stand_in_note("generated responses with the paper's share of right answers"))
    return [*shown, *text_runs.warm_start_note(config, runs.before)]
