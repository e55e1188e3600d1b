"""A user's own outcomes: reward and reference probability of each, read from CSV or JSON and checked."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from allmodes.errors import InputError
from allmodes.runs.files import read_text

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_PROBABILITY = ("probability", "ref_prob", "ref_probability")
_LOGPROB = ("logprob", "ref_logprob")
_KNOWN = ("reward", "outcome", *_PROBABILITY, *_LOGPROB)
_SUM_TOLERANCE = 1e-6  # what rounding to a few digits leaves; a sum that is off by more was never 1
_POSITIVE = 1e-9  # log-probabilities of certain outcomes come out of networks as a rounding error above 0


@final
@dataclass(frozen=True, kw_only=True)
class OutcomeTable:
    """Outcomes in the order of the file.

    names: K. rewards: (K,), finite. ref_logprobs: (K,), nats, summing to 1; −inf outside the reference's
    support. Both are float64.
    """

    names: tuple[str, ...]
    rewards: Tensor
    ref_logprobs: Tensor


def read_outcomes(path: Path, *, normalise: bool = False) -> OutcomeTable:
    """Read a .csv file with a header, or a .json file: a list of objects, or an object of equal-length lists.

    Fields of a .csv are apart by commas, semicolons or tabs; the text is in any common encoding, with any
    line ends (`read_text`).

    Columns: `reward`; one of `probability`, `ref_prob`, `ref_probability` or of `logprob`, `ref_logprob`
    (nats, −inf allowed); and, if names are wanted, `outcome`. Others are ignored. Names are 1, 2, ... by
    default. Probabilities that sum to 1 within 1e-6 are renormalised exactly; with `normalise` any others
    are, too, so long as one is above 0.

    Raises InputError, one line that names file, line (or row), column, expected and got.
    """
    text = read_text(path)
    if path.suffix.lower() == ".csv":
        columns, places = _read_csv(path, text)
    elif path.suffix.lower() == ".json":
        columns, places = _read_json(path, text)
    else:
        raise InputError(f"{path}: expected a .csv or .json file; got {path.suffix!r}")
    if not places:
        raise InputError(f"{path}: expected at least one outcome; got none")
    reference = next(name for name in columns if name in (*_PROBABILITY, *_LOGPROB))
    rewards = [
        _number(value, f"{path}, {place}, column `reward`", "a finite number")
        for value, place in zip(columns["reward"], places, strict=True)
    ]
    logprobs = [
        _logprob(value, f"{path}, {place}, column `{reference}`", is_log=reference in _LOGPROB)
        for value, place in zip(columns[reference], places, strict=True)
    ]
    return OutcomeTable(
        names=_names(path, columns.get("outcome"), places),
        rewards=torch.tensor(rewards, dtype=torch.float64),
        ref_logprobs=_normalised(logprobs, f"{path}, column `{reference}`", normalise=normalise),
    )


def _read_csv(path: Path, text: str) -> tuple[dict[str, list[Any]], list[str]]:
    """The known columns, and the line on which each row starts."""
    header = text.lstrip("\n").partition("\n")[0]
    delimiter = next((mark for mark in _DELIMITERS if mark in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows: list[tuple[int, list[str]]] = []
    start = 1
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append((start, row))
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {start}: expected {_DELIMITERS[delimiter]}-separated fields; {error}"
        ) from error
    if not rows:
        raise InputError(f"{path}: expected a header and at least one outcome; got an empty file")
    line, header = rows[0][0], [name.strip() for name in rows[0][1]]
    _check_columns(f"{path}, line {line}", header)
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise InputError(
                f"{path}, line {number}: expected {len(header)} fields ({_listed(header)}); got {len(row)}"
            )
    columns: dict[str, list[Any]] = {
        name: [row[i] for _, row in rows[1:]] for i, name in enumerate(header) if name in _KNOWN
    }
    return columns, [f"line {number}" for number, _ in rows[1:]]


def _read_json(path: Path, text: str) -> tuple[dict[str, list[Any]], list[str]]:
    """The known columns, and the number of each row."""
    if not text.strip():
        raise InputError(f"{path}: expected at least one outcome; got an empty file")
    try:
        loaded = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: expected valid JSON; {error.msg}") from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets in brackets
        raise InputError(f"{path}: expected valid JSON; {error}") from error
    if isinstance(loaded, list):
        columns = _columns_of_rows(path, loaded)
    elif isinstance(loaded, dict):
        columns = _columns_of_lists(path, loaded)
    else:
        raise InputError(f"{path}: expected a list of objects or an object of lists; got {_shown(loaded)}")
    length = max((len(column) for column in columns.values()), default=0)
    return columns, [f"row {i + 1}" for i in range(length)]


def _columns_of_rows(path: Path, rows: Sequence[object]) -> dict[str, list[Any]]:
    objects: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {i + 1}: expected an object; got {_shown(row)}")
        objects.append(row)
    if not objects:
        return {}
    # What any row has, every row must have: a key that is spelled wrongly is then named where it stands.
    keys = list(dict.fromkeys(key for row in objects for key in row))
    _check_columns(str(path), keys)
    used = [key for key in keys if key in _KNOWN]
    for i, row in enumerate(objects):
        for key in used:
            if key not in row:
                raise InputError(f"{path}, row {i + 1}: expected a column `{key}`; got {_listed(row)}")
    return {key: [row[key] for row in objects] for key in used}


def _columns_of_lists(path: Path, lists: Mapping[str, Any]) -> dict[str, list[Any]]:
    _check_columns(str(path), list(lists))
    columns = {key: lists[key] for key in lists if key in _KNOWN}
    for key, column in columns.items():
        if not isinstance(column, list):
            raise InputError(f"{path}, column `{key}`: expected a list; got {_shown(column)}")
        if len(column) != len(columns["reward"]):
            raise InputError(
                f"{path}, column `{key}`: expected {len(columns['reward'])} values like `reward`; "
                f"got {len(column)}"
            )
    return columns


def _check_columns(place: str, names: Sequence[str]) -> None:
    """Require `reward` and exactly one reference column, each known column once."""
    for name in _KNOWN:
        if names.count(name) > 1:
            raise InputError(f"{place}: expected one column `{name}`; got {names.count(name)}")
    if "reward" not in names:
        raise InputError(f"{place}: expected a column `reward`; got {_listed(names)}")
    found = [name for name in names if name in (*_PROBABILITY, *_LOGPROB)]
    if len(found) != 1:
        got = _listed(names) if not found else f"both {' and '.join(f'`{name}`' for name in found)}"
        raise InputError(f"{place}: expected exactly one column of `probability` or `logprob`; got {got}")


def _number(value: object, place: str, expected: str, *, may_be_infinite: bool = False) -> float:
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if math.isnan(number) or (math.isinf(number) and not may_be_infinite):
        raise InputError(f"{place}: expected {expected}; got {_shown(value)}")
    return number


def _logprob(value: object, place: str, *, is_log: bool) -> float:
    if is_log:
        expected = "a log-probability of at most 0, or -inf"
        number = _number(value, place, expected, may_be_infinite=True)
        if number > _POSITIVE:
            raise InputError(f"{place}: expected {expected}; got {_shown(value)}")
        return number
    expected = "a finite number, 0 or above"
    number = _number(value, place, expected)
    if number < 0:
        raise InputError(f"{place}: expected {expected}; got {_shown(value)}")
    return math.log(number) if number > 0 else -math.inf


def _normalised(logprobs: Sequence[float], place: str, *, normalise: bool) -> Tensor:
    values = torch.tensor(logprobs, dtype=torch.float64)
    log_total = torch.logsumexp(values, -1)
    if bool(log_total.isneginf()):
        raise InputError(f"{place}: expected at least one outcome with probability above 0; got a sum of 0")
    total = float(log_total.exp())
    if not normalise and not abs(total - 1) <= _SUM_TOLERANCE:
        # Sums of sequence probabilities are often below the smallest float: then their logarithm says more.
        got = f"{total:.8g}" if 0 < total < math.inf else f"exp({float(log_total):.6g})"
        raise InputError(
            f"{place}: expected probabilities that sum to 1 (within {_SUM_TOLERANCE:g}); got a sum of {got}; "
            "--normalise rescales probabilities that are known up to a factor, as those of samples are"
        )
    return torch.log_softmax(values, -1)


def _names(path: Path, column: Sequence[object] | None, places: Sequence[str]) -> tuple[str, ...]:
    if column is None:
        return tuple(str(i + 1) for i in range(len(places)))
    seen: dict[str, str] = {}
    for value, place in zip(column, places, strict=True):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InputError(f"{path}, {place}, column `outcome`: expected a name; got {_shown(value)}")
        name = str(value)
        if name in seen:
            raise InputError(
                f"{path}, {place}, column `outcome`: expected every name once; got {_shown(name)}, "
                f"which is on {seen[name]} already"
            )
        seen[name] = place
    return tuple(seen)


def _shown(value: object) -> str:
    """A value as JSON writes it, on one line, short."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    shown = ", ".join(" ".join(name.split()) for name in names)
    return (shown if len(shown) <= 100 else f"{shown[:97]}...") or "none"
