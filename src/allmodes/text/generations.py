"""A file of generations, JSON Lines of any length: indexed once, then read one prompt at a time."""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from allmodes.errors import InputError
from allmodes.runs.lines import (
    BadLineError,
    BadLines,
    bad_in_words,
    count_bad,
    json_object,
    kind_of,
    lines_of,
    number_or_none,
    open_seekable,
    string_or_none,
    whole_text,
)

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
    with open_seekable(path) as handle:
        for number, line in enumerate(lines_of(path, handle), start=1):
            start, position = position, position + len(line)
            if position - told >= 2**20:
                advance(position - told)
                told = position
            if not line.strip():
                continue
            lines += 1
            try:
                row = json_object(line, is_first=start == 0)
                key, method = _key(row), string_or_none(row, "method")
                _generation(row)
            except BadLineError as error:
                count_bad(bad, kind_of(error, line), number)
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
    with open_seekable(path) as handle:
        position = 0
        for offsets in prompts.values():
            rows: list[Generation] = []
            read = 0
            for offset in offsets:
                if offset != position:  # seeking drops what is buffered
                    handle.seek(offset)
                try:
                    line = handle.readline()
                    rows.append(_generation(json_object(line, is_first=offset == 0)))
                except (OSError, BadLineError) as error:
                    raise InputError(
                        f"{path}: the file changed while it was read, at byte {offset}"
                    ) from error
                position = offset + len(line)
                read += len(line)
            yield rows
            advance(read)


def _key(row: dict[str, Any]) -> bytes:
    """A digest of the prompt, so that long prompts take no memory; 1 and "1" are two prompts."""
    prompt = row.get("prompt")
    if prompt is None:
        raise BadLineError("`prompt` is missing")
    if isinstance(prompt, bool) or not isinstance(prompt, str | int):
        raise BadLineError("`prompt` is not a string or a whole number")
    return hashlib.blake2b(json.dumps(prompt).encode(), digest_size=16).digest()


def _generation(row: dict[str, Any]) -> Generation:
    response = row.get("response")
    if response is None:
        raise BadLineError("`response` is missing")
    if not isinstance(response, str):
        raise BadLineError("`response` is not a string")
    correct = row.get("correct")
    if correct is not None and not isinstance(correct, bool):
        raise BadLineError("`correct` is neither true, false nor null")
    return Generation(
        response=whole_text(response),
        reward=number_or_none(row, "reward"),
        score=number_or_none(row, "score"),
        has_answer="answer" in row,
        answer=string_or_none(row, "answer"),
        correct=correct,
    )
