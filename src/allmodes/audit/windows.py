"""Diversity of groups of samples over training: each group's figures, windows of steps, and change points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from allmodes.metrics import welch_test
from allmodes.objectives.groups import Groups, group_common, group_mean, group_size, group_sum, pair_groups
from allmodes.reports.formatting import p_relation

MOST_WINDOWS = 20
CLEAR = 0.01  # one-sided p-value from which on a change is more than noise
_MOST_CHANGES = 3
_PENALTY = 5.0  # of a change, in units of log n

Series = Literal["reward", "entropy", "distinct", "different", "repeated", "ead", "token_entropy", "kl"]
SERIES: dict[Series, str] = {
    "reward": "reward",
    "entropy": "entropy of a group's outcomes",
    "distinct": "share of different outcomes in a group",
    "different": "number of different outcomes in a group",  # of a log of means, which has no shares
    "repeated": "share of repeated responses in a group",
    "ead": "EAD of a group's responses",
    "token_entropy": "entropy of tokens",
    "kl": "KL to the reference",
}


@final
@dataclass(frozen=True, kw_only=True)
class GroupFigures:
    """One value for each group that has samples, in the order of their steps; (U,) each.

    steps: of the group. entropy: of its valid outcomes, nats, NaN without one. distinct: different valid
    outcomes over samples. repeated: share of responses that another of the group has said before. reward:
    mean, NaN without one.
    """

    steps: Tensor
    entropy: Tensor
    distinct: Tensor
    repeated: Tensor
    reward: Tensor


def group_figures(
    groups: Groups, steps: Tensor, *, outcomes: Tensor, responses: Tensor | None, rewards: Tensor
) -> GroupFigures:
    """Figures of every group of an update.

    H = −Σ p̂ log p̂ over a group's valid outcomes. outcomes: (N,), −1 where invalid. responses: (N,) equal for
    equal texts; without them `repeated` is NaN. rewards: (N,), NaN where missing. All samples of a group are
    of one step. Source: as `allmodes.metrics.answer_entropy` and `distinct_k`, for all groups at once.
    """
    size = group_size(groups)
    has_samples = size > 0
    step = group_common(steps, groups)
    valid = (outcomes >= 0).nonzero().squeeze(1)
    of_valid = Groups(index=groups.index[valid], count=groups.count)
    entropy, distinct = _entropy_and_distinct(of_valid, outcomes[valid])
    repeated = torch.full((groups.count,), torch.nan, dtype=torch.float64)
    if responses is not None:
        _, different = _entropy_and_distinct(groups, responses)
        repeated = 1 - different / size
    order = torch.argsort(torch.where(has_samples, step, torch.iinfo(torch.long).max), stable=True)
    order = order[: int(has_samples.sum())]
    reward = group_mean(rewards, groups)
    return GroupFigures(
        steps=step[order],
        entropy=entropy[order],
        distinct=(distinct / size)[order],
        repeated=repeated[order],
        reward=reward[order],
    )


def _entropy_and_distinct(groups: Groups, values: Tensor) -> tuple[Tensor, Tensor]:
    pairs = pair_groups(values, groups)
    of_pair = group_common(groups.index, pairs)
    counts = group_size(pairs).double()
    within = Groups(index=of_pair, count=groups.count)
    p = counts / group_size(groups)[of_pair]
    entropy = group_sum(-p * p.log(), within)
    distinct = group_size(within)
    return torch.where(distinct > 0, entropy, torch.nan), distinct.double()


@final
@dataclass(frozen=True, kw_only=True)
class Window:
    """Mean over the groups of some steps and its bootstrap error; NaN where no group has a value."""

    first_step: int
    last_step: int
    mean: float
    error: float
    values: Tensor

    def describe(self) -> str:
        """Its mean, with its error and its steps."""
        has_error = self.error > 1e-6 * abs(self.mean)
        error = f" ± {self.error:.1g}" if has_error else ""
        return f"{self.mean:.3g}{error} in steps {self.first_step} to {self.last_step}"


def error_of_mean(values: Tensor) -> float:
    """Standard error of a mean, σ/√n with σ² = Σ (x − x̄)²/n: the bootstrap's, with resamples without end.

    values: (n,). NaN for fewer than two. Source: Efron 1979; `allmodes.metrics.bootstrap_sem` draws it.
    """
    return float(values.std(correction=0)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def windows(steps: Tensor, values: Tensor) -> list[Window]:
    """At most 20 windows with about as many steps each, and two groups where there are so many.

    steps, values: (U,), sorted by step.
    """
    distinct = steps.unique()
    count = min(MOST_WINDOWS, len(distinct), max(2, len(steps) // 2))
    parts = torch.tensor_split(distinct, count)
    found = []
    for part in parts:
        first, last = int(part[0]), int(part[-1])
        own = values[(steps >= first) & (steps <= last)]
        own = own[~own.isnan()]
        found.append(
            Window(
                first_step=first,
                last_step=last,
                mean=float(own.mean()) if len(own) else math.nan,
                error=error_of_mean(own),
                values=own,
            )
        )
    return found


def error_of_entropy(counts: Tensor) -> float:
    """Standard error of H = −Σ p̂ log p̂ of counted outcomes, by the bootstrap.

    counts: (K,), above 0. Poisson numbers of each outcome stand for those of resamples, so that no sample has
    to be drawn. Source: Efron 1979; Hanley and MacGibbon 2006 for the Poisson numbers.
    """
    generator = torch.Generator().manual_seed(0)
    resamples = max(2, min(200, 2**22 // len(counts)))
    drawn = torch.poisson(counts.double().repeat(resamples, 1), generator=generator)
    shares = drawn / drawn.sum(1, keepdim=True).clamp(min=1)
    return float(torch.special.entr(shares).sum(1).std())


@final
@dataclass(frozen=True, kw_only=True)
class Course:
    """A figure over training, window by window, without those that have none; at least two of them.

    changes: the steps at which its level changes.
    """

    windows: list[Window]
    changes: list[int]

    @property
    def first(self) -> Window:
        """The first window."""
        return self.windows[0]

    @property
    def last(self) -> Window:
        """The last window."""
        return self.windows[-1]

    @property
    def p_fallen(self) -> float:
        """One-sided p-value that the last is not below the first; NaN where neither varies and both agree."""
        return welch_test(self.first.values.tolist(), self.last.values.tolist())

    @property
    def p_risen(self) -> float:
        """One-sided p-value that the last is not above the first; NaN as `p_fallen` is."""
        return welch_test(self.last.values.tolist(), self.first.values.tolist())

    def describe(self, p: float) -> str:
        """`was … in steps … and is …`, with a p-value of the difference."""
        test = "" if math.isnan(p) else f" (p {p_relation(p)})"
        return f"was {self.first.describe()} and is {self.last.describe()}{test}"


def course_of(steps: Tensor, values: Tensor) -> Course | None:
    """A figure over training; None for fewer than two windows, or ends with fewer than two groups.

    steps, values: (U,), sorted by step.
    """
    known = [window for window in windows(steps, values) if not math.isnan(window.mean)]
    if len(known) < 2 or min(len(known[0].values), len(known[-1].values)) < 2:
        return None
    changes = change_points([window.mean for window in known])
    return Course(windows=known, changes=[known[at].first_step for at in changes])


def change_points(values: Sequence[float]) -> list[int]:
    """Where a series changes its level: the indices that begin a new one, none to three of them.

    Least squares of piecewise constant levels, found exactly; their number k minimises
    n log(RSS/n) + 5k log n. Source: Yao 1988, whose criterion has 2k: of 20 values of white noise that calls
    35 % changed, this one 0.5 %; a step of three standard deviations in the middle it finds (97 %).
    """
    n = len(values)
    if n < 4:
        return []
    sums, squares = [0.0], [0.0]
    for value in values:
        sums.append(sums[-1] + value)
        squares.append(squares[-1] + value * value)

    def cost(start: int, end: int) -> float:
        total = sums[end] - sums[start]
        return max(0.0, squares[end] - squares[start] - total * total / (end - start))

    best = [[cost(0, end) if end else math.inf for end in range(n + 1)]]  # by number of changes, by end
    origin: list[list[int]] = [[0] * (n + 1)]
    most = min(_MOST_CHANGES, n // 2 - 1)
    for _ in range(most):
        row, came = [math.inf] * (n + 1), [0] * (n + 1)
        for end in range(2, n + 1):
            row[end], came[end] = min((best[-1][at] + cost(at, end), at) for at in range(1, end))
        best.append(row)
        origin.append(came)
    floor = 1e-12 * max(squares[-1], 1e-300)  # a series without noise: no fit is better than this
    scores = [n * math.log(max(row[n], floor) / n) + _PENALTY * k * math.log(n) for k, row in enumerate(best)]
    found, end = [], n
    for k in range(scores.index(min(scores)), 0, -1):
        end = origin[k][end]
        found.append(end)
    return found[::-1]
