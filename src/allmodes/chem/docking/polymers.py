"""The polymers of a receptor for PDBFixer and meeko: standard names, and no residue twice."""

import itertools
import string
from dataclasses import dataclass
from pathlib import Path
from typing import final

import gemmi

from allmodes.chem.docking.groups import BACKBONE, STATES, Group, describe, is_amino_acid, named_chain
from allmodes.errors import InputError

_SUGAR = ("C4'", "C3'", "C1'")
_BARE = frozenset({"N", "CA", "C", "O", "OXT"})
# What the residues with names for their states are made of; HIP of the PDB has a phosphate besides.
_ATOMS = {
    "HIS": _BARE | {"CB", "CG", "ND1", "CD2", "CE1", "NE2"},
    "ASP": _BARE | {"CB", "CG", "OD1", "OD2"},
    "GLU": _BARE | {"CB", "CG", "CD", "OE1", "OE2"},
    "LYS": _BARE | {"CB", "CG", "CD", "CE", "NZ"},
    "CYS": _BARE | {"CB", "SG"},
}
# No bond is as short, in Å: atoms without a place are often written at the origin.
_TOO_NEAR = 0.5
_LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits


@final
@dataclass(frozen=True)
class Monomer:
    """A residue of a kept polymer as the file has it.

    state: of protonation, where its name says one. parent: the standard residue that the file says it was
    made of. replaced_by: the standard residue that it is now.
    """

    chain: str
    seqid: gemmi.SeqId
    name: str
    state: str | None
    parent: str | None
    replaced_by: str | None

    def __str__(self) -> str:
        return f"{self.name} {named_chain(self.chain)} {self.seqid}"


def standard_polymers(
    polymers: list[Group], parents: dict[tuple[str, str], str]
) -> tuple[str, dict[tuple[str, str], Monomer]]:
    """Polymers as PDB under chains and numbers of our own, and what stands for what.

    One letter would not hold mmCIF's chains, and copies under one letter would be one chain. Residues without
    a backbone are left out. parents: by chain and number.
    """
    structure = gemmi.Structure()
    structure.add_model(gemmi.Model(1))
    numbers = dict.fromkeys(_LETTERS, 0)
    monomers = {}
    for index, polymer in enumerate(polymers):
        letter = _LETTERS[index % len(_LETTERS)]
        chain = gemmi.Chain(letter)
        for residue in polymer.residues:
            if _fault(residue):
                continue
            numbers[letter] += 1
            copy, state, replaced_by = _standard(residue, numbers[letter])
            chain.add_residue(copy)
            monomers[letter, str(numbers[letter])] = Monomer(
                chain=polymer.chain,
                seqid=residue.seqid,
                name=residue.name,
                state=state,
                parent=parents.get((polymer.chain, str(residue.seqid))),
                replaced_by=replaced_by,
            )
        if len(chain):
            structure[0].add_chain(chain)
    return structure.make_pdb_string(gemmi.PdbWriteOptions(minimal=True)), monomers


def incomplete_residues(polymers: list[Group], file: Path) -> tuple[str, ...]:
    """Monomers that nothing can complete, with the reason; raises `InputError` if most lack atoms."""
    residues = [(polymer.chain, residue) for polymer in polymers for residue in polymer.residues]
    faults = [(describe(chain, residue), _fault(residue)) for chain, residue in residues]
    lacking = [f"{name} ({fault})" for name, fault in faults if fault]
    bare = [
        residue
        for _, residue in residues
        if residue.name != "GLY" and {atom.name for atom in residue if not atom.is_hydrogen()} <= _BARE
    ]
    for count, what in ((len(lacking), "a backbone (N, CA, C)"), (len(bare), "side chains")):
        if 2 * count > len(residues):
            raise InputError(
                f"{file}: expected a structure of all atoms; {count} of {len(residues)} residues lack {what}"
            )
    return tuple(lacking)


def _fault(residue: gemmi.Residue) -> str:
    """Why a residue cannot be completed; empty when it can."""
    needed: tuple[str, ...] = ()
    if is_amino_acid(residue):
        needed = BACKBONE
    elif gemmi.find_tabulated_residue(residue.name).is_nucleic_acid():
        needed = _SUGAR
    names = {atom.name.replace("*", "'") for atom in residue}
    if missing := [name for name in needed if name not in names]:
        return f"no {' '.join(missing)}"
    places = [atom.pos for atom in residue if not atom.is_hydrogen()]
    if any(one.dist(other) < _TOO_NEAR for one, other in itertools.combinations(places, 2)):
        return "atoms at one place"
    return ""


def _standard(residue: gemmi.Residue, number: int) -> tuple[gemmi.Residue, str | None, str | None]:
    """A copy under a number and a standard name, the state that its name says, what it was replaced by."""
    copy = residue.clone()
    copy.seqid = gemmi.SeqId(number, " ")
    copy.entity_type = gemmi.EntityType.Polymer
    copy.het_flag = "A"
    copy.name = residue.name[:3]
    if residue.name == "MSE":  # PDBFixer would lose the selenium, whose place is sulfur's
        copy.name = "MET"
        for atom in copy:
            if atom.element.name == "Se":
                atom.name, atom.element = "SD", gemmi.Element("S")
        return copy, None, copy.name
    if residue.name not in STATES:
        return copy, None, None
    copy.name, state = STATES[residue.name]
    foreign = [
        index
        for index, atom in enumerate(copy)
        if not atom.is_hydrogen() and atom.name not in _ATOMS[copy.name]
    ]
    for index in reversed(foreign):
        del copy[index]
    return (copy, None, copy.name) if foreign else (copy, state, None)
