"""Files of molecules as people keep them: every line in order, with its name, readable or not."""

import codecs
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from rich.progress import track

from allmodes.chem.molecules import canonical_smiles
from allmodes.errors import InputError
from allmodes.runs.files import read_bytes, write_text
from allmodes.runs.progress import console
from allmodes.runs.words import plural

_REJECTED = "line\treason\ttext\n"  # the head of the table


@final
@dataclass(frozen=True, kw_only=True)
class InputMolecule:
    """One line of a file: its number from 1, its name, and its canonical SMILES or why there is none."""

    line: int
    name: str
    text: str
    smiles: str | None
    reason: str


@final
@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A line that could not be used: its number in the file (from 1), its text and the reason."""

    line: int
    text: str
    reason: str


def write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    """List the lines that are left out in a table, and say so; without any, there is no table.

    A file that is no such table stays when there is nothing to write: it is the user's.
    """
    if not rejected:
        if path.is_file() and path.read_bytes().startswith(_REJECTED.encode()):
            path.unlink()
        return
    rows = [f"{row.line}\t{row.reason}\t{row.text}\n" for row in rejected]
    write_text(path, _REJECTED + "".join(rows))
    first = rejected[0]
    console.print(
        f"{plural(len(rejected), 'line')} left out, listed in {path}; "
        f"the first is line {first.line}: {first.reason}",
        markup=False,
    )


def read_molecules(path: Path) -> list[InputMolecule]:
    """Every line of a file of molecules, duplicates included.

    `.csv` and `.csv.gz`: the columns `smiles` and, where there is one, `name`, whatever their case. All else:
    SMILES, then the name, with white space between. Raises `InputError` when the file is missing, unreadable,
    cut off, without a column `smiles`, or holds no molecule; a malformed line is never fatal.
    """
    text = _read_text(path)
    is_csv = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"][-1:] == [".csv"]
    lines = list(_csv_lines(path, text) if is_csv else _smiles_lines(text))
    found = [
        _molecule(number, name.strip(), smiles)
        for number, name, smiles in track(lines, "reading molecules", console=console)
    ]
    if not any(molecule.smiles for molecule in found):
        raise InputError(f"{path}: expected one SMILES a line; got none that RDKit can read")
    return found


def _read_text(path: Path) -> str:
    return read_bytes(path).removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="replace")


def _smiles_lines(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.replace("\r\n", "\n").removesuffix("\n").split("\n"), start=1):
        smiles, _, name = line.strip().replace("\t", " ").partition(" ")
        yield number, name, smiles


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    end = 0
    columns: list[str] | None = None
    try:
        for row in rows:
            number, end = end + 1, rows.line_num  # a quoted cell may go over several lines
            if columns is None:
                columns = [cell.strip().lower() for cell in row]
                if columns.count("smiles") != 1:
                    got = ", ".join(repr(cell) for cell in row) or "an empty line"
                    raise InputError(
                        f"{path}: line 1: expected one column `smiles`, commas between columns; got {got}"
                    )
                continue
            cells = dict(zip(columns, row, strict=False))
            yield number, cells.get("name", ""), cells.get("smiles", "")
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: expected CSV; {error}") from error


def _molecule(line: int, name: str, text: str) -> InputMolecule:
    text = text.strip()
    smiles = canonical_smiles(text)
    problem = "RDKit cannot read it as SMILES" if text else "no SMILES"
    return InputMolecule(
        line=line, name=name, text=text, smiles=smiles, reason=problem if smiles is None else ""
    )
