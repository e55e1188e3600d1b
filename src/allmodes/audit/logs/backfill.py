"""Compute log-probabilities that a log lacks with a model; a killed computation resumes."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final

from allmodes.audit.logs.cache import CachedLogprobs, ResponseLogprob, open_cache
from allmodes.audit.logs.fields import known
from allmodes.audit.logs.formats import Mapped
from allmodes.audit.logs.sources import Advance, Place, Places, Row, Source
from allmodes.audit.logs.values import truth_or_none
from allmodes.errors import InputError
from allmodes.reports.progress import progress_bar
from allmodes.runs.lines import BadLineError, whole_text

__all__ = ["BackfilledSource", "Column", "Request", "ResponseLogprob", "Scorer", "backfill"]

Column = Literal["ref_logprob", "policy_logprob"]

_TOKENS = "num_tokens"


@final
@dataclass(frozen=True, kw_only=True)
class Request:
    """A response whose log-probability is to be computed.

    prompt: as in the log, a text or messages; None if the log has none. truncated: whether the response was
    cut off, so that its end-of-text was not drawn; None if the log does not say.
    """

    prompt: Any
    response: str
    truncated: bool | None


Scorer = Callable[[Sequence[Request]], Sequence[ResponseLogprob | None]]
"""Return a result for each request; None for a response that the model cannot have written."""


def backfill(
    source: Source,
    mapped: Mapped,
    scorer: Scorer,
    *,
    column: Column,
    path: Path,
    identity: Mapping[str, str],
    batch: int,
) -> "BackfilledSource":
    """Fill in log-probabilities of responses that the log lacks, and return the completed log.

    Values in the log are kept, whether `column` is mapped or has our own name; null and NaN count as missing.
    So a log can be backfilled again with the other column. Rows without a response and malformed rows are
    left unchanged.

    path: the file to which results are appended, `batch` at a time; results in it are not computed again.
    identity: what the results depend on besides the log, such as the model. Equal requests in a batch are
    computed once.

    Raises InputError for a file of another model or log, a log that uses our name for another column of ours,
    or one of token ids; RunError for a file that cannot be written.
    """
    _check_texts(mapped)
    for name in (column, _TOKENS):
        for ours, theirs in mapped.sources.items():
            if theirs == name != ours:
                raise InputError(
                    f"`columns.{ours}`: expected a name other than {name!r}, which is the "
                    "name of the added column"
                )

    def requests(advance: Advance) -> Iterator[tuple[Place, Request]]:
        for place, row in source.rows(advance=advance):
            request = _request(mapped, row, column)
            if request is not None:
                yield place, request

    with progress_bar() as progress:
        reading = progress.add_task("reading", total=source.size, note="", unit="bytes")
        count, digest = _survey(requests(lambda read: progress.advance(reading, read)))
        if count == 0:
            return BackfilledSource(source, mapped, column, CachedLogprobs())
        with open_cache(path, {"column": column, **identity, "log": digest}) as file:
            before = len(file.rows)
            note = f"{before:,} computed before" if before else ""
            scoring = progress.add_task(column, total=count, completed=before, note=note)
            if before < count:
                missing = (pair for pair in requests(lambda read: None) if pair[0] not in file.rows)
                while window := list(islice(missing, batch)):
                    found = _score(scorer, [request for _, request in window])
                    file.append([(place, result) for (place, _), result in zip(window, found, strict=True)])
                    progress.advance(scoring, len(window))
            return BackfilledSource(source, mapped, column, file.rows)


def _check_texts(mapped: Mapped) -> None:
    if mapped.has_tokens:
        raise InputError(f"`{mapped.sources['response']}`: expected responses as texts; got token ids")


@final
class BackfilledSource:
    """A log whose rows have computed columns with our own names.

    columns: our names mapped to themselves, to be passed to `map_columns` with the log's own. computed:
    rows with a computed log-probability. failed: rows for which the model gave none. as_they_stand: those of
    `computed` whose prompt was taken as logged, because the prompt as the model saw it could not be found.
    """

    def __init__(self, source: Source, mapped: Mapped, column: Column, cached: CachedLogprobs) -> None:
        self._source, self._mapped, self._column, self._cached = source, mapped, column, cached
        self.failed, self.as_they_stand = cached.failed, cached.as_they_stand
        self.computed = len(cached) - cached.failed
        inner = source.columns if isinstance(source, BackfilledSource) else {}
        self.columns: Mapping[str, str] = {**inner, column: column, _TOKENS: _TOKENS}

    @property
    def size(self) -> int:
        """The log's own."""
        return self._source.size

    @property
    def remarks(self) -> tuple[str, ...]:
        """The log's own."""
        return self._source.remarks

    def rows(self, *, wanted: Places | None = None, advance: Advance) -> Iterator[Row]:
        """The log's rows; every readable row has the added columns, with None for unknown values."""
        for place, row in self._source.rows(wanted=wanted, advance=advance):
            yield place, row if isinstance(row, BadLineError) else self._backfilled(place, row)

    def name(self, place: Place) -> str:
        """A text that names a place."""
        return self._source.name(place)

    def _backfilled(self, place: Place, row: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            ours = self._mapped.convert(row)
        except BadLineError:  # reported by the reader of the row
            return {self._column: None, _TOKENS: None, **row}
        logprob, tokens = (_value(ours, row, name) for name in (self._column, _TOKENS))
        result = self._cached.get(place)
        if result is not None:
            logprob, tokens = result.logprob, result.num_tokens if tokens is None else tokens
        return {**row, self._column: logprob, _TOKENS: tokens}


def _request(mapped: Mapped, row: Mapping[str, Any] | BadLineError, column: Column) -> Request | None:
    """The request for a row; None for a row that has no response or lacks nothing."""
    if isinstance(row, BadLineError):
        return None
    try:
        ours = mapped.convert(row)
        prompt = mapped.prompt_of(row)
    except BadLineError:
        return None
    response = ours.get("response")
    if not isinstance(response, str) or _value(ours, row, column) is not None:
        return None
    try:
        truncated = truth_or_none(ours.get("truncated"), "truncated")
        json.dumps(prompt, default=str)
    except (BadLineError, ValueError, RecursionError):  # reported by the reader of the row
        return None
    return Request(prompt=prompt, response=whole_text(response), truncated=truncated)


def _value(ours: Mapping[str, Any], row: Mapping[str, Any], name: str) -> Any:
    return known(ours[name] if name in ours else row.get(name))


def _survey(requests: Iterable[tuple[Place, Request]]) -> tuple[int, str]:
    """The number of requests, and a digest of all of them."""
    digest, count = hashlib.blake2b(digest_size=16), 0
    for place, request in requests:
        part = f".{place.part}" if place.part else ""
        digest.update(f"{place.file} {place.line}{part} {_text(request)}\n".encode())
        count += 1
    return count, digest.hexdigest()


def _score(scorer: Scorer, requests: Sequence[Request]) -> list[ResponseLogprob | None]:
    texts = [_text(request) for request in requests]
    distinct = dict(zip(texts, requests, strict=True))
    found = dict(zip(distinct, map(_finite, scorer(list(distinct.values()))), strict=True))
    return [found[text] for text in texts]


def _text(request: Request) -> str:
    """A text that is equal for equal requests."""
    return json.dumps([request.prompt, request.response, request.truncated], default=str)


def _finite(result: ResponseLogprob | None) -> ResponseLogprob | None:
    return None if result is None or not math.isfinite(result.logprob) else result
