"""Means over training in memory: the steps and values of each mean, in the order of the steps."""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from allmodes.audit.logs.values import number_of, whole_of
from allmodes.audit.scalars.names import (
    KNOWN,
    SCALARS,
    STEPS,
    Program,
    Scalar,
    names_of,
    plain_name,
    program_of,
)
from allmodes.errors import InputError
from allmodes.reports.formatting import plural
from allmodes.runs.lines import BadLineError, BadLines, count_bad

_NAMED = 1000  # first rows whose names identify the program
_UNORDERED = 0.1  # if a larger share of steps goes back, the steps are unordered, not resumed

NamedRow = tuple[str, "Mapping[str, Any] | BadLineError"]
"""The name of a row's place, and its values by plain name, with `step`."""


@final
@dataclass(frozen=True, kw_only=True)
class Series:
    """One mean. column: its name in the log. steps: (n,), ascending. values: (n,), float64, finite."""

    column: str
    steps: Tensor
    values: Tensor


@final
@dataclass(frozen=True, kw_only=True)
class ScalarLog:
    """The means of a log.

    container: the kind of file. program: the program that wrote it, None if not known. is_whole: whether the
    file holds everything that the program logs, so that a missing mean was not logged. rows: number of rows
    read; faulty: number of rows with unusable values, by kind in `bad`. written_again: values left out
    because the steps went back, as after a resume; returns: (from, to) steps of each time. remarks: on how
    the log was read.
    """

    container: str
    program: Program | None
    is_whole: bool
    series: dict[Scalar, Series]
    rows: int
    faulty: int
    bad: dict[str, BadLines]
    first_places: dict[str, str]
    written_again: int
    returns: tuple[tuple[int, int], ...]
    remarks: tuple[str, ...]

    def __len__(self) -> int:
        """Steps that have a value."""
        found = [series.steps for series in self.series.values()]
        return len(torch.unique(torch.cat(found))) if found else 0

    def describe(self, kinds: Mapping[str, BadLines]) -> str:
        """Unusable values by kind, with count and the place of the first, on one line."""
        return "; ".join(
            f"{kind}: {seen.count:,}, first at {self.first_places[kind]}" for kind, seen in kinds.items()
        )


def read_scalars(
    rows: Iterable[NamedRow], *, path: object, container: str, is_whole: bool, remarks: tuple[str, ...] = ()
) -> ScalarLog:
    """The means of a log from its rows. Raises InputError if no mean is known, or none can be used."""
    found = _Values()
    for place, row in rows:
        found.add(place, row)
    program = program_of({*found.names, *found.steps})
    ordered = {name: _in_order(steps, found.values[name]) for name, steps in found.steps.items()}
    series: dict[Scalar, Series] = {}
    for scalar in SCALARS:
        name = next((name for name in names_of(scalar, program) if name in ordered), None)
        if name is not None:
            series[scalar] = Series(column=name, steps=ordered[name].steps, values=ordered[name].values)
    log = ScalarLog(
        container=container,
        program=program,
        is_whole=is_whole,
        series=series,
        rows=found.rows,
        faulty=found.faulty,
        bad=found.bad,
        first_places=found.first_places,
        written_again=sum(one.written_again for one in ordered.values()),
        returns=max((one.returns for one in ordered.values()), key=lambda one: (len(one), one), default=()),
        remarks=(*remarks, *_order_remarks(ordered)),
    )
    if not log.series:
        raise InputError(_nothing_known(path, log, [name for name in found.names if name not in STEPS]))
    return log


@final
class _Values:
    """Collects the known means of rows: steps and values by name, in the order of the rows."""

    def __init__(self) -> None:
        self.steps: dict[str, array[int]] = {}
        self.values: dict[str, array[float]] = {}
        self.names: dict[str, None] = {}  # of the first rows, in their order
        self.rows = self.faulty = 0
        self.bad: dict[str, BadLines] = {}
        self.first_places: dict[str, str] = {}

    def add(self, place: str, row: Mapping[str, Any] | BadLineError) -> None:
        """Add a row. Unusable values are counted; the others are used."""
        self.rows += 1
        faults: list[str] = []
        if isinstance(row, BadLineError):
            faults.append(str(row))
        else:
            if self.rows <= _NAMED:
                self.names.update(dict.fromkeys(row))
            found = {name: value for name, value in row.items() if name in KNOWN and value is not None}
            if found:
                self._add_values(row.get("step"), found, faults)
        for fault in faults:
            count_bad(self.bad, fault, self.rows)
            self.first_places.setdefault(fault, place)
        self.faulty += bool(faults)

    def _add_values(self, step: Any, found: Mapping[str, Any], faults: list[str]) -> None:
        try:
            number = whole_of(step, "step")
            if number < 0:
                raise BadLineError("it has no step")
        except BadLineError as error:
            faults.append(str(error))
            return
        for name, value in found.items():
            try:
                value = number_of(value, name)
            except BadLineError as error:
                faults.append(str(error))
                continue
            self.steps.setdefault(name, array("q")).append(number)
            self.values.setdefault(name, array("d")).append(value)


def _nothing_known(path: object, log: ScalarLog, others: list[str]) -> str:
    if log.rows == 0:
        return f"{path}: expected means over training; got an empty log"
    if log.bad:
        return f"{path}: expected means over training; got none that can be used: {log.describe(log.bad)}"
    some = ", ".join(others[:8]) + (", ..." if len(others) > 8 else "")
    return (
        f"{path}: expected means of a training with rewards, such as reward, entropy or kl; got {some}"
        if some
        else f"{path}: expected means over training; got none"
    )


@final
@dataclass(frozen=True, kw_only=True)
class _Ordered:
    steps: Tensor
    values: Tensor
    written_again: int
    returns: tuple[tuple[int, int], ...]
    is_unordered: bool


def _in_order(steps: "array[int]", values: "array[float]") -> _Ordered:
    """One mean in the order of its steps, each once.

    If steps go back, the run was resumed, and later values replace earlier ones: value i is kept if
    s_i < min_{j > i} s_j. The last value of a step is used. Steps that go back all the time are unordered,
    and are sorted.
    """
    s = torch.frombuffer(steps, dtype=torch.int64).clone()
    v = torch.frombuffer(values, dtype=torch.float64).clone()
    back = (s[1:] < s[:-1]).nonzero().squeeze(1)
    is_unordered = len(back) > max(1, _UNORDERED * len(s))
    if is_unordered:
        order = torch.argsort(s, stable=True)
        s, v = s[order], v[order]
    returns = () if is_unordered else tuple((int(s[i]), int(s[i + 1])) for i in back.tolist())
    later = torch.full_like(s, torch.iinfo(torch.int64).max)
    later[:-1] = s[1:].flip(0).cummin(0).values.flip(0)
    kept = s < later
    return _Ordered(
        steps=s[kept],
        values=v[kept],
        written_again=len(s) - int(kept.sum()),
        returns=returns,
        is_unordered=is_unordered,
    )


def _order_remarks(ordered: Mapping[str, _Ordered]) -> list[str]:
    unordered = sum(one.is_unordered for one in ordered.values())
    return [f"Steps of {plural(unordered, 'column')} were not in order and are sorted."] if unordered else []


def plain_row(row: Mapping[str, Any], step: str) -> dict[str, Any]:
    """A row of means by plain names, with its step under `step`; without columns of evaluations."""
    found = {name: value for column, value in row.items() if (name := plain_name(column)) is not None}
    found["step"] = row.get(step)
    return found
