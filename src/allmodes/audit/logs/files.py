"""The rows of one file: JSON Lines, JSON, CSV, Parquet or a ledger of allmodes, optionally with gzip."""

import codecs
import csv
import gzip
import importlib
import json
import sqlite3
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast, final

from allmodes.errors import InputError, one_line
from allmodes.extras import require
from allmodes.runs.files import read_bytes
from allmodes.runs.lines import BadLineError, json_object, kind_of, lines_of, open_seekable

Advance = Callable[[int], object]
Lines = Iterator[tuple[int, "Mapping[str, Any] | BadLineError"]]
_EVERY = 1 << 20  # bytes between two reports of progress


@final
class Unreadable:
    """A value that Python cannot represent, such as a date after the year 9999."""


def kind_of_file(path: Path) -> str | None:
    """A file's kind, a key of `READERS`: its last suffix before `.gz`; None for other files."""
    name = path.name.lower().removesuffix(".gz")
    return next((kind for kind in READERS if name.endswith(kind)), None)


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def read_file(path: Path, wanted: Container[int] | None, advance: Advance) -> Lines:
    """The rows of a file with their numbers, or the errors of malformed rows; with `wanted`, only those rows.

    advance: called with the number of bytes read since its last call; the sum is the file's size. Raises
    InputError for an unknown kind of file, or a file that cannot be read.
    """
    kind = kind_of_file(path)
    if kind is None:
        raise InputError(
            f"{path}: expected a file of one of the kinds {', '.join(READERS)}; got {path.suffix!r}"
        )
    if kind in _UNPACKED and _is_packed(path):
        raise InputError(
            f"{path}: expected an uncompressed {kind} file; got one compressed with gzip: unpack it"
        )
    return READERS[kind](path, wanted, advance)


@contextmanager
def _opened(path: Path, advance: Advance) -> Iterator[tuple[BinaryIO, Callable[[], None]]]:
    """An open file, decompressed if needed, and a function that reports the bytes read to `advance`."""
    with open_seekable(path) as raw:
        told = 0

        def tell() -> None:
            nonlocal told
            position = raw.tell()
            advance(position - told)
            told = position

        yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if _is_packed(path) else raw, tell
        tell()


def _json_lines(path: Path, wanted: Container[int] | None, advance: Advance) -> Lines:
    unsaid = 0
    with _opened(path, advance) as (handle, tell):
        for number, line in enumerate(lines_of(path, handle), start=1):
            unsaid += len(line)
            if unsaid >= _EVERY:
                tell()
                unsaid = 0
            if (wanted is not None and number not in wanted) or not line.strip():
                continue
            try:
                yield number, json_object(line, is_first=number == 1)
            except BadLineError as error:
                yield number, BadLineError(kind_of(error, line), is_broken=True)


def _json_rows(path: Path, wanted: Container[int] | None, advance: Advance) -> Lines:
    """An array of objects, a W&B table, pandas' {"data": [...]}, or JSON Lines with another suffix."""
    data = read_bytes(path)
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise InputError(
            f"cannot read {path}: expected JSON with few levels of nesting; got too many"
        ) from error
    except ValueError as error:  # also UnicodeDecodeError
        if data.lstrip(codecs.BOM_UTF8 + b" \t\r\n").startswith(b"["):
            raise InputError(f"cannot read {path}: expected JSON; {one_line(error)}") from error
        yield from _json_lines(path, wanted, advance)
        return
    advance(path.stat().st_size)
    for number, row in enumerate(_rows_of(path, document), start=1):
        if wanted is None or number in wanted:
            yield number, row


def _rows_of(path: Path, document: Any) -> Iterator[Mapping[str, Any] | BadLineError]:
    columns: Any = None
    rows: Any = document
    if isinstance(document, dict):
        rows, columns = document.get("data"), document.get("columns")
        if not isinstance(rows, list):  # a single object is a row
            rows, columns = [document], None
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected an array of objects or a table; got {type(document).__name__}")
    for row in rows:
        if isinstance(row, dict):
            yield row
        elif not isinstance(row, list) or not isinstance(columns, list):
            yield BadLineError("not an object", is_broken=True)
        elif len(row) != len(columns):
            yield _wrong_cells(len(row), len(columns))
        else:
            yield dict(zip(_names([str(name) for name in columns]), row, strict=True))


