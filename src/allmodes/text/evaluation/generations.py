"""The samples of a log, one prompt at a time, from a temporary file; the log is read once."""

import json
import math
import tempfile
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast, final

from allmodes.audit.logs.columns import Log
from allmodes.audit.logs.formats import Mapped
from allmodes.audit.logs.reading import Reading, read_samples
from allmodes.audit.logs.values import key_of, number_of, reward_of, text_of, truth_or_none
from allmodes.errors import InputError, RunError
from allmodes.runs.lines import BadLineError, BadLines, whole_text

MOST_METHODS = 100


@final
@dataclass(frozen=True, kw_only=True)
class Generation:
    """One sample; missing values are None. With `has_answer`, an `answer` of None is invalid."""

    response: str
    reward: float | None
    score: float | None
    has_answer: bool
    answer: str | None
    correct: bool | None


@final
@dataclass(frozen=True, kw_only=True)
class Index:
    """The places of the samples of each prompt.

    offsets: for each method (None: samples without one) and prompt (a number) the places of its samples in
    the temporary file; methods and prompts in the order of their first sample. lines: all samples that were
    read. bad: those that were left out, by kind; left_out: the same as text. good_bytes: of the samples that
    `offsets` has. remarks: on how the log was read.
    """

    offsets: dict[str | None, dict[int, "array[int]"]]
    bad: dict[str, BadLines]
    left_out: str
    lines: int
    good_bytes: int
    remarks: tuple[str, ...]


@final
class Samples:
    """All samples of a log in a temporary file. index: the places of the samples of each prompt."""

    def __init__(self, index: Index, handle: BinaryIO, *, has_answers: bool) -> None:
        self.index, self._handle, self._has_answers = index, handle, has_answers

    def prompts(self, method: str | None, *, advance: Callable[[int], object]) -> Iterator[list[Generation]]:
        """The samples of a method, prompt by prompt, each in the order of the log.

        advance: called with the bytes of a prompt when it is finished.
        """
        for offsets in self.index.offsets[method].values():
            lines = [self._line(offset) for offset in offsets]
            yield [self._generation(json.loads(line)) for line in lines]
            advance(sum(map(len, lines)))

    def _line(self, offset: int) -> bytes:
        self._handle.seek(offset)
        return self._handle.readline()

    def _generation(self, values: list[Any]) -> Generation:
        response, reward, score, has_answer, answer, correct = values
        has_answer = has_answer and self._has_answers
        return Generation(
            response=response,
            reward=reward,
            score=score,
            has_answer=has_answer,
            answer=answer if has_answer else None,
            correct=correct,
        )


@contextmanager
def samples_of(path: Path, reading: Reading, *, advance: Callable[[int], object]) -> Iterator[Samples]:
    """Read a log once into a temporary file with an index by prompt; memory only holds offsets.

    A sample without a response, or with a method, a score or a truth value that is none, is left out and
    counted. advance: told what has been read since its last call. Raises InputError for a log that cannot be
    read, that has no sample, or more than 100 methods; RunError if the temporary file cannot be written.
    """
    source = reading.open(path)
    mapped = reading.mapped(source, needs_reward=False)
    with tempfile.TemporaryFile() as file:
        written = _Written(cast(BinaryIO, file))
        try:
            log = read_samples(
                source,
                mapped,
                convert=lambda row: _checked(mapped, row),
                kept=written.add,
                largest=math.inf,
                advance=advance,
            )
            file.flush()
        except OSError as error:
            raise RunError(f"cannot write a temporary file: {error.strerror or error}") from error
        yield Samples(written.index(log), written.handle, has_answers=log.outcomes is not None)


def _checked(mapped: Mapped, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in our columns, also in those that an evaluation alone looks at. Raises BadLineError."""
    ours = dict(mapped.convert(row))
    if ours.get("response") is None:
        raise BadLineError("`response` is missing")
    method = key_of(ours.get("method"), "method")
    ours["method"] = None if method is None else text_of(method.value)
    ours["score"] = number_of(ours.get("score"), "score", largest=math.inf)
    ours["correct"] = truth_or_none(ours.get("correct"), "correct")
    return ours


@final
class _Written:
    """Samples in the order of the log, a line of JSON each, with their offsets and methods."""

    def __init__(self, handle: BinaryIO) -> None:
        self.handle = handle
        self._offsets, self._methods = array("q", [0]), array("h")
        self._names: dict[str | None, int] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """One sample."""
        outcome = key_of(row.get("outcome"), "outcome")
        values = [
            whole_text(row["response"]),
            _or_none(reward_of(row.get("reward"), "reward", largest=math.inf)),
            _or_none(row["score"]),
            "outcome" in row,
            None if outcome is None else text_of(outcome.value),
            row["correct"],
        ]
        line = json.dumps(values).encode() + b"\n"
        self.handle.write(line)
        self._offsets.append(self._offsets[-1] + len(line))
        method = row["method"]
        self._methods.append(self._names.setdefault(method, len(self._names)))
        if len(self._names) > MOST_METHODS:
            raise InputError(
                f"expected at most {MOST_METHODS} methods; got another, {method!r}: does `method` name one? "
                "`--columns.method NAME` takes another column"
            )

    def index(self, log: Log) -> Index:
        """The places of the samples of the log, without those that were set aside."""
        offsets: dict[str | None, dict[int, array[int]]] = {}
        names, size = list(self._names), 0
        numbers = range(len(log)) if log.numbers is None else log.numbers.tolist()
        for number, prompt in zip(numbers, log.prompts.tolist(), strict=True):
            own = offsets.setdefault(names[self._methods[number]], {}).setdefault(prompt, array("q"))
            own.append(self._offsets[number])
            size += self._offsets[number + 1] - self._offsets[number]
        return Index(
            offsets=offsets,
            bad=log.bad,
            left_out=log.describe(log.bad),
            lines=log.rows,
            good_bytes=size,
            remarks=log.remarks,
        )


def _or_none(number: float) -> float | None:
    return None if number != number else number
