"""Where the rows of a log stand: JSON Lines, CSV, Parquet, a ledger of allmodes; read as often as needed."""

import codecs
import csv
import importlib
import importlib.util
import re
import sqlite3
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, final

from allmodes.errors import InputError, one_line
from allmodes.extras import require
from allmodes.runs.lines import BadLineError, json_object, kind_of, lines_of, open_seekable

# Of a folder that also holds other files: the samples, and what is known of their training.
SAMPLES, SETTINGS = "samples.jsonl", "audit.json"
Advance = Callable[[int], object]


class Place(NamedTuple):
    """Where a row stands: which file of the log, from 0, and its line, or its row in a table, from 1."""

    file: int
    line: int


Row = tuple[Place, "Mapping[str, Any] | BadLineError"]


class Source(Protocol):
    """The rows of a log, in the same order each time."""

    @property
    def size(self) -> int:
        """What `advance` is told in sum: bytes, or rows."""
        ...

    def rows(self, *, wanted: Container[tuple[int, int]] | None = None, advance: Advance) -> Iterator[Row]:
        """Every row, or what is wrong with it; with `wanted` those alone.

        advance: told what has been read since its last call. Raises InputError for what cannot be read.
        """
        ...

    def name(self, place: Place) -> str:
        """A place in words."""
        ...


def open_source(path: Path) -> Source:
    """The log at a path: a file, or a folder of files of one kind in their natural order.

    Kinds: .jsonl, .csv, .parquet and .sqlite (a ledger). A folder with samples.jsonl, as our runs and
    `AuditLog` write it, is that file; one with a ledger is that ledger's run.
    Raises InputError for anything else.
    """
    if path.is_dir():
        paths = _files_of(path)
    elif path.exists():
        paths = [path]
    else:
        raise InputError(f"expected a log of samples; {path} is not there")
    return FileSource(tuple(paths))


def _files_of(folder: Path) -> list[Path]:
    if (folder / SAMPLES).is_file():
        return [folder / SAMPLES]
    for suffix in (".sqlite", *_READERS):
        found = sorted(folder.glob(f"*{suffix}"), key=_natural)
        if found:
            return found
    raise InputError(f"{folder}: expected files of one of the kinds {', '.join(_READERS)}; got none")


