"""Sources of the rows of a log: a file, a folder of files, or memory. Each can be read repeatedly."""

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, final

from allmodes.audit.logs.files import READERS, Advance, kind_of_file, read_file
from allmodes.errors import InputError
from allmodes.reports.formatting import listing
from allmodes.runs.lines import BadLineError

# Files that hold the samples in folders with other files, and what is known of their training.
SAMPLES, SETTINGS = "samples.jsonl", "audit.json"
# NoveltyBench writes the same generations three times; the first of these files has the most columns.
_NOVELTYBENCH = ("scores.jsonl", "partitions.jsonl", "generations.jsonl")
_OTHER_FILES = (SETTINGS, "report.json", "evaluation.json")
_STEP = re.compile(r"step_(\d+)")


class Place(NamedTuple):
    """The place of a row: the file of the log, from 0, and its line, or its row in a table, from 1.

    part: the index of the response in a row with several, from 0.
    """

    file: int
    line: int
    part: int = 0


Places = Container[tuple[int, int, int]]
Row = tuple[Place, "Mapping[str, Any] | BadLineError"]


class Source(Protocol):
    """The rows of a log, in the same order each time."""

    @property
    def size(self) -> int:
        """The total that `advance` adds up to: bytes, or rows."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences about files that were read or left out."""
        ...

    def rows(self, *, wanted: Places | None = None, advance: Advance) -> Iterator[Row]:
        """Every row, or its error if it is malformed; with `wanted`, only those rows.

        advance: called with the amount read since its last call. Raises InputError if the source cannot be
        read.
        """
        ...

    def name(self, place: Place) -> str:
        """A place, named for a reader."""
        ...


def open_source(path: Path) -> "FileSource":
    """The log at a path: a file, or a folder of files of one kind in their natural order.

    Kinds: the keys of `READERS`; all except Parquet and ledgers also as `.gz`. In a folder with
    samples.jsonl (from our runs and `AuditLog`), that file is read; with NoveltyBench's files, the last one
    written; with a ledger, the ledger. Folders `step_N`, as from prime-rl, here or in `rollouts`, give their
    rows the step. For TRL's output folder, its `completions` are read. Raises InputError for anything else.
    """
    if not path.exists():
        raise InputError(f"expected a log of samples; {path} does not exist")
    if not path.is_dir():
        return FileSource((path,))
    found = (
        _of_folder(path)
        or _of_steps(path)
        or _of_steps(path / "rollouts")
        or _of_folder(path / "completions")
    )
    if found is None:
        raise InputError(f"{path}: expected files of one of the kinds {', '.join(READERS)}; got none")
    return found


def _of_folder(folder: Path) -> "FileSource | None":
    """The files of a folder; None if it has none."""
    if not folder.is_dir():
        return None
    for name in (SAMPLES, *_NOVELTYBENCH):
        if (folder / name).is_file():
            return FileSource((folder / name,))
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=_natural)
    kinds = {kind: [path for path in files if kind_of_file(path) == kind] for kind in READERS}
    kinds[".json"] = [path for path in kinds[".json"] if path.name not in _OTHER_FILES]
    kind = next((kind for kind, paths in kinds.items() if paths), None)
    if kind is None:
        return None
    chosen, is_evaluation = (
        kinds[kind],
        [path for path in kinds[kind] if path.name.startswith("eval_rollouts")],
    )
    if len(is_evaluation) < len(chosen):
        chosen = [path for path in chosen if path not in is_evaluation]
    else:
        is_evaluation = []
    others = [kind for kind, paths in kinds.items() if paths and kind != ".json"][1:]
    remarks = (
        [f"The {kind} files of the folder are read; those of kind {listing(others)} are not."]
        if others
        else []
    )
    if is_evaluation:
        remarks.append(
            f"{listing([path.name for path in is_evaluation])} is left out: it holds an evaluation."
        )
    return FileSource(tuple(chosen), tuple(remarks))


