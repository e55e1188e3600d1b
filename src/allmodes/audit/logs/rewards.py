"""Find the columns of a log that are its reward: by name or from TRL's advantages, never by guessing."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations, groupby
from typing import Any

import numpy as np

from allmodes.audit.logs.values import LARGEST, is_nan, key_of, reward_of
from allmodes.reports.formatting import listing
from allmodes.runs.lines import BadLineError

_INDEX = re.compile(r"|\.\d+|index|Unnamed: \d+|__index_level_\d+__")  # row numbers of pandas and W&B
_MOST = 12  # columns of numbers whose sums are tried
_SOME = 200  # groups, evenly over the log; enough to reject most sums
_CLOSE = 5e-3  # relative tolerance, since tables round advantages
_ALMOST_ALL = 0.95  # of the groups, since two groups of one prompt may look like one

Group = tuple[np.ndarray, np.ndarray]


def number_columns(rows: Sequence[Mapping[str, Any]], taken: Collection[str]) -> list[str]:
    """Columns that hold only numbers or truth values, except `taken` and row numbers.

    A number given as text counts if the log has only texts, as in CSV.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    is_table = all(value is None or isinstance(value, str) for row in rows for value in row.values())
    return [
        name
        for name in names
        if name not in taken and not _INDEX.fullmatch(name) and _holds_numbers(name, rows, is_table=is_table)
    ]


def _holds_numbers(name: str, rows: Sequence[Mapping[str, Any]], *, is_table: bool) -> bool:
    values = [value for row in rows if (value := row.get(name)) is not None]
    if not values or (not is_table and any(isinstance(value, str) for value in values)):
        return False
    try:
        for value in values:
            if not isinstance(value, float | list) and not is_nan(value):
                reward_of(value, name)
    except (BadLineError, TypeError):
        return False
    return all(_is_list_of_numbers(value) for value in values if isinstance(value, list))


def _is_list_of_numbers(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, int | float) for value in values)


