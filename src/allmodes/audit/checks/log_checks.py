"""Checks of the log itself; all other checks depend on its rows."""

import math

import torch
from torch import Tensor

from allmodes.audit.checks.findings import Answer, MissingError, NotApplicableError
from allmodes.audit.estimates import Estimate
from allmodes.audit.evidence import Evidence
from allmodes.audit.logs.aside import mixed
from allmodes.audit.logs.columns import row_digests
from allmodes.audit.windows import error_of_mean
from allmodes.objectives.groups import Groups, group_first, group_size
from allmodes.reports.formatting import plural

_MANY = 0.05  # above this share of the rows, a fault is an issue
_CHANCE = 1e-3  # largest probability of a repeated stretch by chance, over the whole log
_WINDOW, _LONG = 8, 64  # rows
_WORTH, _WORTHLESS = 0.8, 0.2  # effective sample size over the number of samples
_SEEN, _LARGEST = 0.9, 50.0  # mass of the reference that the samples cover; largest log-weight, nats
_OTHER_SAMPLES = (
    "AM010 to AM030 treat these as samples of the reference. Use a log that begins with samples of "
    "the base model, or compare with such a log (`--compare BASE TRAINED`)."
)


def usable_rows(evidence: Evidence) -> Answer:
    """How many rows were left out, and why."""
    log = evidence.log
    left_out = sum(bad.count for bad in log.bad.values())
    share = left_out / log.rows
    return Answer(
        state="issue" if share > _MANY else "tip" if left_out else "passed",
        summary=(
            f"{left_out:,} of {log.rows:,} rows were left out: {log.describe(log.bad)}."
            if left_out
            else f"All {log.rows:,} rows can be used."
        ),
        remedy="Fix the program that writes these rows: rows left out may differ from the rest."
        if left_out
        else "",
        numbers={
            "rows": log.rows,
            "left_out": left_out,
            "kinds": {kind: bad.count for kind, bad in log.bad.items()},
        },
    )


def repeated_stretches(evidence: Evidence) -> Answer:
    """Whether parts of the log are written twice, for example by a resumed run.

    Single equal rows prove nothing, since short answers recur. A repeated stretch is 8 or more rows in a row
    that equal the rows at one fixed distance before them. It counts as a copy if chance does not explain it:
    N² Π f < 0.001, where f is the share of each row among the rows of its prompt and step; or if it has 64 or
    more rows and no 8 rows in a row contain two equal ones: with one sample a prompt, f says nothing.
    """
    log = evidence.log
    digests = row_digests(log)
    same = _equal(digests)
    shares = (
        group_size(same)[same.index].double()
        / group_size(evidence.samples.updates)[evidence.samples.updates.index]
    )
    is_copy, source, starts = _copies(digests, -shares.log())
    rows = int(is_copy.sum())
    equal = len(digests) - same.count
    if rows == 0:
        return Answer(
            state="passed",
            summary=(
                f"No part of the log is written twice. {equal:,} rows equal an earlier row, which is "
                "normal for short answers."
            ),
            numbers={"rows": 0, "equal_rows": equal},
        )
    start = int(starts[0])
    return Answer(
        state="issue" if rows > _MANY * len(digests) else "tip",
        summary=(
            f"{rows:,} rows repeat earlier rows in the same order, in {plural(len(starts), 'place')}. The "
            f"first repetition begins at {log.place_name(start)} and repeats the rows that begin at "
            f"{log.place_name(int(source[start]))}."
        ),
        remedy="Delete the copies: they count twice. A resumed run may have written its samples again.",
        numbers={"rows": rows, "equal_rows": equal},
    )