def _csv_rows(path: Path, wanted: Container[int] | None, advance: Advance) -> Lines:
    csv.field_size_limit(1 << 30)  # a response may be longer than the 128 KiB that the module allows
    unsaid = 0
    with _opened(path, advance) as (handle, tell):
        # Bytes that are not UTF-8 become lone surrogates, so only their row is lost, not the file.
        text = (
            line.removeprefix(codecs.BOM_UTF8.decode() if first else "")
            for first, line in _decoded(path, handle)
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
                head = _names(cells)
            elif cells and (wanted is None or number in wanted):
                yield number, _csv_row(head, cells)
            if unsaid >= _EVERY:
                tell()
                unsaid = 0


def _csv_cells(lines: Iterator[str]) -> Iterator[tuple[int, list[str] | BadLineError]]:
    """Rows by the number of their first line; a fault loses one row, an open quotation mark all after it."""
    reader = csv.reader(lines, strict=True)
    while True:
        number = reader.line_num + 1  # a quoted cell may span several lines
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            kind = "cut off, or unreadable after an open quotation mark" if is_open else f"not CSV ({error})"
            yield number, BadLineError(kind, is_broken=True)


def _names(cells: list[str]) -> list[str]:
    """Names of columns; a repeated name becomes `name.1`, as in pandas."""
    names = [cell.strip() for cell in cells]
    again = [names[:at].count(name) for at, name in enumerate(names)]
    return [f"{name}.{count}" if count else name for name, count in zip(names, again, strict=True)]


def _decoded(path: Path, handle: BinaryIO) -> Iterator[tuple[bool, str]]:
    first = True
    for line in lines_of(path, handle):
        yield first, line.decode("utf-8", errors="surrogateescape")
        first = False


def _csv_row(head: list[str], cells: list[str]) -> "Mapping[str, Any] | BadLineError":
    if len(cells) != len(head):
        return _wrong_cells(len(cells), len(head))
    if any(not cell.isascii() and any("\udc80" <= c <= "\udcff" for c in cell) for cell in cells):
        return BadLineError("not UTF-8", is_broken=True)
    return {name: cell or None for name, cell in zip(head, cells, strict=True)}


def _wrong_cells(count: int, expected: int) -> BadLineError:
    return BadLineError(f"{count} cells where the header has {expected}", is_broken=True)


def _parquet_rows(path: Path, wanted: Container[int] | None, advance: Advance) -> Lines:
    require(f"{path}: reading Parquet needs", "pyarrow", extras="parquet")
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    number, size = 0, path.stat().st_size
    try:
        with parquet.ParquetFile(path) as file:
            rows = max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=1 << 14):
                names = batch.schema.names
                columns = [_values(column, arrow.ArrowException) for column in batch.columns]
                for row in zip(*columns, strict=True):
                    number += 1
                    if wanted is None or number in wanted:
                        yield number, dict(zip(names, row, strict=True))
                advance(size * batch.num_rows // rows)
    except (OSError, arrow.ArrowException) as error:
        raise InputError(f"cannot read {path}: expected a Parquet file; {one_line(error)}") from error


def _values(column: Any, arrow_error: type[Exception]) -> list[Any]:
    """A column as Python values; a value that Python cannot represent is lost, not the file."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, arrow_error):
        return [_value(cell, arrow_error) for cell in column]


def _value(cell: Any, arrow_error: type[Exception]) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError, arrow_error):
        return Unreadable()


def _ledger_rows(path: Path, wanted: Container[int] | None, advance: Advance) -> Lines:
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


# Keyed by the suffix before `.gz`; in a folder with several kinds, the first kind here is read.
READERS: dict[str, Callable[[Path, "Container[int] | None", Advance], Lines]] = {
    ".sqlite": _ledger_rows,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
    ".json": _json_rows,
}
_UNPACKED = (".sqlite", ".parquet")