def _of_steps(folder: Path) -> "FileSource | None":
    """The files in folders `step_N`; None if there are none."""
    if not folder.is_dir():
        return None
    found = [
        (path, source)
        for path in sorted(folder.iterdir(), key=_natural)
        if _STEP.fullmatch(path.name) and (source := _of_folder(path)) is not None
    ]
    if not found:
        return None
    remarks = [remark for _, source in found for remark in source.remarks]
    return FileSource(
        tuple(path for _, source in found for path in source.paths), tuple(dict.fromkeys(remarks))
    )


def _natural(path: Path) -> list[Any]:
    """Files in the order of their numbers: 9.jsonl before 10.jsonl."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


@final
@dataclass(frozen=True)
class FileSource:
    """Files on disk, one after the other."""

    paths: tuple[Path, ...]
    remarks: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(path.stat().st_size for path in self.paths)

    def rows(self, *, wanted: Places | None = None, advance: Advance) -> Iterator[Row]:
        """The rows of all files."""
        for number, path in enumerate(self.paths):
            chosen = None if wanted is None else _InFile(wanted, number)
            named = _STEP.fullmatch(path.resolve().parent.name)
            step = None if named is None else int(named[1])
            for line, row in read_file(path, chosen, advance):
                if step is not None and not isinstance(row, BadLineError) and row.get("step") is None:
                    row = {**row, "step": step}
                yield Place(number, line), row

    def name(self, place: Place) -> str:
        """A place, named for a reader."""
        path = self.paths[place.file]
        kind = "row" if kind_of_file(path) in (".json", ".parquet") else "line"
        line = f"{kind} {place.line}"
        if len(self.paths) == 1:
            return line
        names = [path.name for path in self.paths]
        name = path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}"
        return f"{name}, {line}"


@final
@dataclass(frozen=True)
class _InFile:
    """The lines of one file among the wanted places."""

    wanted: Places
    file: int

    def __contains__(self, line: object) -> bool:
        return isinstance(line, int) and (self.file, line, 0) in self.wanted


@final
class RecordSource:
    """Rows that are in memory already."""

    remarks: tuple[str, ...] = ()

    def __init__(self, records: list[Mapping[str, Any]]) -> None:
        self._records = records

    @property
    def size(self) -> int:
        """Rows."""
        return len(self._records)

    def rows(self, *, wanted: Places | None = None, advance: Advance) -> Iterator[Row]:
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
        """A place, named for a reader."""
        return f"record {place.line}"


@final
class SplitSource:
    """A log whose rows hold a list of responses each, one row a response.

    In a row with n responses, every other list of n values except the prompt has one value per response; all
    other values are shared. A row with one response stays unchanged.
    """

    def __init__(self, source: Source, response: str, *, whole: frozenset[str]) -> None:
        """response: the column that holds the lists. whole: columns that are never split."""
        self._source, self._response, self._whole = source, response, whole
        self.remarks = source.remarks

    @property
    def size(self) -> int:
        """The log's own."""
        return self._source.size

    def rows(self, *, wanted: Places | None = None, advance: Advance) -> Iterator[Row]:
        """One row per response."""
        for place, row in self._source.rows(advance=advance):
            responses: Any = None if isinstance(row, BadLineError) else row.get(self._response)
            if responses == []:
                row = BadLineError(f"`{self._response}` holds no response")
            if isinstance(row, BadLineError) or not holds_responses(responses):
                if wanted is None or place in wanted:
                    yield place, row
                continue
            count = len(responses)
            lists = {
                name: value
                for name, value in row.items()
                if name not in self._whole and isinstance(value, list) and len(value) == count
            }
            for part in range(count):
                at = Place(place.file, place.line, part)
                if wanted is None or at in wanted:
                    yield at, {**row, **{name: values[part] for name, values in lists.items()}}

    def name(self, place: Place) -> str:
        """A place, named for a reader."""
        return f"{self._source.name(place)}, response {place.part + 1}"


def holds_responses(value: Any) -> bool:
    """Whether a value is a list of responses (texts or conversations), and not itself a conversation."""
    return (
        isinstance(value, list)
        and any(one is not None for one in value)
        and all(one is None or isinstance(one, str | list) for one in value)
    )
