"""Docked poses: map an engine's PDBQT or SDF back to the prepared molecule, and write SDF.

Engines turn bonds and move the ligand as a whole, and leave every bond's length as it was. So a pose whose
bonds have other lengths is no pose of this ligand, whatever the file says of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import final

import meeko
from rdkit import Chem
from rdkit.Geometry import Point3D

from allmodes.chem.docking.ligand import Ligand

# A coordinate is written to 0.001 Å; a bond of another ligand is off by more than this.
_TOLERANCE = 0.05
_Point = tuple[float, float, float]


@final
@dataclass(frozen=True)
class Pose:
    """One pose: its score in kcal/mol, and the molecule with hydrogens where the engine put it."""

    score: float
    molecule: Chem.Mol


def read_pdbqt(text: str, *, ligand: Ligand) -> list[Pose]:
    """The poses of a PDBQT as Vina, QuickVina and smina write it, best first.

    The score of each is in `REMARK VINA RESULT:` or `REMARK minimizedAffinity`. Raises `ValueError` for what
    is no such file, or not of this ligand: the atoms must have the numbers and types of `ligand.pdbqt`.
    """
    models = [block for block in text.split("ENDMDL") if _atom_lines(block)]
    poses = [Pose(_pdbqt_score(block), _pdbqt_molecule(block, ligand)) for block in models]
    if not poses:
        raise ValueError("expected poses; got none")
    return sorted(poses, key=lambda pose: pose.score)


def heavy_places(block: str) -> list[tuple[float, float, float]]:
    """Where the heavy atoms of one model of a PDBQT are, in Å."""
    return [_point(line) for line in _atom_lines(block) if line[77:79].strip() not in ("H", "HD")]


def read_sdf(text: str, *, ligand: Ligand) -> list[Pose]:
    """The poses of an SDF as smina and gnina write it, best first; the score is `minimizedAffinity`.

    The heavy atoms come in the order of the SDF or of the PDBQT that the engine was given. Hydrogens are
    placed anew. Raises `ValueError` for what is no such file, or not of this ligand.
    """
    supplier = Chem.SDMolSupplier()
    supplier.SetData(text, sanitize=False, removeHs=False)
    poses = []
    for number, molecule in enumerate(supplier, start=1):
        if molecule is None or molecule.GetNumConformers() == 0:
            raise ValueError(f"pose {number}: expected a molecule with coordinates; got none")
        if not molecule.HasProp("minimizedAffinity"):
            raise ValueError(f"pose {number}: expected the property minimizedAffinity; got none")
        score = _score(molecule.GetProp("minimizedAffinity"))
        poses.append(Pose(score, _sdf_molecule(molecule, ligand)))
    if not poses:
        raise ValueError("expected poses; got none")
    return sorted(poses, key=lambda pose: pose.score)


def write_poses(poses: Sequence[Pose], *, ligand: Ligand) -> str:
    """SDF of poses, each with the properties smiles, docked_as, rank (from 1) and docking_score."""
    text = StringIO()
    with Chem.SDWriter(text) as writer:
        for rank, pose in enumerate(poses, start=1):
            molecule = Chem.Mol(pose.molecule)
            for name in molecule.GetPropNames():
                molecule.ClearProp(name)
            molecule.SetProp("_Name", ligand.smiles)
            molecule.SetProp("smiles", ligand.smiles)
            molecule.SetProp("docked_as", ligand.docked_as)
            molecule.SetProp("rank", str(rank))
            molecule.SetProp("docking_score", f"{pose.score:.3f}")
            writer.write(molecule)
    return text.getvalue()


def _score(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a score; got {text[:40]!r}") from None


def _pdbqt_score(block: str) -> float:
    for line in block.splitlines():
        for label in ("REMARK VINA RESULT:", "REMARK minimizedAffinity"):
            if line.startswith(label):
                return _score((line.removeprefix(label).split() or [""])[0])
    raise ValueError(
        "expected a line REMARK VINA RESULT: or REMARK minimizedAffinity in each model; got none"
    )


def _atom_lines(block: str) -> list[str]:
    return [line for line in block.splitlines() if line.startswith(("ATOM  ", "HETATM"))]


def _pdbqt_molecule(block: str, ligand: Ligand) -> Chem.Mol:
    docked = {line[6:11]: line for line in _atom_lines(block)}
    expected = _atom_lines(ligand.pdbqt)
    if {number: line[77:79].strip() for number, line in docked.items()} != {
        line[6:11]: line[77:79].strip() for line in expected
    }:
        raise ValueError(f"expected the atoms of {ligand.docked_as}; got others")
    points = [_point(docked[line[6:11]]) for line in expected]
    _check_bonds(dict(zip(_pdbqt_order(ligand), points, strict=True)), ligand)
    # The ligand's own text with these coordinates: meeko needs its remarks, which not every engine keeps.
    text = "\n".join(
        line[:30] + docked[line[6:11]][30:54] + line[54:] if _atom_lines(line) else line
        for line in ligand.pdbqt.splitlines()
    )
    parsed = meeko.PDBQTMolecule(f"MODEL 1\n{text}\nENDMDL\n", skip_typing=True)
    return meeko.RDKitMolCreate.from_pdbqt_mol(parsed)[0]


def _sdf_molecule(molecule: Chem.Mol, ligand: Ligand) -> Chem.Mol:
    conformer = molecule.GetConformer()
    heavy = [atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() > 1]
    elements = [atom.GetAtomicNum() for atom in heavy]
    points = [tuple(conformer.GetAtomPosition(atom.GetIdx())) for atom in heavy]
    number = {atom.GetIdx(): atom.GetAtomicNum() for atom in ligand.molecule.GetAtoms()}
    problem = ValueError(f"expected the atoms of {ligand.docked_as}; got others")
    for order in (list(number), _pdbqt_order(ligand)):
        own = [index for index in order if number[index] > 1]
        if [number[index] for index in own] != elements:
            continue
        places = dict(zip(own, points, strict=True))
        try:
            _check_bonds(places, ligand)
        except ValueError as error:
            problem = error
            continue
        return _placed(places, ligand)
    raise problem


def _placed(places: dict[int, _Point], ligand: Ligand) -> Chem.Mol:
    """The ligand with its heavy atoms, numbered as in `ligand.molecule`, in these places."""
    whole = Chem.Mol(ligand.molecule)
    for index, point in places.items():
        whole.GetConformer().SetAtomPosition(index, Point3D(*point))
    return Chem.AddHs(Chem.RemoveHs(whole), addCoords=True)


def _point(line: str) -> _Point:
    try:
        x, y, z = float(line[30:38]), float(line[38:46]), float(line[46:54])
    except ValueError:
        raise ValueError(f"expected three coordinates; got {line[30:54]!r}") from None
    return x, y, z


def _pdbqt_order(ligand: Ligand) -> list[int]:
    """For each atom of the PDBQT its index in `ligand.molecule`: the one in the same place."""
    places = ligand.molecule.GetConformer().GetPositions().tolist()
    return [
        min(range(len(places)), key=lambda index: math.dist(places[index], point))
        for point in map(_point, _atom_lines(ligand.pdbqt))
    ]


def _check_bonds(places: dict[int, _Point], ligand: Ligand) -> None:
    prepared = ligand.molecule.GetConformer()
    for bond in ligand.molecule.GetBonds():
        first, second = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if first in places and second in places:
            length = math.dist(prepared.GetAtomPosition(first), prepared.GetAtomPosition(second))
            docked = math.dist(places[first], places[second])
            if not abs(docked - length) < _TOLERANCE:  # so that a coordinate that is no number fails
                raise ValueError(
                    f"expected a pose of {ligand.docked_as}; got a bond of {length:.2f} Å as {docked:.2f} Å"
                )
