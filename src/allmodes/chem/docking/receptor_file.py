"""A receptor's PDBQT, checked line by line before an engine sees it.

Engines end the whole process, or score nonsense, on much of what is refused here.
"""

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import final

from allmodes.chem.docking.box import Box, Vector, coordinates, read_lines
from allmodes.errors import ConfigError

# AutoDock's atom types that Vina 1.2 knows, without those of broken macrocycles and hydrated ligands.
ATOM_TYPES = frozenset(
    {
        *("C", "A", "N", "NA", "O", "OA", "S", "SA", "P", "H", "HD", "F", "Cl", "Br", "I", "At", "Si", "Se"),
        *("Mg", "Mn", "Zn", "Ca", "Fe", "Cu", "Na", "K", "Hg", "Co", "U", "Cd", "Ni"),
    }
)
# Beyond this no term of Vina's scoring function reaches.
CUTOFF = 8.0


@final
@dataclass(frozen=True)
class ReceptorAtom:
    """One atom of a receptor: AutoDock's type and its place in Å."""

    kind: str
    xyz: Vector


def check_receptor(path: Path, box: Box, *, where: str) -> list[ReceptorAtom]:
    """The atoms of a rigid receptor's PDBQT.

    Raises `ConfigError`, naming the line, for a file that is missing or no PDBQT of a rigid receptor, and
    for a box with no atom within 8 Å of it: every score there would be 0.
    """
    if path.suffix != ".pdbqt":
        raise ConfigError(f"{where}: expected a PDBQT file; got {path} (`allmodes chem receptor` makes one)")
    lines = read_lines(path, where=where)
    _check_plain(path, where=where)
    atoms = [
        _atom(line, where=f"{where}: {path}", number=number)
        for number, line in enumerate(lines, start=1)
        if _is_atom(line, where=f"{where}: {path}", number=number)
    ]
    if not any(atom.kind not in ("H", "HD") for atom in atoms):
        raise ConfigError(f"{where}: {path}: expected a receptor; got no heavy atom")
    nearest = min(box.distance(atom.xyz) for atom in atoms)
    if nearest > CUTOFF:
        raise ConfigError(
            f"{where}: {path}: expected atoms within {CUTOFF:g} Å of the box around "
            f"({', '.join(f'{x:.3f}' for x in box.center)}); the nearest is {nearest:.1f} Å away"
        )
    return atoms


def _check_plain(path: Path, *, where: str) -> None:
    """Refuse files that docking engines, which open the file themselves, would read differently."""
    data = path.read_bytes()
    if data.startswith(codecs.BOM_UTF8) or b"\0" in data or b"\r" in data.replace(b"\r\n", b"\n"):
        raise ConfigError(
            f"{where}: {path}: expected uncompressed plain text without a byte order mark, in lines that end "
            "with LF, since docking engines read nothing else"
        )


def _is_atom(line: str, *, where: str, number: int) -> bool:
    if line.startswith(("ATOM  ", "HETATM")):
        return True
    if not line.strip() or line.startswith(("REMARK", "TER", "END", "WARNING")):
        if line.startswith("ENDMDL"):
            raise ConfigError(f"{where}: line {number}: expected one receptor; got several models")
        return False
    if line.startswith(("ROOT", "BRANCH", "TORSDOF", "BEGIN_RES")):
        raise ConfigError(
            f"{where}: line {number}: expected a rigid receptor; got {line.split()[0]}, "
            "as in a ligand or flexible residue"
        )
    raise ConfigError(f"{where}: line {number}: expected ATOM, HETATM, REMARK, TER or END; got {line[:40]!r}")


def _atom(line: str, *, where: str, number: int) -> ReceptorAtom:
    xyz = coordinates((line[30:38], line[38:46], line[46:54]), where=where, line=number)
    charge = line[68:76].strip()
    try:
        float(charge or "0")
    except ValueError:
        raise ConfigError(
            f"{where}: line {number}: expected a charge in columns 69 to 76; got {charge!r}"
        ) from None
    kind = line[77:79].strip()
    if kind not in ATOM_TYPES:
        raise ConfigError(
            f"{where}: line {number}: expected an AutoDock atom type in columns 78 and 79; got {kind!r}"
        )
    return ReceptorAtom(kind, xyz)
