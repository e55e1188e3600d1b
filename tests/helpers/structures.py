"""Small structures made here: peptides of any sequence, and groups beside them, as lines of PDB."""

from functools import cache
from pathlib import Path

import gemmi
from rdkit import Chem
from rdkit.Chem import rdDistGeom

Lines = list[str]


def atom_line(
    name: str,
    residue: str,
    chain: str,
    number: int,
    place: tuple[float, ...],
    element: str,
    *,
    record: str = "HETATM",
    location: str = " ",
    occupancy: float = 1.0,
) -> str:
    """An atom in the columns of PDB."""
    x, y, z = place
    padded = f" {name:<3}" if len(element) == 1 else f"{name:<4}"
    return (
        f"{record:<6}    1 {padded}{location}{residue:>3} {chain}{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
        f"{occupancy:6.2f} 20.00          {element:>2}"
    )


@cache
def _peptide(sequence: str) -> tuple[str, ...]:
    molecule = Chem.AddHs(Chem.MolFromSequence(sequence))
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = 1
    parameters.useRandomCoords = True
    assert rdDistGeom.EmbedMolecule(molecule, parameters) == 0
    block = Chem.MolToPDBBlock(Chem.RemoveHs(molecule))
    return tuple(line for line in block.splitlines() if line.startswith("ATOM"))


def peptide(sequence: str, chain: str = "A", *, shift: float = 0.0, first: int = 1) -> Lines:
    """ATOM lines of a peptide without hydrogens, numbered from `first`, moved by `shift` Å along x."""
    return [
        f"{line[:21]}{chain}{int(line[22:26]) - 1 + first:4d}{line[26:30]}"
        f"{float(line[30:38]) + shift:8.3f}{line[38:]}"
        for line in _peptide(sequence)
    ]


def ring(residue: str, chain: str, number: int, center: tuple[float, float, float], **options: str) -> Lines:
    """A group of six carbons around a point."""
    x, y, z = center
    places = ((1.2, 0.7), (0, 1.4), (-1.2, 0.7), (-1.2, -0.7), (0, -1.4), (1.2, -0.7))
    return [
        atom_line(f"C{i}", residue, chain, number, (x + dx, y + dy, z), "C", **options)
        for i, (dx, dy) in enumerate(places, start=1)
    ]


def place_of(lines: Lines, number: int, name: str) -> tuple[float, float, float]:
    """Where an atom of a residue lies."""
    line = next(line for line in lines if int(line[22:26]) == number and line[12:16].strip() == name)
    return float(line[30:38]), float(line[38:46]), float(line[46:54])


def write(path: Path, *parts: Lines) -> Path:
    """A file of parts, each ended by TER."""
    path.write_text("\n".join("\n".join([*part, "TER"]) for part in parts) + "\nEND\n")
    return path


def as_cif(pdb: Path) -> Path:
    """The same structure as mmCIF, beside a PDB file."""
    structure = gemmi.read_pdb(str(pdb))
    structure.setup_entities()
    structure.assign_label_seq_id()
    path = pdb.with_suffix(".cif")
    structure.make_mmcif_document().write_file(str(path))
    return path