def drawn_from_the_reference(evidence: Evidence) -> Answer:
    """Whether the samples used to estimate the reference's probabilities were drawn from the reference.

    If log-probabilities under π and π_ref are known, samples get the weights w = π_ref/π, and their effective
    sample size is (Σw)²/Σw². Otherwise the log should begin with the first step. The mean weight is 1 if the
    policy draws everything that the reference draws; a smaller mean is the mass that the samples cover.
    """
    if evidence.kind == "response":
        raise NotApplicableError(
            "responses are compared by their log-probabilities under the reference, so it does not matter "
            "which policy drew them"
        )
    rows, gaps = evidence.reference.rows, evidence.reference.gaps
    if gaps is not None and not bool(gaps[rows].isnan().any()):
        weights = evidence.reference.weights[rows]
        worth = float(weights.sum().square() / weights.square().sum()) / len(rows)
        gap, seen = _mean(gaps[rows]), _mean((-gaps[rows]).clamp(max=_LARGEST).exp())
        is_poor = worth < _WORTH or seen.is_below(_SEEN)
        return Answer(
            state="issue" if worth < _WORTHLESS else "tip" if is_poor else "passed",
            summary=(
                f"{len(rows):,} samples are used as samples of the reference. The policy that drew "
                f"them is {gap} nats (KL) away from it. Reweighted by π_ref/π, their effective sample "
                f"size is {worth:.0%} of their number, and they cover {seen} of the reference's mass."
            ),
            remedy=_OTHER_SAMPLES if is_poor else "",
            numbers={"kl": gap, "worth": worth, "seen": seen},
        )
    if evidence.log.steps is None:
        raise MissingError("the log has no column `step` that says which samples came before training")
    first = int(evidence.log.steps[rows].min())
    return Answer(
        state="tip" if first > 1 else "passed",
        summary=f"The log begins at step {first:,}. Its samples of that step are used as samples of the "
        "reference.",
        remedy=_OTHER_SAMPLES if first > 1 else "",
        numbers={"first_step": first},
    )


def _mean(values: Tensor) -> Estimate:
    return Estimate(value=float(values.mean()), error=error_of_mean(values))


def _copies(digests: Tensor, surprise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which rows are copies, (N,); the row that each repeats, (N,); the first row of each stretch, (S,)."""
    n, nothing = len(digests), torch.zeros(0, dtype=torch.long)
    source = torch.full((n,), -1)
    is_copy = torch.zeros(n, dtype=torch.bool)
    if n < 2 * _WINDOW:
        return is_copy, source, nothing
    rows = digests.unfold(0, _WINDOW, 1)
    windows = torch.zeros(len(rows), dtype=torch.long)
    for column in rows.T:
        windows = mixed(windows, column)
    is_varied = (rows.sort(dim=1).values.diff(dim=1) != 0).all(1)
    place = torch.arange(len(rows))
    same = _equal(windows)
    first = group_first(same)[same.index]
    distance = place - first
    again = (distance >= _WINDOW).nonzero().squeeze(1)
    if len(again) == 0:
        return is_copy, source, nothing
    breaks = (again.diff() != 1) | (distance[again].diff() != 0)
    stretch = torch.cat([torch.zeros(1, dtype=torch.long), breaks.long().cumsum(0)])
    count = int(stretch[-1]) + 1
    within = Groups(index=stretch, count=count)
    begin = again[torch.cat([torch.ones(1, dtype=torch.bool), breaks])]
    length = group_size(within) + _WINDOW - 1
    sums = torch.cat([surprise.new_zeros(1), surprise.cumsum(0)])
    is_rare = sums[begin + length] - sums[begin] > 2 * math.log(n) - math.log(_CHANCE)
    all_varied = group_size(within, is_varied[again]) == group_size(within)
    found = (is_rare | (all_varied & (length >= _LONG))).nonzero().squeeze(1)
    for one in found.tolist():
        start, end = int(begin[one]), int(begin[one] + length[one])
        is_copy[start:end] = True
        source[start:end] = torch.arange(start, end) - distance[begin[one]]
    return is_copy, source, begin[found]


def _equal(values: Tensor) -> Groups:
    """Equal values as groups."""
    distinct, index = torch.unique(values, return_inverse=True)
    return Groups(index=index, count=len(distinct))
