"""From a PDB file as downloaded to what docking needs: a receptor, a reference ligand, a piece of TOML.

gemmi reads the file and takes it apart; PDBFixer completes residues and adds hydrogens at a pH; meeko gives
AutoDock's atom types and charges. Nothing is looked up on the network: only standard residues reach the two.
"""

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from allmodes.chem.docking.box import Box, ligand_center
from allmodes.chem.docking.receptor_file import check_receptor
from allmodes.chem.docking.receptor_parts import Parts, describe, take_apart
from allmodes.errors import InputError, one_line
from allmodes.extras import require
from allmodes.runs.files import write_text

BOX_SIDE = 20.0
_BOND_LENGTHS = {"C": 1.09, "N": 1.01, "O": 0.96, "S": 1.34}  # of hydrogen to the element, in Å
_SEED = 1  # of the places where missing atoms start before they are relaxed


@final
@dataclass(frozen=True, kw_only=True)
class PreparedReceptor:
    """What was written, and what was done to get there.

    receptor, reference_ligand (None when the file holds none), component: the files. chains, residues: what
    the receptor is made of. ligand: what the box goes around. completed: residues that lacked atoms
    (a chain's ends are left open).
    replaced: residues that became standard ones. metals: ions that were kept. removed: other groups, and
    waters as one entry. left_out: residues that meeko could not type. missing: stretches without coordinates,
    which are not built.
    """

    receptor: Path
    reference_ligand: Path | None
    component: Path
    chains: tuple[str, ...]
    residues: int
    ligand: str | None
    completed: tuple[str, ...]
    replaced: tuple[str, ...]
    metals: tuple[str, ...]
    removed: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]

    def lines(self) -> list[str]:
        """All this as lines to print."""
        listed = {
            "completed (atoms were missing)": self.completed,
            "replaced by the standard residue": self.replaced,
            "metal ions kept": self.metals,
            "removed": self.removed,
            "left out, since meeko cannot type them": self.left_out,
            "missing in the file and not built": self.missing,
        }
        return [
            f"receptor: {self.receptor}, chains {', '.join(self.chains)}, {self.residues} residues",
            f"reference ligand: {self.reference_ligand}, {self.ligand}"
            if self.ligand
            else "reference ligand: none in the file; give the box a centre",
            *(f"{what}: {', '.join(items)}" for what, items in listed.items() if items),
            f"component for a recipe: {self.component}",
        ]


def prepare_receptor(
    pdb: Path, out: Path, *, ligand: str | None = None, chains: Sequence[str] = (), ph: float = 7.4
) -> PreparedReceptor:
    """Write receptor.pdbqt, reference_ligand.pdb and docking.toml into the folder `out`.

    ligand: the residue name of the co-crystallised ligand; needed when there are several. chains: those to
    keep, all when empty; protein, nucleic acid, metal ions and ligand are taken from these. Of alternate
    locations the best occupied is kept, of several models the first. Hydrogens follow each residue's usual
    pKa at `ph`, histidines by their hydrogen bonds. The same input gives the same files.

    Raises `InputError` for a file that is missing or holds no protein, chains that are not there, a ligand
    that is not there or not named among several, and a pH outside 0 to 14.
    """
    if not 0 <= ph <= 14:
        raise InputError(f"`ph`: expected a pH from 0 to 14; got {ph:g}")
    require("receptors need", "pdbfixer", "meeko", extras="chem")
    parts = take_apart(pdb, ligand=ligand, chains=chains)
    fixed, completed, replaced, missing = _fix(parts.polymers, ph)
    text, residues, left_out = _type(fixed, pdb)
    if not residues:
        raise InputError(f"{pdb}: expected residues that meeko can type; got none of {', '.join(left_out)}")
    receptor, component = out / "receptor.pdbqt", out / "docking.toml"
    write_text(receptor, text + _metal_lines(parts))
    reference = None
    if parts.ligand is not None:
        reference = out / "reference_ligand.pdb"
        write_text(reference, parts.ligand_pdb)
    _check(receptor, reference)
    write_text(component, _toml(receptor, reference))
    return PreparedReceptor(
        receptor=receptor,
        reference_ligand=reference,
        component=component,
        chains=parts.chains,
        residues=residues,
        ligand=None if parts.ligand is None else describe(*parts.ligand),
        completed=tuple(completed),
        replaced=(*parts.replaced, *replaced),
        metals=tuple(describe(chain, residue) for chain, residue in parts.metals),
        removed=parts.removed,
        left_out=tuple(left_out),
        missing=tuple(missing),
    )