def _natural(path: Path) -> list[Any]:
    """Files in the order of their numbers: 9.jsonl before 10.jsonl."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


@final
@dataclass(frozen=True)
class FileSource:
    """Files on disk, one after the other."""

    paths: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(path.stat().st_size for path in self.paths)

    def rows(self, *, wanted: Container[tuple[int, int]] | None = None, advance: Advance) -> Iterator[Row]:
        """The rows of all files."""
        for number, path in enumerate(self.paths):
            read = _READERS.get(path.suffix.lower())
            if read is None:
                raise InputError(
                    f"{path}: expected a file of one of the kinds {', '.join(_READERS)}; got {path.suffix!r}"
                )
            chosen = None if wanted is None else _InFile(wanted, number)
            for line, row in read(path, chosen, advance):
                yield Place(number, line), row

    def name(self, place: Place) -> str:
        """A place in words."""
        line = f"line {place.line}"
        return line if len(self.paths) == 1 else f"{self.paths[place.file].name}, {line}"


@final
@dataclass(frozen=True)
class _InFile:
    """The lines of one file among the wanted places."""

    wanted: Container[tuple[int, int]]
    file: int

    def __contains__(self, line: object) -> bool:
        return isinstance(line, int) and (self.file, line) in self.wanted


@final
class RecordSource:
    """Rows that are in memory already."""

    def __init__(self, records: list[Mapping[str, Any]]) -> None:
        self._records = records

    @property
    def size(self) -> int:
        """Rows."""
        return len(self._records)

    def rows(self, *, wanted: Container[tuple[int, int]] | None = None, advance: Advance) -> Iterator[Row]:
        """The records."""
        for number, record in enumerate(self._records, start=1):
            place = Place(0, number)
            if wanted is None or place in wanted:
                yield (
                    place,
                    record if isinstance(record, Mapping) else BadLineError("not a mapping", is_broken=True),
                )
        advance(len(self._records))

    def name(self, place: Place) -> str:
        """A place in words."""
        return f"record {place.line}"


_Lines = Iterator[tuple[int, "Mapping[str, Any] | BadLineError"]]


def _json_lines(path: Path, wanted: Container[int] | None, advance: Advance) -> _Lines:
    unsaid = 0
    with open_seekable(path) as handle:
        for number, line in enumerate(lines_of(path, handle), start=1):
            unsaid += len(line)
            if unsaid >= 1 << 20:
                advance(unsaid)
                unsaid = 0
            if (wanted is not None and number not in wanted) or not line.strip():
                continue
            try:
                yield number, json_object(line, is_first=number == 1)
            except BadLineError as error:
                yield number, BadLineError(kind_of(error, line), is_broken=True)
    advance(unsaid)


def _csv_rows(path: Path, wanted: Container[int] | None, advance: Advance) -> _Lines:
    csv.field_size_limit(1 << 30)  # a response may be longer than the 128 KiB that the module allows
    size, unsaid = path.stat().st_size, 0
    with open_seekable(path) as raw:
        # Bytes that are no UTF-8 become lone surrogates, so that they cost their row and not the file.
        text = (
            line.removeprefix(codecs.BOM_UTF8.decode() if first else "")
            for first, line in _decoded(path, raw)
        )
        head: list[str] | None = None
        for number, cells in _csv_cells(text):
            if isinstance(cells, BadLineError):
                yield number, cells
                if head is None:
                    break
                continue
            unsaid += sum(map(len, cells))
            if head is None:
                head = _head(cells)
            elif cells and (wanted is None or number in wanted):
                yield number, _csv_row(head, cells)
            if unsaid >= 1 << 20:
                advance(unsaid)
                size, unsaid = size - unsaid, 0
    advance(max(size, 0))


def _csv_cells(lines: Iterator[str]) -> Iterator[tuple[int, list[str] | BadLineError]]:
    """Rows by the number of their first line: a fault costs its row, but an open quotation mark all below."""
    reader = csv.reader(lines, strict=True)
    while True:
        number = reader.line_num + 1  # a quoted cell may go over several lines
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            kind = "cut off, or not to be read from a quotation mark on" if is_open else f"not CSV ({error})"
            yield number, BadLineError(kind, is_broken=True)


def _head(cells: list[str]) -> list[str]:
    """Names of columns; one that comes again is `name.1`, as pandas calls it, and hides nothing."""
    names = [cell.strip() for cell in cells]
    again = [names[:at].count(name) for at, name in enumerate(names)]
    return [f"{name}.{count}" if count else name for name, count in zip(names, again, strict=True)]


def _decoded(path: Path, handle: Any) -> Iterator[tuple[bool, str]]:
    first = True
    for line in lines_of(path, handle):
        yield first, line.decode("utf-8", errors="surrogateescape")
        first = False


def _csv_row(head: list[str], cells: list[str]) -> "Mapping[str, Any] | BadLineError":
    if len(cells) != len(head):
        return BadLineError(f"{len(cells)} cells where the head has {len(head)}", is_broken=True)
    if any(not cell.isascii() and any("\udc80" <= c <= "\udcff" for c in cell) for cell in cells):
        return BadLineError("not UTF-8", is_broken=True)
    return {name: cell or None for name, cell in zip(head, cells, strict=True)}


def _parquet_rows(path: Path, wanted: Container[int] | None, advance: Advance) -> _Lines:
    require(f"{path}: reading Parquet needs", "pyarrow", extras="parquet")
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    number, size = 0, path.stat().st_size
    try:
        with parquet.ParquetFile(path) as file:
            rows = max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=1 << 14):
                for row in batch.to_pylist():
                    number += 1
                    if wanted is None or number in wanted:
                        yield number, row
                advance(size * batch.num_rows // rows)
    except (OSError, arrow.ArrowException) as error:
        raise InputError(f"cannot read {path}: expected a Parquet file; {one_line(error)}") from error


def _ledger_rows(path: Path, wanted: Container[int] | None, advance: Advance) -> _Lines:
    query = "SELECT call, step, smiles, reward, penalised_reward FROM evaluations ORDER BY call"
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            for row in database.execute(query):
                if wanted is None or row["call"] in wanted:
                    yield row["call"], dict(row)
    except sqlite3.Error as error:
        raise InputError(f"cannot read {path}: expected a ledger of oracle calls; {error}") from error
    advance(path.stat().st_size)


_READERS: dict[str, Callable[[Path, "Container[int] | None", Advance], _Lines]] = {
    ".jsonl": _json_lines,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
    ".sqlite": _ledger_rows,
}
