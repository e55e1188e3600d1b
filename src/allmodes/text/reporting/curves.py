"""Curves over training from bins of steps, and the Pareto front of the bins."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from allmodes.metrics import count_entropy

_DIVERSITIES = ("semantic_diversity", "good_answers", "answers/distinct")  # the first that a row has


@final
@dataclass(frozen=True, kw_only=True)
class Bin:
    """Consecutive steps. step: the last; steps: how many. reward, diversity: NaN if none was measured.

    diversity: entropy in nats of all valid answers of the bin, where all prompts have the same known answers;
    else the mean semantic diversity of a group, or the number of its different good answers where these are
    known, or of all its different answers. counts:
    how often each known answer came.
    """

    step: int
    steps: int
    reward: float
    diversity: float
    counts: Mapping[str, int]


def bins(rows: Sequence[Mapping[str, Any]], *, size: int, knows_answers: bool) -> list[Bin]:
    """The rows of a run's metrics, `size` steps a bin; what is left at the end makes a bin of its own.

    Source: MARA, Figure 10, which takes 8 batches together.
    """
    return [_bin(rows[start : start + size], knows_answers) for start in range(0, len(rows), size)]


def _bin(rows: Sequence[Mapping[str, Any]], knows_answers: bool) -> Bin:
    counts = sum((Counter(row["counts"]) for row in rows), Counter[str]())
    return Bin(
        step=rows[-1]["step"],
        steps=len(rows),
        reward=_mean(row.get("reward") for row in rows),
        diversity=count_entropy(counts.values())
        if knows_answers
        else _mean(next((row[key] for key in _DIVERSITIES if key in row), None) for row in rows),
        counts=counts,
    )


def _mean(values: Any) -> float:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else math.nan


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point equals or beats in both numbers, sorted by the first number.

    More is better in both. Points with a NaN are left out, and of equal points one stays.
    """
    known = [point for point in set(points) if not any(math.isnan(value) for value in point)]
    front: list[tuple[float, float]] = []
    best = -math.inf
    for point in sorted(known, reverse=True):
        if point[1] > best:
            front.append(point)
            best = point[1]
    return front[::-1]
