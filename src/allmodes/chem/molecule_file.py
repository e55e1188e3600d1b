"""Files of molecules as people keep them: every one in order, with its name, readable or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from allmodes.chem.molecule_records import MoleculeRecord, read_records
from allmodes.chem.molecules import NO_SMILES, MoleculeError, spelling
from allmodes.errors import InputError
from allmodes.reports.formatting import plural
from allmodes.reports.progress import console, tracked
from allmodes.runs.files import write_text

_REJECTED = "line\treason\ttext\n"  # the head of the table


@final
@dataclass(frozen=True, kw_only=True)
class InputMolecule:
    """One molecule of a file: its line from 1, its name, and its canonical SMILES or why there is none."""

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
    """Every molecule of a file, duplicates included: SMILES, a table or an SDF, as `read_records` reads them.

    Raises `InputError` if the file cannot be read, is of another kind, or holds no molecule; a molecule
    that cannot be read, or that is too large, is never fatal.
    """
    records = tracked(read_records(path), "reading molecules")
    found = [_molecule(record) for record in records]
    if not any(molecule.smiles for molecule in found):
        raise InputError(f"{path}: expected {EXPECTED}; got {no_molecule(found)}")
    return found


EXPECTED = "one SMILES a line, a table with a column `smiles`, or an SDF"


def no_molecule(found: Sequence[InputMolecule]) -> str:
    """What a file without a molecule has: nothing, or a number of lines and why the first was not read."""
    first = next((molecule for molecule in found if molecule.reason != NO_SMILES), None)
    if first is None:
        return "an empty file"
    return f"no molecule on {plural(len(found), 'line')}; line {first.line}: {first.reason}"


def _molecule(record: MoleculeRecord) -> InputMolecule:
    smiles, reason = None, ""
    try:
        smiles = spelling(record.molecule())
    except MoleculeError as error:
        reason = str(error)
    return InputMolecule(
        line=record.line, name=record.name, text=record.shown(), smiles=smiles, reason=reason
    )
