"""Open a log and find its columns, for `allmodes audit` and `allmodes evaluate`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, final

from allmodes.audit.choices import Format
from allmodes.audit.logs.backfill import BackfilledSource
from allmodes.audit.logs.formats import Mapped, map_columns
from allmodes.audit.logs.log import Log, read_log
from allmodes.audit.logs.sources import Advance, Source, SplitSource, holds_responses, open_source
from allmodes.audit.logs.values import LARGEST, key_of
from allmodes.audit.logs.vocabulary import WHOLE, column_of
from allmodes.reports.formatting import plural
from allmodes.runs.lines import BadLineError

_FIRST = 1000  # rows that are searched for columns
_SHORT = 64  # characters, or numbers
_STRETCH, _STRETCHES = 256, 64  # stretches of rows from the whole log, used to find the reward

Backfill = Callable[[Source, Mapped, Path], BackfilledSource]
"""(log, how its rows are read, output folder) → the log with the log-probabilities that it lacked."""


@final
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How rows are read, as in `map_columns`, and the function that computes missing log-probabilities."""

    format: Format | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    rewards: Mapping[str, float] | None = None
    outcome_pattern: str | None = None
    backfill: Backfill | None = None

    def open(self, path: Path) -> Source:
        """The log at a path, one row a response. Raises InputError as `open_source` does."""
        return self.split(open_source(path))

    def split(self, source: Source) -> Source:
        """A log, one row a response."""
        first = merged_row(source)
        response = self.columns.get("response") or column_of("response", first)
        if response is None or not holds_responses(first.get(response)):
            return source
        whole = frozenset((*WHOLE, self.columns.get("prompt", column_of("prompt", first) or "prompt")))
        return SplitSource(source, response, whole=whole)

    def mapped(self, source: Source, *, needs_reward: bool = True) -> Mapped:
        """The columns of a log, with the added ones. Raises InputError as `map_columns` does."""
        added = source.columns if isinstance(source, BackfilledSource) else {}
        first = merged_row(source)
        return map_columns(
            first,
            rows=rows_from_all_over(source) if "advantage" in first else first_rows(source),
            format=self.format,
            columns={**self.columns, **added},
            rewards=self.rewards,
            outcome_pattern=self.outcome_pattern,
            needs_reward=needs_reward and not added,
        )


def read_samples(
    source: Source,
    mapped: Mapped,
    *,
    convert: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    kept: Callable[[Mapping[str, Any]], object] = lambda row: None,
    largest: float = LARGEST,
    advance: Advance = lambda done: None,
) -> Log:
    """A log in columns, as from `read_log`; its remarks say how it was read.

    convert: the converter of `mapped`, or one that uses more of a row.
    """
    log = read_log(
        source,
        convert or mapped.convert,
        kept=kept,
        is_trls=mapped.format == "trl",
        has_advantages=mapped.has_advantages,
        outcome=mapped.outcome,
        largest=largest,
        advance=advance,
    )
    aside = [
        f"{plural(seen.count, 'row')} set aside, each {kind}; the first on {log.first_places[kind]}."
        for kind, seen in log.set_aside.items()
    ]
    unknown = [
        f"{plural(seen.count, 'reward')} not known, the first on {log.first_places[why]}: {why}."
        for why, seen in log.notes.items()
    ]
    own = used_sources(mapped, log)
    others = "; ".join(f"{name} = {theirs}" for name, theirs in own.items() if name not in ("reward", theirs))
    remarks = [*mapped.remarks, *([f"{others}."] if others else []), *aside, *unknown]
    return replace(log, remarks=(*remarks, *log.remarks, *source.remarks))


def used_sources(mapped: Mapped, log: Log) -> dict[str, str]:
    """Our columns that a log has, with descriptions of theirs; without an outcome column that was dropped."""
    return {
        ours: theirs
        for ours, theirs in mapped.sources.items()
        if ours != "outcome" or log.outcomes is not None
    }


def merged_row(source: Source) -> Mapping[str, Any]:
    """The first thousand readable rows merged into one row, used to find columns; {} if none is readable.

    Each column has its first value that is not null, since programs omit missing values from a row.
    """
    found: dict[str, Any] = {}
    rows = (row for _, row in source.rows(advance=lambda done: None) if not isinstance(row, BadLineError))
    for row in islice(rows, _FIRST):
        for name, value in row.items():
            if found.get(name) is None:
                found[name] = value
    return found


def first_rows(source: Source) -> list[Mapping[str, Any]]:
    """The first thousand rows that can be read, without their long texts."""
    rows = (row for _, row in source.rows(advance=lambda done: None) if not isinstance(row, BadLineError))
    return list(map(_without_texts, islice(rows, _FIRST)))


def rows_from_all_over(source: Source) -> list[Mapping[str, Any]]:
    """At most 16,384 rows, in stretches of 256 spread evenly over the log, without their long texts."""
    kept: list[list[Mapping[str, Any]]] = []
    spacing = 1
    for number, (_, row) in enumerate(source.rows(advance=lambda done: None)):
        stretch, at = divmod(number, _STRETCH)
        if stretch % spacing or isinstance(row, BadLineError):
            continue
        if at == 0 or not kept:
            if len(kept) == _STRETCHES:
                kept, spacing = kept[::2], 2 * spacing
                if stretch % spacing:
                    continue
            kept.append([])
        kept[-1].append(_without_texts(row))
    return [row for stretch in kept for row in stretch]


def _without_texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in which each long text or object is replaced by a digest, equal for equal values."""
    return {name: _short(value) for name, value in row.items()}


def _short(value: Any) -> Any:
    if not isinstance(value, str | list | dict) or (isinstance(value, str) and len(value) <= _SHORT):
        return value
    if (
        isinstance(value, list)
        and len(value) <= _SHORT
        and all(isinstance(one, int | float) for one in value)
    ):
        return value
    try:
        key = key_of(value, "")
    except BadLineError:
        return "?"
    return None if key is None else f"text {key.digest.hex()}"
