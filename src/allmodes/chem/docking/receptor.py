"""From a downloaded PDB or mmCIF file to the input of docking: receptor, reference ligand, and TOML.

gemmi reads the file and takes it apart; PDBFixer completes residues and adds hydrogens at a pH; meeko gives
AutoDock's atom types and charges. Nothing is looked up on the network: only standard residues reach the two.
"""

import io
import logging
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

import gemmi
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from allmodes.chem.docking.box import MAX_SIDE, PADDING, Box, Vector, ligand_center, size_for
from allmodes.chem.docking.polymers import Monomer
from allmodes.chem.docking.receptor_file import check_receptor
from allmodes.chem.docking.receptor_parts import Parts, split_structure
from allmodes.errors import InputError, one_line
from allmodes.runs.files import write_text

BOX_SIDE = 20.0
_BOND_LENGTHS = {"C": 1.09, "N": 1.01, "O": 0.96, "S": 1.34}  # of hydrogen to the element, in Å
_SEED = 1  # of the places where missing atoms start before they are relaxed


@final
@dataclass(frozen=True, kw_only=True)
class PreparedReceptor:
    """The files written, and the changes made to the structure.

    receptor, reference_ligand (None when the file holds none), component: the files. box_size: sides in Å,
    infinite without a ligand. chains, residues: what the receptor is made of. ligand: what the box goes
    around. completed: residues that lacked atoms (a chain's ends are left open). replaced: residues that
    became standard ones. metals: ions that were kept. peptides: short chains that are part of the receptor.
    removed: other groups, and waters as one entry. left_out: residues that cannot be completed, and those
    that meeko could not type. missing: stretches without coordinates, which stay so.
    """

    receptor: Path
    reference_ligand: Path | None
    component: Path
    box_size: Vector
    chains: tuple[str, ...]
    residues: int
    ligand: str | None
    completed: tuple[str, ...]
    replaced: tuple[str, ...]
    metals: tuple[str, ...]
    peptides: tuple[str, ...]
    removed: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report as lines to print."""
        listed = {
            "completed (atoms were missing)": self.completed,
            "replaced by the standard residue": self.replaced,
            "metal ions kept": self.metals,
            "short peptides that are part of the receptor": self.peptides,
            "removed": self.removed,
            "left out (incomplete, or not typed by meeko)": self.left_out,
            "missing in the file and not built": self.missing,
        }
        return [
            f"receptor: {self.receptor}, chains {', '.join(self.chains)}, {self.residues} residues",
            f"reference ligand: {self.reference_ligand}, {self.ligand}"
            if self.ligand
            else "reference ligand: none in the file; give the box a centre",
            *self._box_lines(),
            *(f"{what}: {', '.join(items)}" for what, items in listed.items() if items),
            f"component for a recipe: {self.component}",
        ]

    def _box_lines(self) -> list[str]:
        """A warning about a box that is larger than usual."""
        if self.ligand is None or max(self.box_size) <= BOX_SIDE:
            return []
        sides = ", ".join(f"{side:g}" for side in self.box_size)
        advice = (
            f"box.size = [{sides}] does, with {PADDING:g} Å around it, and is in the component"
            if max(self.box_size) <= MAX_SIDE
            else f"it would need [{sides}], and {MAX_SIDE:g} Å is the most: give box.center and box.size"
        )
        return [f"warning: a box of {BOX_SIDE:g} Å does not hold the reference ligand; {advice}"]


def prepare_receptor(
    file: Path, out: Path, *, ligand: str | None = None, chains: Sequence[str] = (), ph: float = 7.4
) -> PreparedReceptor:
    """Write receptor.pdbqt, reference_ligand.pdb and docking.toml into the folder `out`.

    ligand: residue name of the co-crystallised ligand, chain of a peptide, either with chain and number as
    messages write them, or `none`; needed where there are several, or a cofactor or peptide alone. chains:
    those whose protein and nucleic acid are kept, all when empty; ions and ligand follow by their distance.
    Of alternate locations the best occupied is kept, of several models the first. Hydrogens follow each
    residue's usual pKa at `ph`, or the state that its name says, histidines otherwise their hydrogen bonds.
    The same structure gives the same files.

    Raises `InputError` for a file that is missing, holds no protein or traces alone, chains that are not
    there, a ligand that is not there or not named where it must be, and a pH outside 0 to 14.
    """
    if not 0 <= ph <= 14:
        raise InputError(f"`ph`: expected a pH from 0 to 14; got {ph:g}")
    parts = split_structure(file, ligand=ligand, chains=chains)
    try:
        fixed, completed, replaced, unknown = _fix(parts, ph)
    except Exception as error:  # PDBFixer raises bare exceptions
        raise InputError(f"{file}: PDBFixer cannot use it; {one_line(error)}") from error
    text, residues, untyped = _type(fixed, parts, file)
    left_out = (*parts.incomplete, *unknown, *untyped)
    gone = {*unknown, *untyped}
    if not residues:
        raise InputError(f"{file}: expected residues that meeko can type; got none of {', '.join(left_out)}")
    receptor, component = out / "receptor.pdbqt", out / "docking.toml"
    write_text(receptor, text + _metal_lines(parts))
    reference = None
    if parts.ligand is not None:
        reference = out / "reference_ligand.pdb"
        write_text(reference, parts.ligand_pdb)
    box = _box(parts, reference)
    check_receptor(receptor, box, where="receptor")
    write_text(component, _toml(receptor, reference, box.size))
    return PreparedReceptor(
        receptor=receptor,
        reference_ligand=reference,
        component=component,
        box_size=box.size,
        chains=parts.chains,
        residues=residues,
        ligand=None if parts.ligand is None else parts.ligand.label,
        completed=tuple(words for residue, words in completed.items() if residue not in gone),
        replaced=tuple(words for residue, words in replaced.items() if residue not in gone),
        metals=tuple(group.label for group in parts.metals),
        peptides=parts.peptides,
        removed=parts.removed,
        left_out=left_out,
        missing=parts.missing,
    )


def _fix(parts: Parts, ph: float) -> tuple[str, dict[str, str], dict[str, str], list[str]]:
    """PDB with all atoms and hydrogens; residues completed and replaced, by name; those without a type."""
    from openmm import Platform
    from openmm.app import Modeller, PDBFile
    from pdbfixer import PDBFixer

    # The reference platform gives the same coordinates on every machine.
    platform = Platform.getPlatformByName("Reference")
    fixer: Any = PDBFixer(pdbfile=io.StringIO(parts.polymers), platform=platform)
    fixer.missingResidues = {}  # a loop built by guess is worse than a gap that is reported
    fixer.findNonstandardResidues()
    known = {residue for residue, _ in fixer.nonstandardResidues}
    for residue in fixer.topology.residues():
        parent = _monomer(parts, residue).parent
        if parent in fixer.templates and residue.name not in fixer.templates and residue not in known:
            fixer.nonstandardResidues.append((residue, parent))
    replaced = {str(m): f"{m} by {m.replaced_by}" for m in parts.monomers.values() if m.replaced_by}
    replaced |= {
        str(_monomer(parts, residue)): f"{_monomer(parts, residue)} by {name}"
        for residue, name in fixer.nonstandardResidues
    }
    state = random.getstate()
    random.seed(_SEED)  # OpenMM starts hydrogens from random places
    try:
        fixer.replaceNonstandardResidues()
        fixer.findMissingAtoms()
        completed = {
            str(_monomer(parts, residue)): f"{_monomer(parts, residue)} ({' '.join(a.name for a in atoms)})"
            for residue, atoms in sorted(fixer.missingAtoms.items(), key=lambda item: item[0].index)
        }
        fixer.missingTerminals = {}  # where a file ends, the chain most often does not
        fixer.addMissingAtoms(seed=_SEED)
        modeller: Any = Modeller(fixer.topology, fixer.positions)
        states = [_monomer(parts, residue).state for residue in fixer.topology.residues()]
        modeller.addHydrogens(pH=ph, variants=states, platform=platform)
    finally:
        random.setstate(state)
    places = _with_real_hydrogens(modeller.topology, modeller.positions)
    modeller = Modeller(modeller.topology, places)
    # meeko would look up unknown names on the network, and give up at atoms that are no molecule.
    typed = _typed_names()
    bad = [r for r in modeller.topology.residues() if r.name not in typed or not _is_molecule(r, places)]
    untyped = [str(_monomer(parts, residue)) for residue in bad]
    modeller.delete(bad)
    text = io.StringIO()
    PDBFile.writeFile(modeller.topology, modeller.positions, text, keepIds=True)
    return text.getvalue(), completed, replaced, untyped


def _is_molecule(residue: Any, places: Any) -> bool:
    """Whether distances between a residue's atoms make bonds that a molecule can have."""
    from openmm import unit

    atoms = list(residue.atoms())
    molecule = Chem.RWMol()
    conformer = Chem.Conformer(len(atoms))
    for index, atom in enumerate(atoms):
        place = places[atom.index].value_in_unit(unit.angstrom)
        if not all(map(math.isfinite, place)):
            return False
        molecule.AddAtom(Chem.Atom(atom.element.atomic_number))
        conformer.SetAtomPosition(index, list(place))
    molecule.AddConformer(conformer)
    try:
        with rdBase.BlockLogs():
            rdDetermineBonds.DetermineConnectivity(molecule)
            for atom in molecule.GetAtoms():
                if atom.GetAtomicNum() == 7 and atom.GetDegree() == 4:
                    atom.SetFormalCharge(1)
            Chem.SanitizeMol(molecule)
    except ValueError:
        return False
    return True


