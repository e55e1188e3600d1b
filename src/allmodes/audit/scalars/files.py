"""Recognise files that hold means among logs of samples, and read their rows."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from allmodes.audit.choices import Format
from allmodes.audit.logs.files import Advance, kind_of_file
from allmodes.audit.logs.reading import merged_row
from allmodes.audit.logs.sources import SAMPLES, FileSource, Source
from allmodes.audit.scalars.event_files import is_event_file, read_events
from allmodes.audit.scalars.log import NamedRow, ScalarLog, plain_row, read_scalars
from allmodes.audit.scalars.names import STEPS, chart_column, holds_means, is_chart
from allmodes.errors import InputError, one_line
from allmodes.reports.formatting import listing
from allmodes.runs.files import read_bytes
from allmodes.runs.lines import BadLineError

METRICS = "metrics.jsonl"
_STATE, _HISTORY = "trainer_state.json", "log_history"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_PEEK = 4096  # bytes at the start of a trainer's state that contain the key of its history

Kind = Literal["state", "events", "rows"]


@final
@dataclass(frozen=True)
class ScalarFiles:
    """Files of means. kind: a trainer's state, event files, or rows of a table or of JSON Lines."""

    kind: Kind
    paths: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(path.stat().st_size for path in self.paths)

    def read(self, *, advance: Advance = lambda done: None) -> ScalarLog:
        """The means of the files. Raises InputError for files that cannot be read or hold no known means."""
        path = self.paths[0]
        if self.kind == "state":
            return read_scalars(_history(path, advance), path=path, container=_STATE, is_whole=True)
        if self.kind == "events":
            rows = ((place, _of_events(row)) for place, row in read_events(list(self.paths), advance))
            return read_scalars(rows, path=path, container="event files of TensorBoard", is_whole=True)
        return _read_rows(FileSource(self.paths), advance)


def find_scalars(path: Path, format: Format | None = None) -> ScalarFiles | None:  # noqa: A002
    """The means at a path; None for a log of samples or an unknown kind of file.

    A file holds means if its rows have a column that no log of samples has, and no prompt, response or
    outcome. A folder holds means if it has no samples but a trainer_state.json (its own or that of its last
    checkpoint), event files, or metrics.jsonl. format: "means" reads rows as means whatever their columns
    are; any other format reads them as samples.
    """
    if format not in (None, "means"):
        return None
    if path.is_dir():
        return _of_folder(path)
    if is_event_file(path):
        return ScalarFiles("events", (path,)) if path.is_file() else None
    if not path.is_file():
        return None
    if _is_state(path):
        return ScalarFiles("state", (path,))
    if kind_of_file(path) is None or (format is None and not _is_table_of_means(FileSource((path,)))):
        return None
    return ScalarFiles("rows", (path,))


def _of_folder(folder: Path) -> ScalarFiles | None:
    if (folder / SAMPLES).is_file() or (folder / "completions").is_dir():
        return None
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if any(kind_of_file(path) not in (None, ".json") and path.name != METRICS for path in files) and (
        not (folder / METRICS).is_file()
    ):
        return None  # a log of samples
    if (folder / _STATE).is_file():
        return ScalarFiles("state", (folder / _STATE,))
    if (folder / METRICS).is_file() and _is_table_of_means(FileSource((folder / METRICS,))):
        return ScalarFiles("rows", (folder / METRICS,))
    checkpoints = {
        int(match[1]): path / _STATE
        for path in folder.iterdir()
        if (match := _CHECKPOINT.fullmatch(path.name)) is not None and (path / _STATE).is_file()
    }
    if checkpoints:
        return ScalarFiles("state", (checkpoints[max(checkpoints)],))
    events = tuple(path for path in files if is_event_file(path))
    return ScalarFiles("events", events) if events else None


def _is_state(path: Path) -> bool:
    if kind_of_file(path) != ".json" or path.suffix != ".json":
        return False
    if path.name == _STATE:
        return True
    try:
        with open(path, "rb") as handle:
            start = handle.read(_PEEK)
    except OSError:
        return False  # the reader reports the error
    return start.lstrip().startswith(b"{") and f'"{_HISTORY}"'.encode() in start


def _is_table_of_means(source: Source) -> bool:
    try:
        first = merged_row(source)
    except InputError:
        return False  # the reader of samples reports the error
    return holds_means(_unpacked(first))


def _unpacked(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of verl's file logger, {"step": ..., "data": {...}}, as a row of columns."""
    data = row.get("data")
    return {**data, "step": row["step"]} if isinstance(data, Mapping) and "step" in row else row


def _history(path: Path, advance: Advance) -> Iterator[NamedRow]:
    """The rows of a trainer's state."""
    data = read_bytes(path)
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
        raise InputError(
            f"cannot read {path}: expected a whole {_STATE}; it may be cut off: {one_line(error)}"
        ) from error
    advance(len(data))
    history = document.get(_HISTORY) if isinstance(document, dict) else None
    if not isinstance(history, list):
        raise InputError(f"{path}: expected `{_HISTORY}`, a list of logged values; got none")
    for number, row in enumerate(history, start=1):
        yield (
            f"entry {number}",
            plain_row(row, "step")
            if isinstance(row, Mapping)
            else BadLineError("not an object", is_broken=True),
        )


def _of_events(row: Mapping[str, Any] | BadLineError) -> Mapping[str, Any] | BadLineError:
    return row if isinstance(row, BadLineError) else plain_row(row, "step")


def _read_rows(source: FileSource, advance: Advance) -> ScalarLog:
    """JSON Lines and tables: verl's file logger, W&B's history and charts, allmodes' metrics.jsonl."""
    path, packed = source.paths[0], merged_row(source)
    first = _unpacked(packed)
    step = next((name for name in STEPS if name in first), None)
    if step is None and first:
        raise InputError(f"{path}: expected a column of steps, one of {', '.join(STEPS)}; got {_some(first)}")
    chart = is_chart(first)
    names = _chart_names(path, first) if chart else {}
    remarks = (f"The chart's run {listing([next(iter(names.values()))[0]])} is read.",) if names else ()

    def rows() -> Iterator[NamedRow]:
        for place, row in source.rows(advance=advance):
            if not isinstance(row, BadLineError):
                row = _unpacked(row)
                if chart:
                    found = {metric: row.get(column) for column, (_, metric) in names.items()}
                    row = {**found, "step": row.get(step or "step")}
                row = plain_row(row, "step" if chart else step or "step")
            yield source.name(place), row

    is_whole = first is not packed or path.name == METRICS
    container = "a chart of W&B" if chart else path.name if is_whole else f"rows of {path.name}"
    return read_scalars(rows(), path=path, container=container, is_whole=is_whole, remarks=remarks)


def _chart_names(path: Path, first: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Run and metric of each column of a chart. Raises InputError for one with several runs."""
    found = {column: pair for column in first if (pair := chart_column(column)) is not None}
    runs = list(dict.fromkeys(run for run, _ in found.values()))
    if len(runs) > 1:
        raise InputError(f"{path}: expected a chart of one run; got {len(runs)}: {_some(runs)}")
    return found


def _some(names: Any) -> str:
    found = list(names)
    return ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
