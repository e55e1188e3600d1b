"""Statistics of a model before any reinforcement learning: shares of valid responses and of answers."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from allmodes.errors import InputError
from allmodes.metrics import summarise
from allmodes.reports.formatting import listing
from allmodes.runs.files import write_text
from allmodes.tasks import Task

_FILE = "statistics.json"
_SHOWN = 4  # known answers that a sentence names


@final
@dataclass(frozen=True, kw_only=True)
class Share:
    """A share with its standard error; both None if there is nothing to count."""

    mean: float | None
    standard_error: float | None

    def __str__(self) -> str:
        return "–" if self.mean is None else f"{self.mean:.3f} ± {self.standard_error:.3f}"


@final
@dataclass(frozen=True, kw_only=True)
class BaseStatistics:
    """Samples of a model, by answer.

    valid: share of the responses that give a known answer. answers: share of each known answer among the
    valid responses, by its text, or where prompts have different answers by its position among the known
    answers of its prompt, in the task's order: "answer 1" is each prompt's first. Shares are means over
    prompts (those of an answer over prompts with a valid response and with such an answer). Their standard
    errors are those of the mean over prompts; with one prompt binomial.
    """

    prompts: int
    samples: int
    valid: Share
    answers: dict[str, Share]

    def describe(self) -> str:
        """The shares of valid responses and of the first known answers, with standard errors."""
        found = [f"{name} {share}" for name, share in list(self.answers.items())[:_SHOWN]]
        more = len(self.answers) - len(found)
        rest = [f"{more} more"] if more > 0 else []
        return f"{self.valid} of {self.samples:,} responses valid; of these {listing([*found, *rest])}"

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "BaseStatistics":
        """Of the dataclass as a JSON object."""
        answers = {name: Share(**share) for name, share in row["answers"].items()}
        return cls(
            prompts=row["prompts"], samples=row["samples"], valid=Share(**row["valid"]), answers=answers
        )


@final
@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """base: statistics of the base model of all runs. before: those before its warm start, if it had one."""

    base: BaseStatistics
    before: BaseStatistics | None

    def save(self, folder: Path) -> None:
        """Write statistics.json into the base model's folder."""
        write_text(folder / _FILE, json.dumps(asdict(self), indent=1) + "\n")


def load_base_model(folder: Path) -> BaseModel | None:
    """Read the result of `save`; None if answers are not known, or an older version wrote the folder.

    The file is covered by the checksums of the folder's result.
    """
    if not (folder / _FILE).exists():
        return None
    found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    before = found["before"]
    return BaseModel(
        base=BaseStatistics.from_json(found["base"]),
        before=None if before is None else BaseStatistics.from_json(before),
    )


def base_statistics(
    task: Task, prompts: Sequence[str], responses: Sequence[Sequence[str]]
) -> BaseStatistics | None:
    """The statistics of responses to each prompt; None if a prompt's answers are not known.

    Raises InputError without a prompt or for a prompt without responses.
    """
    if not prompts or not all(responses):
        raise InputError("`responses` must hold at least one response to each of at least one prompt")
    known = [task.known_answers(prompt) for prompt in prompts]
    if any(answers is None for answers in known):
        return None
    lists = [answers for answers in known if answers is not None]
    valid: list[tuple[float, int]] = []
    shares: dict[str, list[tuple[float, int]]] = {}
    are_same = len(set(lists)) == 1
    for answers, texts in zip(lists, responses, strict=True):
        counts = Counter(answer for text in texts if (answer := task.parse(text)) in set(answers))
        total = counts.total()
        valid.append((total / len(texts), len(texts)))
        for place, answer in enumerate(answers, 1):
            seen = shares.setdefault(answer if are_same else f"answer {place}", [])
            if total:
                seen.append((counts[answer] / total, total))
    return BaseStatistics(
        prompts=len(prompts),
        samples=sum(map(len, responses)),
        valid=_share(valid),
        answers={name: _share(values) for name, values in shares.items()},
    )


def _share(values: Sequence[tuple[float, int]]) -> Share:
    """values: the share in each prompt's responses, and of how many it is one."""
    if not values:
        return Share(mean=None, standard_error=None)
    if len(values) == 1:
        share, count = values[0]
        return Share(mean=share, standard_error=math.sqrt(share * (1 - share) / count))
    summary = summarise([share for share, _ in values])
    return Share(mean=summary.mean, standard_error=summary.std / math.sqrt(summary.count))
