"""Views of results in a report: answers, recovery of sets of answers, or diversity of texts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from allmodes.metrics import count_entropy
from allmodes.reports.comparison import DASH, Metric
from allmodes.text.reporting.results import TextResult

COLLAPSED = 0.95  # a result is collapsed if one answer has at least this share of the valid answers


@final
@dataclass(frozen=True, kw_only=True)
class View:
    """The columns of a report's tables, and the diversity that its curves show.

    metrics: the tested figures of a method's results, a quality first. extras: other cells of a method, from
    its results of all seeds, by heading. own: cells of a single result, by heading. answers: the known
    answers, where all prompts have the same; diversity: the name of what curves over training show, and the
    base model's.
    """

    metrics: Sequence[Metric[TextResult]]
    extras: Mapping[str, Callable[[Sequence[TextResult]], str]]
    own: Mapping[str, Callable[[TextResult], str]]
    answers: Sequence[str]
    diversity: tuple[str, float]

    @property
    def headings(self) -> list[str]:
        """Of the metrics and the extras."""
        return [*(metric.name for metric in self.metrics), *self.extras]


def view_of(base: TextResult) -> View:
    """What suits the task of a base model's result."""
    if base.recovery:
        return _of_recovery()
    return _of_answers(base) if base.answers else _of_texts(base)


def _of_answers(base: TextResult) -> View:
    answers = list(base.answers)
    first = answers[0]

    def count(answer: str) -> Callable[[TextResult], str]:
        return lambda result: f"{result.answers[answer]:,}"

    def shares(results: Sequence[TextResult]) -> str:
        found = [answer_share(result, first) for result in results]
        return ", ".join(DASH if math.isnan(share) else f"{share:.2f}" for share in found)

    def collapsed(results: Sequence[TextResult]) -> str:
        return f"{sum(map(is_collapsed, results))} of {len(results)}"

    return View(
        metrics=[_REWARD, _metric("entropy of valid answers", "answer_entropy", hint="nats")],
        extras={f"share of {first}, by seed": shares, "collapsed": collapsed},
        own={
            **_QUALITY,
            "Entropy, nats": _figure("answer_entropy"),
            **{f"“{answer}”": count(answer) for answer in answers},
            **_UNSCORED,
        },
        answers=answers,
        diversity=("Entropy of valid answers, nats", count_entropy(base.answers.values())),
    )


def _of_recovery() -> View:
    names = {"valid rate": "valid_rate", "uniqueness": "uniqueness", "recovery rate": "recovery_rate"}

    def with_error(key: str) -> Callable[[TextResult], str]:
        def cell(result: TextResult) -> str:
            if key not in result.metrics:
                return DASH
            return f"{result.metrics[key]:.3f} ± {result.errors[key]:.3f}"

        return cell

    return View(
        metrics=[_metric(name, key) for name, key in names.items()],
        extras={},
        own={**{name.capitalize(): with_error(key) for name, key in names.items()}, **_UNSCORED},
        answers=[],
        diversity=("Different good answers in a group", math.nan),
    )


def _of_texts(base: TextResult) -> View:
    # The number of different answers depends on that of samples: the base model's is not comparable.
    semantic = base.metrics.get("semantic_diversity")
    return View(
        metrics=[
            _REWARD,
            _metric("distinct answers", "distinct_classes", hint="to a prompt"),
            _metric("semantic diversity", "semantic_diversity"),
        ],
        extras={},
        own={
            **_QUALITY,
            "Distinct answers": lambda result: f"{result.metrics['distinct_classes']:.2f}",
            "Semantic diversity": _figure("semantic_diversity"),
            **_UNSCORED,
        },
        answers=[],
        diversity=("Different answers in a group", math.nan)
        if semantic is None
        else ("Semantic diversity of a group", semantic),
    )


def _metric(name: str, key: str, *, hint: str = "") -> Metric[TextResult]:
    return Metric(
        name=name,
        value=lambda result: result.metrics.get(key),
        digits=3,
        better=f"higher {name}",
        worse=f"lower {name}",
        hint=hint,
    )


def _figure(key: str) -> Callable[[TextResult], str]:
    return lambda result: _number(result.metrics.get(key, math.nan))


def _number(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.3f}"


_REWARD = Metric[TextResult](
    name="reward", value=lambda result: result.reward, digits=3, better="higher reward", worse="lower reward"
)
_QUALITY: dict[str, Callable[[TextResult], str]] = {
    "Reward": lambda result: _number(result.reward),
    "Valid answers": _figure("valid_answers"),
}
_UNSCORED: dict[str, Callable[[TextResult], str]] = {
    "Without reward": lambda result: f"{result.unscored:,} of {result.samples:,}"
}


def answer_share(result: TextResult, answer: str) -> float:
    """Share of an answer among the valid ones; NaN if there are none."""
    total = sum(result.answers.values())
    return result.answers[answer] / total if total else math.nan


def is_collapsed(result: TextResult) -> bool:
    """Whether one answer has nearly all valid responses, or none is valid."""
    shares = [answer_share(result, answer) for answer in result.answers]
    return any(math.isnan(share) or share >= COLLAPSED for share in shares)
