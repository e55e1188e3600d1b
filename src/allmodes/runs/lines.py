"""Rows of external files, read one by one; malformed rows are counted by kind."""

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

from allmodes.errors import InputError, one_line


class BadLineError(Exception):
    """A malformed line; `is_broken` if it could not be parsed as a row at all."""

    def __init__(self, kind: str, *, is_broken: bool = False) -> None:
        super().__init__(kind)
        self.is_broken = is_broken


@final
@dataclass(frozen=True, kw_only=True)
class BadLines:
    """The number of lines with one kind of error, and the number of the first line."""

    count: int
    first_line: int


def count_bad(bad: dict[str, BadLines], kind: str, line: int) -> None:
    """Count one more line with this kind of error."""
    seen = bad.get(kind)
    bad[kind] = BadLines(
        count=1 if seen is None else seen.count + 1, first_line=line if seen is None else seen.first_line
    )


def open_seekable(path: Path) -> BinaryIO:
    """Open a file that will be read more than once. Raises InputError if that is impossible."""
    try:
        handle = open(path, "rb")  # noqa: SIM115 - the callers close it
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not handle.seekable():
        handle.close()
        raise InputError(f"{path}: expected a file that can be read twice; got a stream")
    return handle


def lines_of(path: Path, handle: BinaryIO) -> Iterator[bytes]:
    """The lines of an open file. Raises InputError if the disk fails or compressed data is damaged."""
    try:
        for line in handle:  # noqa: UP028 - `yield from` closes the file of a caller that leaves early
            yield line
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise InputError(f"cannot read {path}: {reason}") from error


def json_object(line: bytes, *, is_first: bool) -> dict[str, Any]:
    """The object in a line of JSON; the first line may begin with a byte order mark.

    Raises BadLineError for anything else.
    """
    try:
        text = line.decode("utf-8-sig" if is_first else "utf-8")
    except UnicodeDecodeError as error:
        raise BadLineError("not UTF-8", is_broken=True) from error
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # also integers of thousands of digits
        raise BadLineError("not JSON", is_broken=True) from error
    if not isinstance(row, dict):
        raise BadLineError("not an object")
    return row


def kind_of(error: BadLineError, line: bytes) -> str:
    """The error of a line; a broken last line without a line end was cut off."""
    return "cut off at the end of the file" if error.is_broken and line[-1:] != b"\n" else str(error)


def whole_text(text: str) -> str:
    """Replace halves of surrogate pairs, which only JSON can write, by question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def string_or_none(row: dict[str, Any], name: str) -> str | None:
    """A text of a row, None if it is missing. Raises BadLineError for anything else."""
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise BadLineError(f"`{name}` is neither a string nor null")
    return None if value is None else whole_text(value)


def finite_number(value: Any, name: str) -> float:
    """A finite number. Raises BadLineError with the column's name for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadLineError(f"`{name}` is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadLineError(f"`{name}` is NaN or infinite")
    return number


def number_or_none(row: dict[str, Any], name: str) -> float | None:
    """A finite number of a row, None if it is missing. Raises BadLineError for anything else."""
    value = row.get(name)
    return None if value is None else finite_number(value, name)
