"""A file of generations, JSON Lines of any length: indexed once, then read one prompt at a time."""

import hashlib
import json
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

from allmodes.errors import InputError

MOST_METHODS = 100


@final
@dataclass(frozen=True, kw_only=True)
class Generation:
    """One line; None stands for what it does not give. With `has_answer` an `answer` of None is invalid."""

    response: str
    reward: float | None
    score: float | None
    has_answer: bool
    answer: str | None
    correct: bool | None


@final
@dataclass(frozen=True, kw_only=True)
class BadLines:
    """How many lines are wrong in one way, and the number of the first of them."""

    count: int
    first_line: int


@final
@dataclass(frozen=True, kw_only=True)
class Index:
    """Where the lines of each prompt stand.

    offsets: for each method (None: lines without one) and prompt (a digest) the byte offsets of its lines,
    methods and prompts in the order of their first line. lines: all that are not blank. good_bytes: of the
    lines that `offsets` has.
    """

    offsets: dict[str | None, dict[bytes, "array[int]"]]
    bad: dict[str, BadLines]
    lines: int
    good_bytes: int


def index_file(path: Path, *, advance: Callable[[int], object]) -> Index:
    """Read every line once; keep byte offsets, not text.

    `advance` is given the bytes that were read since its last call. Bad lines are counted by kind and left
    out. Raises InputError for a file that cannot be read or sought in, that holds no good line, or more than
    100 methods.
    """
    offsets: dict[str | None, dict[bytes, array[int]]] = {}
    bad: dict[str, BadLines] = {}
    lines = position = told = good_bytes = 0
    with _opened(path) as handle:
        for number, line in enumerate(_lines(path, handle), start=1):
            start, position = position, position + len(line)
            if position - told >= 2**20:
                advance(position - told)
                told = position
            if not line.strip():
                continue
            lines += 1
            try:
                row = _row(line, is_first=start == 0)
                key, method = _key(row), _string(row, "method")
                _generation(row)
            except _BadLineError as error:
                kind = (
                    "cut off at the end of the file" if error.is_broken and line[-1:] != b"\n" else str(error)
                )
                seen = bad.get(kind)
                bad[kind] = BadLines(
                    count=1 if seen is None else seen.count + 1,
                    first_line=number if seen is None else seen.first_line,
                )
                continue
            offsets.setdefault(method, {}).setdefault(key, array("q")).append(start)
            good_bytes += len(line)
            if len(offsets) > MOST_METHODS:
                raise InputError(
                    f"{path}, line {number}: expected at most {MOST_METHODS} methods; got another; "
                    "does `method` name one?"
                )
    advance(position - told)
    if lines == 0:
        raise InputError(f"{path}: expected at least one generation; got an empty file")
    if not offsets:
        raise InputError(
            f"{path}: expected lines with `prompt` and `response`; got none: {bad_in_words(bad)}"
        )
    return Index(offsets=offsets, bad=bad, lines=lines, good_bytes=good_bytes)


def read_prompts(
    path: Path, prompts: dict[bytes, "array[int]"], *, advance: Callable[[int], object]
) -> Iterator[list[Generation]]:
    """The generations of one prompt after another, each in the order of the file.

    Raises InputError where the file is no longer the one that was indexed.
    """
    with _opened(path) as handle:
        position = 0
        for offsets in prompts.values():
            rows: list[Generation] = []
            read = 0
            for offset in offsets:
                if offset != position:  # seeking drops what is buffered
                    handle.seek(offset)
                try:
                    line = handle.readline()
                    rows.append(_generation(_row(line, is_first=offset == 0)))
                except (OSError, _BadLineError) as error:
                    raise InputError(
                        f"{path}: the file changed while it was read, at byte {offset}"
                    ) from error
                position = offset + len(line)
                read += len(line)
            yield rows
            advance(read)


def bad_in_words(bad: dict[str, BadLines]) -> str:
    """Every kind of bad line with its count and its first line, on one line."""
    return "; ".join(f"{kind}: {seen.count}, first on line {seen.first_line}" for kind, seen in bad.items())


class _BadLineError(Exception):
    """What is wrong with a line; `is_broken` where it is not JSON at all."""

    def __init__(self, kind: str, *, is_broken: bool = False) -> None:
        super().__init__(kind)
        self.is_broken = is_broken


def _opened(path: Path) -> BinaryIO:
    try:
        handle = open(path, "rb")  # noqa: SIM115 - the callers close it
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not handle.seekable():
        handle.close()
        raise InputError(f"{path}: expected a file that can be read twice; got a stream")
    return handle


def _lines(path: Path, handle: BinaryIO) -> Iterator[bytes]:
    try:
        yield from handle
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _row(line: bytes, *, is_first: bool) -> dict[str, Any]:
    try:
        text = line.decode("utf-8-sig" if is_first else "utf-8")
    except UnicodeDecodeError as error:
        raise _BadLineError("not UTF-8", is_broken=True) from error
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # also integers of thousands of digits
        raise _BadLineError("not JSON", is_broken=True) from error
    if not isinstance(row, dict):
        raise _BadLineError("not an object")
    return row


def _key(row: dict[str, Any]) -> bytes:
    """A digest of the prompt, so that long prompts take no memory; 1 and "1" are two prompts."""
    prompt = row.get("prompt")
    if prompt is None:
        raise _BadLineError("`prompt` is missing")
    if isinstance(prompt, bool) or not isinstance(prompt, str | int):
        raise _BadLineError("`prompt` is not a string or a whole number")
    return hashlib.blake2b(json.dumps(prompt).encode(), digest_size=16).digest()


def _generation(row: dict[str, Any]) -> Generation:
    response = row.get("response")
    if response is None:
        raise _BadLineError("`response` is missing")
    if not isinstance(response, str):
        raise _BadLineError("`response` is not a string")
    correct = row.get("correct")
    if correct is not None and not isinstance(correct, bool):
        raise _BadLineError("`correct` is neither true, false nor null")
    return Generation(
        response=_whole(response),
        reward=_number(row, "reward"),
        score=_number(row, "score"),
        has_answer="answer" in row,
        answer=_string(row, "answer"),
        correct=correct,
    )


def _whole(text: str) -> str:
    """Half a surrogate pair, which JSON can write and nothing else can, becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _string(row: dict[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise _BadLineError(f"`{name}` is neither a string nor null")
    return None if value is None else _whole(value)


def _number(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _BadLineError(f"`{name}` is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _BadLineError(f"`{name}` is NaN or infinite")
    return number
