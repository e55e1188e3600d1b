"""A PDB file taken apart: polymers, the co-crystallised ligand, metal ions, and what nobody wants."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import gemmi

from allmodes.errors import InputError

Group = tuple[str, gemmi.Residue]  # the chain's name, the residue

# Metal ions that hold sites together and that Vina has a type for; Na, K and the like come from the buffer.
METALS = frozenset({"Mg", "Mn", "Zn", "Ca", "Fe", "Co", "Ni", "Cu"})
# What crystals are grown, frozen and sugared in: never the ligand unless it is named.
ADDITIVES = frozenset(
    {
        *("GOL", "EDO", "PEG", "PGE", "PG4", "1PE", "P6G", "MPD", "DMS", "IPA", "EOH", "MOH", "ACT", "ACY"),
        *("FMT", "CIT", "FLC", "TLA", "MLI", "SO4", "PO4", "NO3", "TRS", "EPE", "MES", "BTB", "IMD", "BME"),
        *("DTT", "UNX", "UNL", "NAG", "NDG", "MAN", "BMA", "FUC", "BOG", "LDA"),
    }
)


@final
@dataclass(frozen=True)
class Parts:
    """The parts of a file: the polymers as PDB, kept chains, ligand, metal ions, and words on the rest.

    replaced: selenomethionines, which are methionines now. removed: everything that is in no other part.
    """

    polymers: str
    chains: tuple[str, ...]
    ligand: Group | None
    ligand_pdb: str
    metals: tuple[Group, ...]
    replaced: tuple[str, ...]
    removed: tuple[str, ...]


def describe(chain: str, residue: gemmi.Residue) -> str:
    """A group in words: residue name, chain, number."""
    return f"{residue.name} {chain} {residue.seqid}"


def take_apart(pdb: Path, *, ligand: str | None, chains: Sequence[str]) -> Parts:
    """The parts of a PDB file; raises `InputError` for what `prepare_receptor` says."""
    structure = _read(pdb)
    model = structure[0]
    selenium = _without_selenium(structure)
    present = [chain.name for chain in model if len(chain.get_polymer())]
    if not present:
        raise InputError(f"{pdb}: expected a PDB file with a protein or nucleic acid; got none")
    if unknown := [name for name in chains if name not in present]:
        raise InputError(
            f"{pdb}: `--chains`: expected some of {', '.join(present)}; got {', '.join(unknown)}"
        )
    kept = [name for name in present if not chains or name in chains]
    groups = [
        (chain.name, residue)
        for chain in model
        if chain.name in kept
        for residue in chain
        if residue.entity_type != gemmi.EntityType.Polymer
    ]
    waters = [group for group in groups if group[1].is_water()]
    metals = [group for group in groups if len(group[1]) == 1 and group[1][0].element.name in METALS]
    others = [group for group in groups if group not in waters and group not in metals]
    chosen = _choose(others, ligand, pdb)
    counts = Counter(describe(*group) for group in others if group is not chosen)
    removed = [*counts, *([f"water ({len(waters)})"] if waters else [])]
    if dropped := [chain.name for chain in model if chain.name not in kept]:
        removed.append(f"chains {', '.join(dict.fromkeys(dropped))}")
    return Parts(
        polymers=_polymers(structure, kept),
        chains=tuple(dict.fromkeys(kept)),
        ligand=chosen,
        ligand_pdb="" if chosen is None else _pdb_of(*chosen),
        metals=tuple(metals),
        replaced=tuple(f"{words} by MET" for name, words in selenium if name in kept),
        removed=tuple(removed),
    )


def _read(pdb: Path) -> gemmi.Structure:
    if not pdb.is_file():
        raise InputError(f"expected a PDB file; got no {pdb}")
    try:
        structure = gemmi.read_pdb(str(pdb))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{pdb}: expected a PDB file; {' '.join(str(error).split())}") from error
    if len(structure) == 0:
        raise InputError(f"{pdb}: expected a PDB file; got no atom")
    structure.merge_chain_parts()  # ligands and waters are listed after all polymers
    structure.setup_entities()
    while len(structure) > 1:
        del structure[1]
    for chain in structure[0]:
        for residue in chain:
            _keep_best_location(residue)
    return structure


def _keep_best_location(residue: gemmi.Residue) -> None:
    occupancy: Counter[str] = Counter()
    for atom in residue:
        if atom.altloc != "\0":
            occupancy[atom.altloc] += round(1000 * atom.occ)  # whole numbers, so that ties are ties
    if not occupancy:
        return
    best = min(occupancy, key=lambda location: (-occupancy[location], location))
    names = {atom.name for atom in residue if atom.altloc in ("\0", best)}
    seen: set[str] = set()
    for index in reversed(range(len(residue))):
        atom = residue[index]
        # An atom that only another location has is better than a hole.
        keep = atom.altloc in ("\0", best) or (atom.name not in names and atom.name not in seen)
        if not keep:
            del residue[index]
            continue
        seen.add(atom.name)
        atom.altloc = "\0"


def _without_selenium(structure: gemmi.Structure) -> list[tuple[str, str]]:
    """Make methionine of selenomethionine, sulfur where selenium was; chain and words for each."""
    done = []
    for chain in structure[0]:
        for residue in chain:
            if residue.name == "MSE" and residue.entity_type == gemmi.EntityType.Polymer:
                done.append((chain.name, describe(chain.name, residue)))
                residue.name = "MET"
                residue.het_flag = "A"
                for atom in residue:
                    if atom.element.name == "Se":
                        atom.name, atom.element = "SD", gemmi.Element("S")
    for entity in structure.entities:
        entity.full_sequence = ["MET" if name == "MSE" else name for name in entity.full_sequence]
    return done


def _choose(others: list[Group], ligand: str | None, pdb: Path) -> Group | None:
    """The group called `ligand`, or the only one that can be meant; of several copies the first."""
    if ligand is None:
        candidates = [
            group
            for group in others
            if group[1].name not in ADDITIVES and sum(not atom.is_hydrogen() for atom in group[1]) > 5
        ]
    else:
        candidates = [group for group in others if group[1].name == ligand.upper()]
    if ligand is not None and not candidates:
        there = ", ".join(dict.fromkeys(describe(*group) for group in others)) or "no such group"
        raise InputError(
            f"{pdb}: `--ligand`: expected a group of the kept chains; got {ligand!r}, not {there}"
        )
    if len({group[1].name for group in candidates}) > 1:
        listed = ", ".join(f"{describe(*group)} ({len(group[1])} atoms)" for group in candidates)
        raise InputError(f"{pdb}: `--ligand`: expected the name of one ligand; there are {listed}")
    return candidates[0] if candidates else None


def _polymers(structure: gemmi.Structure, kept: Sequence[str]) -> str:
    copy = structure.clone()
    model = copy[0]
    for index in reversed(range(len(model))):
        chain = model[index]
        for place in reversed(range(len(chain))):
            if chain.name not in kept or chain[place].entity_type != gemmi.EntityType.Polymer:
                del chain[place]
        if len(chain) == 0:
            del model[index]
    return copy.make_pdb_string(gemmi.PdbWriteOptions(minimal=False))


def _pdb_of(chain: str, residue: gemmi.Residue) -> str:
    structure = gemmi.Structure()
    model = gemmi.Model(1)
    model.add_chain(gemmi.Chain(chain[:1]))
    model[0].add_residue(residue)
    structure.add_model(model)
    return structure.make_pdb_string(gemmi.PdbWriteOptions(minimal=True))
