"""Results of a run: samples of its policy and their figures."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from allmodes.errors import RunError, one_line
from allmodes.metrics import (
    bootstrap_sem,
    cumulative_recovery,
    distinct_k,
    partition,
    recovery_rate,
    summarise,
    uniqueness,
    valid_rate,
)
from allmodes.metrics.text import words
from allmodes.runs.seals import check_last_line, read_sealed_json, seal_json
from allmodes.tasks import Creative, Task
from allmodes.text.config import KL, Trainer
from allmodes.text.evaluation.evaluate import Measures, measure_prompt
from allmodes.text.evaluation.generations import Generation

# Timings are sealed by their own last line: no two runs have the same, and equal runs have equal results.
_BESIDE = ("metrics.jsonl", "samples.jsonl", "generations.jsonl", "*.json", "*.safetensors")
RECOVERY_METRICS = ("valid_rate", "uniqueness", "recovery_rate")
_COUNTED = 12  # answers that are counted one by one, with a column each
_POINTS = 32  # of a curve of recovery, evenly over the logarithm of the number of samples
_MEASURES = Measures(tokenise=words, vocabulary_size=50257, embed=None, ks=())


@final
@dataclass(frozen=True, kw_only=True)
class Arm:
    """An arm of the comparison: the settings of a run except the seed."""

    trainer: Trainer
    kl: KL
    method: str
    beta: float

    @property
    def folder_name(self) -> str:
        """For files: letters, digits, hyphens, a point, and a plus sign between methods in a row."""
        return f"{self.trainer}-{self.kl}-{self.method}-{self.beta!r}"


@final
@dataclass(frozen=True, kw_only=True)
class TextResult:
    """The policy at the end of a run; `arm` None is the base model.

    reward: mean over samples that could be scored, NaN for none. answers: how often each known answer came,
    empty if none are known or prompts have different ones. metrics: as `allmodes evaluate` names them,
    each the mean over prompts. recovery: where prompts have different known answers, the cumulative recovery
    as (samples, mean over prompts, bootstrap standard error of that mean); then `metrics` has valid_rate,
    uniqueness and recovery_rate, too, and `errors` their bootstrap standard errors.
    """

    arm: Arm | None
    seed: int
    samples: int
    unscored: int
    reward: float
    answers: dict[str, int]
    metrics: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)
    recovery: tuple[tuple[int, float, float], ...] = ()

    def save(self, path: Path) -> None:
        """Write as JSON, with checksums of what else the run has left beside it."""
        row = {**asdict(self), "reward": None if math.isnan(self.reward) else self.reward}
        beside = [file for pattern in _BESIDE for file in sorted(path.parent.glob(pattern)) if file != path]
        seal_json(path, row, files=beside)


def load_result(path: Path) -> TextResult:
    """Read a file of `save`. Raises RunError for anything else."""
    row = read_sealed_json(path)
    if (timing := path.with_name("timing.jsonl")).exists():
        check_last_line(timing)
    try:
        arm = row.pop("arm")
        reward = row.pop("reward")
        recovery = tuple((k, mean, error) for k, mean, error in row.pop("recovery", ()))
        return TextResult(
            arm=None if arm is None else Arm(**arm),
            reward=math.nan if reward is None else reward,
            recovery=recovery,
            **row,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: expected the result of a run; {one_line(error)}") from error


def result_of(
    task: Task, prompts: Sequence[str], responses: Sequence[Sequence[str]], *, arm: Arm | None, seed: int
) -> tuple[TextResult, list[dict[str, Any]]]:
    """The figures of samples, and the rows of their file, which `allmodes evaluate` reads.

    responses: as many for each prompt as there are.
    """
    rows: list[dict[str, Any]] = []
    answers: Counter[str] = Counter()
    columns: dict[str, list[float]] = {}
    has_sets = has_answer_sets(task, prompts)
    has_counts = not has_sets and len({task.known_answers(prompt) for prompt in prompts}) == 1
    curves: list[list[float]] = []
    for prompt, texts in zip(prompts, responses, strict=True):
        known = task.known_answers(prompt)
        if known is not None and has_counts:
            answers.update(dict.fromkeys(known, 0))
        generations = []
        for text, reward in zip(texts, task.rewards([prompt] * len(texts), texts), strict=True):
            answer = task.parse(text)
            row: dict[str, Any] = {"prompt": prompt, "response": text, "reward": reward, "answer": answer}
            if known is not None:
                row["correct"] = answer in known
                answers.update([answer] if answer in known and has_counts else [])
            rows.append(row)
            generations.append(
                Generation(
                    response=text, reward=reward, score=None, has_answer=True, answer=answer,
                    correct=row.get("correct"),
                )
            )  # fmt: skip
        values = measure_prompt(generations, _MEASURES)
        if isinstance(task, Creative):  # with its judge and its embedder, where it has them
            said = [text for text in texts if task.parse(text) is not None]
            values["distinct_classes"] = distinct_k(partition(said, task.same))
            if (diversity := task.semantic_diversity(texts)) is not None:
                values["semantic_diversity"] = diversity
        if known is not None and has_sets:
            given = [generation.answer for generation in generations]
            values["valid_rate"] = valid_rate(given, known)
            values["recovery_rate"] = recovery_rate(given, known)
            if values["valid_rate"] > 0:
                values["uniqueness"] = uniqueness(given, known)
            curves.append(cumulative_recovery(given, known))
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    rewards = [row["reward"] for row in rows if row["reward"] is not None]
    result = TextResult(
        arm=arm,
        seed=seed,
        samples=len(rows),
        unscored=len(rows) - len(rewards),
        reward=math.fsum(rewards) / len(rewards) if rewards else math.nan,
        answers=dict(answers),
        metrics={name: summarise(values).mean for name, values in columns.items()},
        errors={name: _error(columns[name]) for name in RECOVERY_METRICS if curves and name in columns},
        recovery=_recovery(curves),
    )
    return result, rows


def has_answer_sets(task: Task, prompts: Sequence[str]) -> bool:
    """Whether the answers to all prompts are known, and differ between prompts."""
    known = {task.known_answers(prompt) for prompt in prompts}
    return None not in known and (len(known) > 1 or any(len(one or ()) > _COUNTED for one in known))


def _error(values: Sequence[float]) -> float:
    """The bootstrap standard error of the mean; 0 for a single prompt."""
    return bootstrap_sem(values) if len(values) > 1 else 0.0


def _recovery(curves: Sequence[Sequence[float]]) -> tuple[tuple[int, float, float], ...]:
    """The mean of the curves of all prompts, at up to `_POINTS` numbers of samples."""
    if not curves:
        return ()
    most = len(curves[0])
    points = sorted({round(most ** (place / (_POINTS - 1))) for place in range(_POINTS)})
    columns = [(k, [curve[k - 1] for curve in curves]) for k in points]
    return tuple((k, summarise(values).mean, _error(values)) for k, values in columns)
