"""A cache of computed log-probabilities by row of a log; a million take tens of megabytes."""

import fcntl
import json
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

from allmodes.audit.logs.columns import place_number
from allmodes.audit.logs.sources import Place
from allmodes.errors import InputError, RunError
from allmodes.runs.lines import BadLineError, json_object, lines_of, number_or_none

_REMEDY = "choose another folder or delete the file"


@final
@dataclass(frozen=True, kw_only=True)
class ResponseLogprob:
    """Log-probability of a whole response in nats, and its number of tokens.

    as_it_stands: the prompt was taken as logged, because the prompt as the model saw it could not be found.
    """

    logprob: float
    num_tokens: int
    as_it_stands: bool = False


@final
class CachedLogprobs:
    """Results by place, in the order of the log.

    failed: how many are None. as_they_stand: how many have `as_it_stands`.
    """

    def __init__(self) -> None:
        self._keys, self._logprobs, self._tokens = array("q"), array("d"), array("q")
        self.failed = self.as_they_stand = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, place: Place) -> bool:
        return self._index(place) is not None

    def get(self, place: Place) -> ResponseLogprob | None:
        """The result of a row; None if there is none, or the model gave none."""
        index = self._index(place)
        if index is None or self._tokens[index] < 0:
            return None
        return ResponseLogprob(logprob=self._logprobs[index], num_tokens=self._tokens[index])

    def add(self, place: Place, result: ResponseLogprob | None) -> None:
        """Add a result. Raises ValueError for a place that does not come after the last."""
        key = place_number(place)
        if self._keys and key <= self._keys[-1]:
            raise ValueError(f"expected a place after the last; got {place}")
        self._keys.append(key)
        self._logprobs.append(0.0 if result is None else result.logprob)
        self._tokens.append(-1 if result is None else result.num_tokens)
        self.failed += result is None
        self.as_they_stand += result is not None and result.as_it_stands

    def _index(self, place: Place) -> int | None:
        key = place_number(place)
        index = bisect_left(self._keys, key)
        return index if index < len(self._keys) and self._keys[index] == key else None


@final
class LogprobCache:
    """An open JSON Lines file of results: the first line names model and log, every other line is a row.

    head: the first line, if the file has none yet. It is written with the first results, so that a model that
    cannot be loaded leaves no file behind.
    """

    def __init__(
        self, path: Path, handle: BinaryIO, rows: CachedLogprobs, *, head: Mapping[str, str] | None
    ) -> None:
        self._path, self._handle, self.rows, self._head = path, handle, rows, head

    def append(self, results: Sequence[tuple[Place, ResponseLogprob | None]]) -> None:
        """Append results and flush them to the operating system. Raises RunError if writing fails."""
        head = [] if self._head is None else [self._head]
        _write(self._path, self._handle, [*head, *(_line(place, result) for place, result in results)])
        self._head = None
        for place, result in results:
            self.rows.add(place, result)


@contextmanager
def open_cache(path: Path, head: Mapping[str, str]) -> Iterator[LogprobCache]:
    """Open the results file of `head`, which names what the results depend on; a new file begins with it.

    An incomplete last line is dropped. Raises InputError for a file with another head or another format;
    RunError for one that cannot be written, or that another process has open.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "a+b")  # noqa: SIM115 - closed below
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{path} is in use by another process") from error
        rows = CachedLogprobs()
        handle.seek(0)
        has_head = _read(path, handle, head, rows)
        yield LogprobCache(path, handle, rows, head=None if has_head else head)


def _read(path: Path, handle: BinaryIO, head: Mapping[str, str], rows: CachedLogprobs) -> bool:
    """Read the complete lines and cut off the rest; return False if the first line is not complete."""
    end = 0
    for number, line in enumerate(lines_of(path, handle), start=1):
        if not line.endswith(b"\n") and (number > 1 or _encoded(head).startswith(line)):
            continue  # the last
        try:
            row = json_object(line, is_first=False)
            if number > 1:
                rows.add(*_result(row))
        except (BadLineError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path}, line {number}: expected a result; got {line[:60]!r}: {_REMEDY}"
            ) from error
        if number == 1:
            _check_same(path, row, head)
        end += len(line)
    handle.truncate(end)
    return end > 0


def _check_same(path: Path, then: Mapping[str, Any], now: Mapping[str, str]) -> None:
    for key in dict.fromkeys((*now, *then)):
        if then.get(key) != now.get(key):
            raise InputError(
                f"{path} holds results of another `{key}`: expected {now.get(key)!r}; got {then.get(key)!r}: "
                f"{_REMEDY}"
            )


def _line(place: Place, result: ResponseLogprob | None) -> dict[str, Any]:
    row: dict[str, Any] = {"file": place.file, "line": place.line, "logprob": None, "num_tokens": None}
    row |= {"part": place.part} if place.part else {}
    if result is not None:
        row |= {"logprob": result.logprob, "num_tokens": result.num_tokens}
        row |= {"as_it_stands": True} if result.as_it_stands else {}
    return row


def _result(row: dict[str, Any]) -> tuple[Place, ResponseLogprob | None]:
    place, logprob = Place(row["file"], row["line"], row.get("part", 0)), number_or_none(row, "logprob")
    if logprob is None:
        return place, None
    return place, ResponseLogprob(
        logprob=logprob, num_tokens=row["num_tokens"], as_it_stands=row.get("as_it_stands", False)
    )


def _encoded(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _write(path: Path, handle: BinaryIO, rows: Sequence[Mapping[str, Any]]) -> None:
    try:
        handle.writelines(map(_encoded, rows))
        handle.flush()
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