def explained_by(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The sums of columns that explain TRL's column `advantage`; none if no advantages differ.

    A sum s explains the advantages A if A = f (s − mean s) in each group of a prompt's samples, with one
    factor f > 0 per group: 1 without scaling, 1/σ with scaling, G/(G − 1) with a leave-one-out baseline.
    Columns that are the same for all samples of each prompt give no information and are in no sum. If several
    sums explain the advantages, those with a factor of 1 or G/(G − 1) in all groups are preferred.

    rows: in the order of the log. Sums that explain fewer groups than another are left out.
    Source: TRL's GRPOTrainer and RLOOTrainer.
    """
    groups = [group for group in _groups(rows, columns) if group[0].size > 1]
    varying = [at for at in range(len(columns)) if any(_varies(values[:, at]) for _, values in groups)]
    if len(varying) > _MOST:
        return []
    some = groups[:: max(1, len(groups) // _SOME)]
    tried = (sum_ for count in range(1, len(varying) + 1) for sum_ in combinations(varying, count))
    left = [sum_ for sum_ in tried if _factors(some, sum_) is not None]
    factors = {sum_: found for sum_ in left if (found := _factors(groups, sum_)) is not None}
    most = max(map(len, factors.values()), default=0)
    factors = {sum_: found for sum_, found in factors.items() if len(found) == most}
    sizes = [advantages.size for advantages, _ in groups]
    exact = [sum_ for sum_, found in factors.items() if _is_unscaled(found, sizes)]
    return [tuple(columns[at] for at in sum_) for sum_ in exact or factors]


def _factors(groups: Sequence[Group], chosen: Sequence[int]) -> list[float] | None:
    """The factors of the groups that a sum explains; None if these are not almost all groups."""
    found: list[float] = []
    missed = 0
    for group in groups:
        factor = _factor(group, chosen)
        if factor is not None and factor > 0:
            found.append(factor)
        elif factor is not None:
            missed += 1
            if missed > (1 - _ALMOST_ALL) * len(groups):
                return None
    return found if found and missed <= (1 - _ALMOST_ALL) * (len(found) + missed) else None


def advantages_differ(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the samples of any prompt have different advantages."""
    return any(np.ptp(np.nan_to_num(advantages)) > 1e-6 for advantages, _ in _groups(rows, []))


def same_in_groups(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Columns that are the same for all samples of each prompt."""
    groups = list(_groups(rows, columns))
    return [
        name for at, name in enumerate(columns) if not any(_varies(values[:, at]) for _, values in groups)
    ]


def ask(columns: Sequence[str], why: str) -> str:
    """The question to the user if the reward is not known."""
    names = listing([f"`{name}`" for name in columns[:8]] or ["none"])
    more = f" and {len(columns) - 8} more" if len(columns) > 8 else ""
    return (
        f"`reward`: {why}; columns of numbers: {names}{more}. Name it with `--columns.reward NAME`, or "
        "the columns of a weighted sum with `--rewards NAME WEIGHT ...`; `--rewards` alone if there is "
        "no reward"
    )


def total_of(row: Mapping[str, Any], weights: Mapping[str, float]) -> float | None:
    """Σ w R over the columns that a row has; None if it has none. Raises BadLineError for a non-number."""
    there = [
        (reward_of(value, name), weight)
        for name, weight in weights.items()
        if (value := row.get(name)) is not None and not is_nan(value)
    ]
    return math.fsum(value * weight for value, weight in there) if there else None


def _groups(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[Group]:
    """Advantages, (G,), and columns, (G, K), of each group: runs of one prompt in one step, or all its rows.

    A run whose length is a multiple of the most common one is split into that many groups.
    """
    names = [_group_of(row) for row in rows]
    runs = [[at for at, _ in run] for _, run in groupby(enumerate(names), key=lambda pair: pair[1])]
    size = Counter(map(len, runs)).most_common(1)[0][0] if runs else 1
    if size == 1:  # the rows of a prompt are not side by side
        by_name: dict[Any, list[int]] = {}
        for at, name in enumerate(names):
            by_name.setdefault(name, []).append(at)
        runs, size = list(by_name.values()), 1
    for run in runs:
        step = size if size > 1 and len(run) % size == 0 else len(run)
        for start in range(0, len(run), step):
            own = [rows[at] for at in run[start : start + step]]
            values = np.array([[_float(row.get(name)) for name in columns] for row in own])
            yield (
                np.array([_float(row.get("advantage")) for row in own]),
                values.reshape(len(own), len(columns)),
            )


def _group_of(row: Mapping[str, Any]) -> tuple[Any, Any]:
    try:
        key = key_of(row.get("prompt"), "prompt")
    except BadLineError:
        key = None
    return row.get("step"), key and key.digest


def _float(value: Any) -> float:
    try:
        number = reward_of(value, "")
    except BadLineError:
        return math.nan
    return number if abs(number) < LARGEST else math.nan


def _varies(values: np.ndarray) -> bool:
    """Whether a column differs within a group; a missing value counts as 0."""
    return bool(np.ptp(np.nan_to_num(values)) > 0)


def _factor(group: Group, chosen: Sequence[int]) -> float | None:
    """A/(s − mean s) of a group; None if neither differs within the group, 0 if there is no such factor."""
    advantages, values = group[0], group[1][:, list(chosen)]
    has_any = ~np.isnan(values).all(axis=1) & ~np.isnan(advantages)
    if has_any.sum() < 2:
        return None
    a = advantages[has_any] - advantages[has_any].mean()
    s = np.nansum(values[has_any], axis=1)
    s = s - s.mean()
    scale_a, scale_s = float(np.abs(a).max()), float(np.abs(s).max())
    is_flat_a, is_flat_s = (
        scale_a < 1e-6,
        scale_s <= 1e-9 * max(1.0, float(np.nanmax(np.abs(values[has_any])))),
    )
    if is_flat_a or is_flat_s:
        return None if is_flat_a and is_flat_s else 0.0
    factor = float((a / scale_a) @ (s / scale_s) / ((s / scale_s) @ (s / scale_s))) * scale_a / scale_s
    return factor if np.abs(a - factor * s).max() <= _CLOSE * scale_a else 0.0


def _is_unscaled(factors: Sequence[float], sizes: Sequence[int]) -> bool:
    """Whether advantages were not divided: the factor is 1, or that of a leave-one-out baseline."""
    size = Counter(sizes).most_common(1)[0][0]
    return any(
        all(abs(factor - expected) <= _CLOSE * expected for factor in factors)
        for expected in (1.0, size / (size - 1) if size > 1 else 1.0)
    )
