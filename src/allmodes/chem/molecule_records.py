"""Splits files of molecules into records: an SDF, a table with a column of SMILES, or one SMILES per line."""

import csv
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from rdkit import Chem

from allmodes.chem.molecules import canonical_smiles, parse_block, parse_smiles
from allmodes.errors import InputError
from allmodes.runs.files import read_text

# A cell of any length costs its row, where Python's own limit would cost the file.
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# Heads without case and what separates their words; of several, the first of these lists counts.
_SMILES = ("smiles", "isomericsmiles", "canonicalsmiles")
_SMILES_LIKE = re.compile(r"[a-z0-9()]*smiles|smiles[a-z0-9()]*")
_NAMES = (
    *("name", "title", "moleculename", "compoundname", "id", "moleculeid", "compoundid", "chemblid"),
    *("moleculechemblid", "zincid", "catalogid", "idnumber"),
)
_PACKED = (".gz", ".bz2", ".xz")
_TABLES, _MOLFILES = (".csv", ".tsv"), (".sdf", ".sd", ".mol")
_START = 10_000  # characters by which another kind of file is known
_END = re.compile(r"^M +END\s*$", re.MULTILINE)
_DATA = re.compile(r"^>.*<(.+)>")
_FOREIGN = {
    r"^@<TRIPOS>": "Mol2",
    r"\A(HEADER|ATOM  |HETATM|REMARK |CRYST1|TITLE |COMPND |MODEL )": "a PDB file",
    r"\A(#.*\n)*data_": "a CIF file",
    r"\A\s*\d+\n.*\n\s*[A-Z][a-z]?(\s+-?\d+\.\d+){3}": "XYZ coordinates",
    r"\AInChI=": "InChI",
    r"\A\s*<": "XML or a web page",
    r"\A\s*[{\[]\s*[\"{\[]": "JSON",
}


@final
@dataclass(frozen=True, kw_only=True)
class MoleculeRecord:
    """One molecule as a file has it.

    line: where it begins, from 1. text: its SMILES or CXSMILES, or with `is_block` its molfile. value: what
    it has in the column that was asked for, None without one.
    """

    line: int
    name: str
    text: str
    is_block: bool = False
    value: str | None = None

    def molecule(self) -> Chem.Mol:
        """The molecule. Raises `MoleculeError` with the reason when there is none."""
        return parse_block(self.text) if self.is_block else parse_smiles(self.text)

    def shown(self) -> str:
        """What stands for it in a list: its SMILES, or the name of its molfile; one line, cut off."""
        return " ".join((self.name if self.is_block else self.text).split())[:200]


def read_records(path: Path, *, column: str | None = None) -> Iterator[MoleculeRecord]:
    """Every molecule of a file, in its order, readable or not; empty lines of a list of SMILES included.

    What the file is shows in its content: records of an SDF (V2000 or V3000); a table whose first line names
    a column of SMILES, with commas, semicolons, tabs, bars or white space between its cells; else a SMILES or
    CXSMILES a line, then its name. Lines that begin with # do not count, but in a table those before its
    header alone. Any common encoding and packing, see `read_text`. A column, or a property of an SDF, is
    found in any case: `SMILES`, `canonical_smiles`, `Ligand SMILES`. column: whose value is kept.

    Raises `InputError` that names the cause when the file cannot be read, is of another kind, such as Mol2,
    is no SDF or no table although its name says so, has several columns of SMILES, or lacks `column`.
    """
    text = read_text(path)
    endings = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _PACKED]
    ending = endings[-1] if endings else ""
    has_molfile = _END.search(text) is not None
    kinds = {} if has_molfile else _FOREIGN  # an SDF may begin with any title
    for pattern, kind in {r"\A\$(RXN|RDFILE)": "a file of reactions", **kinds}.items():
        if re.search(pattern, text[:_START], re.MULTILINE):
            raise InputError(f"{path}: expected SMILES, a table or an SDF; got {kind}: convert it first")
    lines = text.removesuffix("\n").split("\n")
    start = next((number for number, line in enumerate(lines) if line.strip() and not _is_note(line)), 0)
    delimiter = _delimiter(lines[start], ending)
    if ending in _MOLFILES or (delimiter is None and has_molfile):
        if not has_molfile:
            raise InputError(f"{path}: expected an SDF; got no line `M  END`")
        return _molfile_records(text, column)
    if delimiter is not None:
        return _table_records(path, lines, start, delimiter, column)
    heads = _heads(lines[start])
    if ending in _TABLES and heads is None:
        got = ", ".join(repr(cell) for cell in _cells(lines[start], ",")) or "an empty file"
        raise InputError(f"{path}: line {start + 1}: expected a column `smiles`; got {got[:300]}")
    if heads is not None:
        return _spaced_records(path, lines, start, heads, column)
    if column is not None:
        raise InputError(f"{path}: line {start + 1}: expected the columns smiles and {column}; got no table")
    return _line_records(lines)


def _is_note(line: str) -> bool:
    return line.lstrip().startswith("#")


# SDF


def _molfile_records(text: str, column: str | None) -> Iterator[MoleculeRecord]:
    start: int = 1
    block: list[str] = []
    for number, line in enumerate([*text.split("\n"), "$$$$"], start=1):
        if not line.startswith("$$$$"):
            block.append(line)
            continue
        if any(part.strip() for part in block):
            yield _molfile_record(start, block, column)
        start, block = number + 1, []