def _fix(polymers: str, ph: float) -> tuple[str, list[str], list[str], list[str]]:
    """PDB with all atoms and hydrogens; residues completed, residues replaced, stretches not built."""
    from openmm import Platform
    from openmm.app import PDBFile
    from pdbfixer import PDBFixer

    # The reference platform gives the same coordinates on every machine.
    fixer: Any = PDBFixer(pdbfile=io.StringIO(polymers), platform=Platform.getPlatformByName("Reference"))
    fixer.findMissingResidues()
    missing = [
        f"{len(names)} residues of chain {list(fixer.topology.chains())[chain].id}"
        for (chain, _), names in sorted(fixer.missingResidues.items())
    ]
    fixer.missingResidues = {}  # a loop built by guess is worse than a gap that is reported
    fixer.findNonstandardResidues()
    replaced = [f"{_named(residue)} by {name}" for residue, name in fixer.nonstandardResidues]
    state = random.getstate()
    random.seed(_SEED)  # OpenMM starts hydrogens from random places
    try:
        fixer.replaceNonstandardResidues()
        fixer.findMissingAtoms()
        completed = [
            f"{_named(residue)} ({' '.join(atom.name for atom in atoms)})"
            for residue, atoms in sorted(fixer.missingAtoms.items(), key=lambda item: item[0].index)
        ]
        fixer.missingTerminals = {}  # where a file ends, the chain most often does not
        fixer.addMissingAtoms(seed=_SEED)
        fixer.addMissingHydrogens(ph)
    finally:
        random.setstate(state)
    text = io.StringIO()
    PDBFile.writeFile(fixer.topology, _with_real_hydrogens(fixer), text, keepIds=True)
    return text.getvalue(), completed, replaced, missing


def _with_real_hydrogens(fixer: Any) -> Any:
    """The positions, with each hydrogen at its usual distance: OpenMM's own is some .1 Å too long."""
    from openmm import unit

    places = [place.value_in_unit(unit.angstrom) for place in fixer.positions]
    for bond in fixer.topology.bonds():
        hydrogen, heavy = sorted(bond, key=lambda atom: atom.element.atomic_number)
        if hydrogen.element.atomic_number == 1:
            center = places[heavy.index]
            away = places[hydrogen.index] - center
            length = math.sqrt(away.x**2 + away.y**2 + away.z**2)
            places[hydrogen.index] = center + away * (_BOND_LENGTHS[heavy.element.symbol] / length)
    return unit.Quantity(places, unit.angstrom)


def _named(residue: Any) -> str:
    return f"{residue.name} {residue.chain.id} {residue.id}"


def _type(pdb: str, source: Path) -> tuple[str, int, list[str]]:
    """PDBQT of a PDB with hydrogens, how many residues it holds, and those that meeko could not type."""
    import meeko

    try:
        polymer = meeko.Polymer.from_pdb_string(pdb, allow_bad_res=True)
        text, _ = meeko.PDBQTWriterLegacy.write_string_from_polymer(polymer)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{source}: meeko cannot use it; {one_line(error)}") from error
    left_out = [f"{monomer.input_resname} {name}" for name, monomer in polymer.get_ignored_monomers().items()]
    return text, len(polymer.get_valid_monomers()), left_out


def _metal_lines(parts: Parts) -> str:
    # Vina takes the type alone; the charge is the element's commonest and matters to other engines.
    return "".join(
        f"HETATM{99999:5d} {atom.name:<4} {residue.name:>3} {chain[:1]}{residue.seqid.num:4d}    "
        f"{atom.pos.x:8.3f}{atom.pos.y:8.3f}{atom.pos.z:8.3f}{1:6.2f}{0:6.2f}    {2:+6.3f} "
        f"{atom.element.name:<2}\n"
        for chain, residue in parts.metals
        for atom in residue
    )


def _check(receptor: Path, reference: Path | None) -> None:
    center = (0.0, 0.0, 0.0)
    side = math.inf
    if reference is not None:
        center, side = ligand_center(reference, where="`--ligand`"), BOX_SIDE
    check_receptor(receptor, Box(center, (side, side, side)), where="receptor")


def _toml(receptor: Path, reference: Path | None) -> str:
    place = (
        "# box.center = [x, y, z]: no ligand in the file; say where to dock\n"
        if reference is None
        else f"box.reference_ligand = {_quoted(reference)}\n"
    )
    return (
        "[[oracle.components]]\n"
        'kind = "docking"\n'
        f"receptor = {_quoted(receptor)}\n"
        f"{place}"
        f"box.size = {BOX_SIDE}  # Å\n"
        "exhaustiveness = 8\nposes = 3  # kept as SDF; 0 keeps none\n"
        'shaping = { kind = "reverse_sigmoid", low = -16.0, high = 0.0, k = 0.15 }\n'
    )


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