def _monomer(parts: Parts, residue: Any) -> Monomer:
    return parts.monomers[residue.chain.id, residue.id]


@cache
def _templates() -> Any:
    """Templates of residues, which take meeko a while to read; nothing here adds any."""
    import meeko

    return meeko.ResidueChemTemplates.create_from_defaults()


def _typed_names() -> set[str]:
    templates = _templates()
    return {*templates.residue_templates, *templates.ambiguous}


def _with_real_hydrogens(topology: Any, positions: Any) -> Any:
    """The positions, with each hydrogen at its usual distance: OpenMM's own is some 0.1 Å too long."""
    from openmm import unit

    places = [place.value_in_unit(unit.angstrom) for place in positions]
    for bond in topology.bonds():
        hydrogen, heavy = sorted(bond, key=lambda atom: atom.element.atomic_number)
        if hydrogen.element.atomic_number == 1:
            center = places[heavy.index]
            away = places[hydrogen.index] - center
            length = math.sqrt(away.x**2 + away.y**2 + away.z**2)
            if length > 0:
                places[hydrogen.index] = center + away * (_BOND_LENGTHS[heavy.element.symbol] / length)
    return unit.Quantity(places, unit.angstrom)


def _type(pdb: str, parts: Parts, file: Path) -> tuple[str, int, list[str]]:
    """PDBQT of a PDB with hydrogens, how many residues it holds, and those that meeko could not type."""
    import meeko

    logging.getLogger("meeko").setLevel(logging.ERROR)  # its warnings are about what is listed as left out
    try:
        polymer = meeko.Polymer.from_pdb_string(pdb, _templates(), allow_bad_res=True)
        text, _ = meeko.PDBQTWriterLegacy.write_string_from_polymer(polymer)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{file}: meeko cannot use it; {one_line(error)}") from error
    left_out = []
    for place in polymer.get_ignored_monomers():
        chain, _, number = place.partition(":")
        left_out.append(str(parts.monomers[chain, number]))
    lines = (_as_in_file(line, parts) for line in text.split("\n"))
    return "\n".join(lines), len(polymer.get_valid_monomers()), left_out


