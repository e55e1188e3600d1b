"""Results of a run: samples of its policy, and their figures."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from allmodes.errors import RunError, one_line
from allmodes.metrics import distinct_k, partition, summarise
from allmodes.metrics.text import words
from allmodes.runs.seals import check_last_line, read_sealed_json, seal_json
from allmodes.tasks import Creative, Task
from allmodes.text.config import KL, Trainer
from allmodes.text.evaluation.evaluate import Measures, measure_prompt
from allmodes.text.evaluation.generations import Generation

# Timings are sealed by their own last line: no two runs have the same, and equal runs have equal results.
_BESIDE = ("metrics.jsonl", "samples.jsonl", "generations.jsonl", "*.json", "*.safetensors")
_MEASURES = Measures(tokenise=words, vocabulary_size=50257, embed=None, ks=())


@final
@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is compared: how a run is trained, but for its seed."""

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
    empty where none are known. metrics: as `allmodes evaluate` names them, each the mean over prompts.
    """

    arm: Arm | None
    seed: int
    samples: int
    unscored: int
    reward: float
    answers: dict[str, int]
    metrics: dict[str, float]

    def save(self, path: Path) -> None:
        """Write as JSON, with checksums of what else the run has left beside it."""
        row = {**asdict(self), "reward": None if math.isnan(self.reward) else self.reward}
        beside = [file for pattern in _BESIDE for file in sorted(path.parent.glob(pattern)) if file != path]
        seal_json(path, row, files=beside)


def load_result(path: Path) -> TextResult:
    """Read what `save` wrote. Raises RunError for anything else."""
    row = read_sealed_json(path)
    if (timing := path.with_name("timing.jsonl")).exists():
        check_last_line(timing)
    try:
        arm = row.pop("arm")
        reward = row.pop("reward")
        return TextResult(
            arm=None if arm is None else Arm(**arm),
            reward=math.nan if reward is None else reward,
            **row,
        )
    except (KeyError, TypeError) as error:
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
    for prompt, texts in zip(prompts, responses, strict=True):
        known = task.known_answers(prompt)
        if known is not None:
            answers.update(dict.fromkeys(known, 0))
        generations = []
        for text, reward in zip(texts, task.rewards([prompt] * len(texts), texts), strict=True):
            answer = task.parse(text)
            row: dict[str, Any] = {"prompt": prompt, "response": text, "reward": reward, "answer": answer}
            if known is not None:
                row["correct"] = answer in known
                answers.update([answer] if answer in known else [])
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
    )
    return result, rows
