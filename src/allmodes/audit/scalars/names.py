"""The means that programs log, and their names: one table for all containers."""

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Literal, get_args

from allmodes.audit.choices import Trainer
from allmodes.audit.logs.vocabulary import column_of

Program = Literal["verl", "openrlhf", "allmodes", "trl"]
Scalar = Literal[
    "reward", "entropy", "distinct", "token_entropy", "kl", "beta", "idle", "truncated", "longest"
]
SCALARS: tuple[Scalar, ...] = get_args(Scalar)
HOLDS: dict[Scalar, str] = {
    "reward": "mean reward",
    "entropy": "entropy of a group's outcomes, nats",
    "distinct": "number of different outcomes in a group",
    "token_entropy": "entropy of the policy over the next token, nats",
    "kl": "KL to the reference, nats",
    "beta": "strength of the KL",
    "idle": "share of groups whose rewards are equal",
    "truncated": "share of truncated responses",
    "longest": "tokens of the longest response",
}
# For each program, the first name that a log has is used. The last names are those of TRL's PPOTrainer; verl
# renamed the entropy in 0.4, and OpenRLHF the truncation in 0.9.
NAMES: dict[Program, dict[Scalar, tuple[str, ...]]] = {
    "trl": {
        "reward": ("reward", "objective/scores"),
        "entropy": ("answers/entropy",),
        "distinct": ("answers/distinct",),
        "token_entropy": ("entropy",),
        "kl": ("kl", "objective/kl"),
        "idle": ("frac_reward_zero_std",),
        "truncated": ("completions/clipped_ratio",),
        "longest": ("completions/max_length",),
    },
    "verl": {
        "reward": ("critic/score/mean", "critic/rewards/mean"),
        "token_entropy": ("actor/entropy", "actor/entropy_loss"),
        "kl": ("actor/kl_loss", "actor/reward_kl_penalty"),
        "beta": ("actor/kl_coef", "actor/reward_kl_penalty_coeff"),
        "truncated": ("response_length/clip_ratio",),
        "longest": ("response_length/max",),
    },
    "openrlhf": {
        "reward": ("reward",),
        "token_entropy": ("entropy_loss",),
        "kl": ("kl",),
        "truncated": ("truncated", "response_clip_ratio"),
    },
    "allmodes": {"reward": ("mean_reward",)},
}
# Names of means that no log of samples has as a column; the first program that matches is used.
SIGNS: dict[Program, frozenset[str]] = {
    "verl": frozenset({"critic/score/mean", "critic/rewards/mean", "actor/pg_loss", "actor/ppo_kl"}),
    "openrlhf": frozenset({"actor_lr"}),
    "allmodes": frozenset({"mean_penalised_reward"}),
    "trl": frozenset(
        {
            "frac_reward_zero_std",
            "completions/mean_length",
            "completions/clipped_ratio",
            "completion_length",
            "objective/scores",
            "answers/entropy",
        }
    ),
}
TRAINERS: dict[Program, Trainer] = {
    "trl": "trl", "verl": "verl", "openrlhf": "openrlhf", "allmodes": "allmodes"
}  # fmt: skip
# Updates made so far; the first name that a log has is used. W&B counts its own calls in `_step`.
STEPS = (
    "step", "global_step", "train/global_step", "trainer/global_step", "training/global_step", "Step",
    "_step",
)  # fmt: skip
KNOWN = frozenset(name for own in NAMES.values() for names in own.values() for name in names)
_OF_EVALUATION = re.compile(r"(eval|val|valid|validation|test)[-_/]")
_TRAIN, _BETWEEN = "train/", " - "
_EXTREMES = ("__MIN", "__MAX")


@cache
def plain_name(column: str) -> str | None:
    """A column's name without the prefix of training; None for a column of an evaluation."""
    name = column.strip()
    return None if _OF_EVALUATION.match(name) else name.removeprefix(_TRAIN)


def program_of(names: Collection[str]) -> Program | None:
    """The program whose means have these plain names; None if no name is unique to a program."""
    return next((program for program, signs in SIGNS.items() if not signs.isdisjoint(names)), None)


def names_of(scalar: Scalar, program: Program | None) -> list[str]:
    """The plain names of a mean, the preferred first; those of all programs if the program is not known."""
    own = NAMES.values() if program is None else [NAMES[program]]
    return [name for names in own for name in names.get(scalar, ())]


def is_chart(columns: Collection[str]) -> bool:
    """Whether these are the columns of a chart of W&B: a step, and `RUN - METRIC` for each run."""
    others = [name for name in columns if name and name not in STEPS]
    return bool(others) and all(_BETWEEN in name for name in others)


def chart_column(column: str) -> tuple[str, str] | None:
    """Run and metric of a chart's column; None for its step, and for extremes of points that were merged."""
    if _BETWEEN not in column or column.endswith(_EXTREMES):
        return None
    run, _, metric = column.rpartition(_BETWEEN)
    return run, metric


def holds_means(first: Mapping[str, Any]) -> bool:
    """Whether a row holds means: it has a name that no log of samples has, and no column of samples."""
    if is_chart(first):
        return True
    if any(column_of(name, first) is not None for name in ("prompt", "response", "outcome")):
        return False
    plain = [name for column in first if (name := plain_name(column)) is not None]
    is_trained = any(column.startswith(_TRAIN) and column.removeprefix(_TRAIN) in KNOWN for column in first)
    return is_trained or program_of(plain) is not None