def _as_in_file(line: str, parts: Parts) -> str:
    """A line of PDBQT with the chain and number of the file."""
    if not line.startswith(("ATOM", "HETATM")):
        return line
    monomer = parts.monomers[line[21], line[22:26].strip()]
    return f"{line[:21]}{_columns(monomer.chain, monomer.seqid)}{line[27:]}"


def _columns(chain: str, seqid: gemmi.SeqId) -> str:
    """Columns 22 to 27 of PDB: chain, number, insertion code."""
    number = seqid.num or 0
    return f"{chain[:1] or ' '}{number if -1000 < number < 10_000 else number % 10_000:4d}{seqid.icode}"


def _metal_lines(parts: Parts) -> str:
    # Vina takes the type alone; the charge is the element's commonest and matters to other engines.
    return "".join(
        f"HETATM{99999:5d} {atom.name:<4} {residue.name:>3} {_columns(group.chain, residue.seqid)}   "
        f"{atom.pos.x:8.3f}{atom.pos.y:8.3f}{atom.pos.z:8.3f}{1:6.2f}{0:6.2f}    {2:+6.3f} "
        f"{atom.element.name:<2}\n"
        for group in parts.metals
        for residue in group.residues
        for atom in residue
    )


def _box(parts: Parts, reference: Path | None) -> Box:
    """The usual box around the reference ligand, or one that holds it; without one, everywhere."""
    if parts.ligand is None or reference is None:
        return Box((0.0, 0.0, 0.0), (math.inf, math.inf, math.inf))
    box = Box(ligand_center(reference, where="`--ligand`"), (BOX_SIDE, BOX_SIDE, BOX_SIDE))
    places = [(atom.pos.x, atom.pos.y, atom.pos.z) for atom in parts.ligand.heavy]
    return box if max(map(box.distance, places)) == 0 else Box(box.center, size_for(places, box))


def _toml(receptor: Path, reference: Path | None, size: Vector) -> str:
    sides = list(size) if BOX_SIDE < max(size) <= MAX_SIDE else BOX_SIDE
    place = (
        "# box.center = [x, y, z]: no ligand in the file; set the centre of the box\n"
        if reference is None
        else f"box.reference_ligand = {_quoted(reference)}\n"
    )
    return (
        "[[oracle.components]]\n"
        'kind = "docking"\n'
        f"receptor = {_quoted(receptor)}\n"
        f"{place}"
        f"box.size = {sides}  # Å\n"
        "exhaustiveness = 8\nposes = 3  # kept as SDF; 0 keeps none\n"
        'shaping = { kind = "reverse_sigmoid", low = -16.0, high = 0.0, k = 0.15 }\n'
    )


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