def _molfile_record(line: int, block: Sequence[str], column: str | None) -> MoleculeRecord:
    end = next((index + 1 for index, part in enumerate(block) if _END.match(part)), len(block))
    values: dict[str, str] = {}
    name = None
    for part in block[end:]:
        data = _DATA.match(part)
        if data is not None:
            name = data[1]
            values[name] = ""
        elif name is not None and part.strip():
            values[name] = f"{values[name]}\n{part}".strip()
        else:
            name = None
    found = None if column is None else _find(list(values), column)
    return MoleculeRecord(
        line=line,
        name=block[0].strip() or _name(values),
        text="\n".join(block[:end]) + "\n",
        is_block=True,
        value=None if found is None else values[found],
    )


# Tables


def _delimiter(header: str, ending: str) -> str | None:
    """What separates the cells of a header with a column of SMILES; None for any other line."""
    first = "\t" if ending == ".tsv" else ","
    for delimiter in (first, *_DELIMITERS):
        cells = _cells(header, delimiter)
        if len(cells) > 1 and _is_header(cells):
            return delimiter
    return first if ending in _TABLES and _is_header([header]) else None


def _heads(header: str) -> list[str] | None:
    """The heads of a header with white space between them; None for any other line."""
    heads = header.split()
    return heads if _is_header(heads) else None


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _is_header(cells: Sequence[str]) -> bool:
    """Whether a cell names a column of SMILES, and the first is no molecule that has such a name."""
    is_header = any(_SMILES_LIKE.fullmatch(_plain(cell)) for cell in cells)
    return is_header and canonical_smiles(cells[0].strip()) is None


def _plain(head: str) -> str:
    """The name of a column without case and what separates its words."""
    return re.sub(r"[\s_.\-]+", "", head).lower()


def _find(heads: Sequence[str], column: str) -> str | None:
    """The head that is `column`, in any case if need be."""
    if column in heads:
        return column
    return next((head for head in heads if _plain(head) == _plain(column)), None)


def _smiles_column(path: Path, line: int, heads: Sequence[str]) -> int:
    """The index of the column of SMILES."""
    plain = [_plain(head) for head in heads]
    wanted = next((name for name in _SMILES if name in plain), None)
    found = [
        index
        for index, head in enumerate(plain)
        if (head == wanted if wanted is not None else _SMILES_LIKE.fullmatch(head))
    ]
    if len(found) != 1:
        got = ", ".join(repr(heads[index]) for index in found)
        raise InputError(f"{path}: line {line}: expected one column `smiles`; got {got}")
    return found[0]


@final
class _Rows:
    """Makes records of the rows below a header."""

    def __init__(self, path: Path, line: int, heads: Sequence[str], column: str | None) -> None:
        self._heads = [head.strip() for head in heads]
        self.smiles = _smiles_column(path, line, self._heads)
        self._column = None if column is None else _find(self._heads, column)
        if column is not None and self._column is None:
            got = ", ".join(self._heads)[:300]
            raise InputError(f"{path}: line {line}: expected the columns smiles and {column}; got {got}")

    def record(self, line: int, row: Sequence[str]) -> MoleculeRecord:
        values = {head: cell.strip() for head, cell in zip(self._heads, row, strict=False)}
        text = row[self.smiles].strip() if self.smiles < len(row) else ""
        value = None if self._column is None else values.get(self._column)
        return MoleculeRecord(line=line, name=_name(values), text=text, value=value)


def _table_records(
    path: Path, lines: Sequence[str], start: int, delimiter: str, column: str | None
) -> Iterator[MoleculeRecord]:
    text = io.StringIO("\n".join(lines[start:]) + "\n", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    end, rows = start, None
    try:
        for row in reader:
            number, end = end + 1, start + reader.line_num  # a quoted cell may go over several lines
            if rows is None:
                rows = _Rows(path, number, row, column)
            elif any(cell.strip() for cell in row):
                yield rows.record(number, row)
    except csv.Error as error:
        raise InputError(
            f"{path}: line {start + reader.line_num}: expected a table with {_DELIMITERS[delimiter]} "
            f"between its cells; {error}"
        ) from error


def _name(values: Mapping[str, str]) -> str:
    """The first of a row's names that is not empty."""
    plain = {_plain(head): cell for head, cell in values.items()}
    return next((plain[name] for name in _NAMES if plain.get(name)), "")


# White space between cells


def _spaced_records(
    path: Path, lines: Sequence[str], start: int, heads: Sequence[str], column: str | None
) -> Iterator[MoleculeRecord]:
    rows = _Rows(path, start + 1, heads, column)
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        if line.strip() and not _is_note(line):
            smiles, rest = _split(line) if rows.smiles == 0 else ("", line)
            others = rest.split(maxsplit=len(heads) - (2 if smiles else 1))
            yield rows.record(number, [smiles, *others] if smiles else others)


def _line_records(lines: Sequence[str]) -> Iterator[MoleculeRecord]:
    for number, line in enumerate(lines, start=1):
        if not _is_note(line):
            smiles, name = _split(line)
            yield MoleculeRecord(line=number, name=name, text=smiles)


def _split(line: str) -> tuple[str, str]:
    """SMILES or CXSMILES, and what stands behind it."""
    smiles, rest = [*line.split(maxsplit=1), "", ""][:2]
    if rest.startswith("|"):
        extension, bar, name = rest[1:].partition("|")
        if bar:
            return f"{smiles} |{extension}|", name.strip()
    return smiles, rest.strip()
