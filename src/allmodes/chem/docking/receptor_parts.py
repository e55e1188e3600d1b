"""A structure split into polymers, the co-crystallised ligand, metal ions, and removed groups."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import gemmi

from allmodes.chem.docking.box import MAX_REFERENCE_ATOMS
from allmodes.chem.docking.groups import (
    ADDITIVES,
    Group,
    describe,
    distance,
    groups_of,
    named_chain,
)
from allmodes.chem.docking.locations import keep_one_location
from allmodes.chem.docking.polymers import Monomer, incomplete_residues, standard_polymers
from allmodes.chem.docking.structure_file import missing_stretches, read_structure
from allmodes.errors import InputError

# A group this near to a kept polymer, in Å, belongs to it, even if another is nearer still.
TOUCH = 5.0
# Farther away, in Å, nothing belongs to a polymer.
REACH = 20.0
# A peptide of at most this many residues may be a ligand: about 250 heavy atoms.
MAX_PEPTIDE = 30
# Up to this many removed groups of one name are listed one by one.
_MANY = 20
# `--ligand none`: no reference ligand, whatever the file holds.
NO_LIGAND = "none"


@final
@dataclass(frozen=True)
class Parts:
    """The parts of a file: the polymers as PDB, their chains, ligand, metal ions, and lists for the user.

    monomers: by the chain and number that residues have in `polymers`, where no two share them. incomplete:
    residues without a backbone, which are left out. peptides: short chains that are part of the receptor.
    removed: everything that is in no other part.
    missing: stretches without coordinates.
    """

    polymers: str
    monomers: dict[tuple[str, str], Monomer]
    chains: tuple[str, ...]
    ligand: Group | None
    ligand_pdb: str
    metals: tuple[Group, ...]
    peptides: tuple[str, ...]
    incomplete: tuple[str, ...]
    removed: tuple[str, ...]
    missing: tuple[str, ...]


def split_structure(file: Path, *, ligand: str | None, chains: Sequence[str]) -> Parts:
    """The parts of a PDB or mmCIF file; raises `InputError` for what `prepare_receptor` says."""
    structure, further_models = read_structure(file)
    model = structure[0]
    parents = {(m.chain_name, str(m.res_id.seqid)): m.parent_comp_id for m in structure.mod_residues}
    less_occupied = keep_one_location(model)
    groups = groups_of(model)
    missing = missing_stretches(structure)
    kept, dropped = _kept_polymers(groups, chains, file)
    chosen = _choose(groups, kept, ligand, chains, file)
    if chosen is not None and chosen.is_polymer:
        kept = [polymer for polymer in kept if polymer is not chosen]
        dropped = [polymer for polymer in dropped if polymer is not chosen]
    near = _Nearness(kept, groups, chains)
    waters = [group for group in groups if group.is_water]
    others = [group for group in groups if not group.is_polymer and not group.is_water]
    metals = [group for group in others if group is not chosen and group.is_metal and near.belongs(group)]
    gone = [group for group in others if group is not chosen and group not in metals]
    removed = _listed(gone)
    removed += [f"{describe(chain, residue)} (less occupied)" for chain, residue in less_occupied]
    removed += [f"water ({len(waters)})"] if waters else []
    if dropped:
        removed.append(f"chains {', '.join(dict.fromkeys(named_chain(group.chain) for group in dropped))}")
    if further_models:
        removed.append(f"models after the first ({further_models})")
    incomplete = incomplete_residues(kept, file)
    polymers, monomers = standard_polymers(kept, parents)
    in_receptor = {polymer.chain for polymer in kept}
    return Parts(
        polymers=polymers,
        monomers=monomers,
        chains=tuple(dict.fromkeys(named_chain(polymer.chain) for polymer in kept)),
        ligand=chosen,
        ligand_pdb="" if chosen is None else _pdb_of(chosen),
        metals=tuple(metals),
        peptides=tuple(f"{group.label} ({group.size})" for group in _peptides(kept)),
        incomplete=incomplete,
        removed=tuple(dict.fromkeys(removed)),
        missing=tuple(
            f"{count} residues of chain {named_chain(chain)}"
            for chain, count in missing
            if chain in in_receptor
        ),
    )


def _listed(groups: list[Group]) -> list[str]:
    """Labels of groups; of very many with one name, as ions around a simulated protein, their number."""
    counts = Counter(group.name for group in groups)
    return [
        group.label if counts[group.name] <= _MANY else f"{group.name} ({counts[group.name]})"
        for group in groups
    ]


@final
class _Nearness:
    """Which groups belong to the kept polymers, by distance.

    chains: those that are named to be kept. A group in one that holds no polymer belongs to those kept.
    """

    def __init__(self, kept: list[Group], groups: list[Group], chains: Sequence[str]) -> None:
        polymers = [group for group in groups if group.is_polymer]
        self._kept, self._dropped = _search(kept), _search([p for p in polymers if p not in kept])
        self._named = {_plain(name) for name in chains} - {polymer.chain for polymer in polymers}

    def belongs(self, group: Group) -> bool:
        """Whether a group touches a kept polymer, or none is nearer and it is not far away."""
        to_kept = distance(group.heavy, self._kept)
        if to_kept <= TOUCH or group.chain in self._named:
            return to_kept <= REACH
        return to_kept <= min(distance(group.heavy, self._dropped), REACH)


def _search(polymers: list[Group]) -> gemmi.NeighborSearch | None:
    if not polymers:
        return None
    model = gemmi.Model(1)
    for index, polymer in enumerate(polymers):
        model.add_chain(gemmi.Chain(polymer.chain))
        for residue in polymer.residues:
            model[index].add_residue(residue)
    # Without a unit cell there are no images.
    return gemmi.NeighborSearch(model, gemmi.UnitCell(), REACH).populate(include_h=False)


def _kept_polymers(groups: list[Group], chains: Sequence[str], file: Path) -> tuple[list[Group], list[Group]]:
    """The polymers of the chains that are asked for, and the others."""
    wanted = [_plain(name) for name in chains]
    polymers = [group for group in groups if group.is_polymer]
    if not polymers:
        raise InputError(f"{file}: expected a PDB or mmCIF file with a protein or nucleic acid; got none")
    present = list(dict.fromkeys(group.chain for group in groups))
    if unknown := [name for name in wanted if name not in present]:
        raise InputError(
            f"{file}: `--chains`: expected some of {', '.join(map(named_chain, present))}; "
            f"got {', '.join(map(named_chain, unknown))}"
        )
    kept = [group for group in polymers if not wanted or group.chain in wanted]
    if not kept:
        with_polymer = dict.fromkeys(named_chain(group.chain) for group in polymers)
        raise InputError(
            f"{file}: `--chains`: expected a protein or nucleic acid, which chains {', '.join(with_polymer)} "
            f"hold; got {', '.join(map(named_chain, wanted))}"
        )
    return kept, [group for group in polymers if group not in kept]


def _plain(chain: str) -> str:
    """A chain's name as on the command line, where `''` and a space stand for a blank one."""
    return chain.strip().strip("'")


def _peptides(polymers: list[Group]) -> list[Group]:
    """Peptides that may be ligands: short, and at most half as long as the longest polymer."""
    longest = max((len(polymer.residues) for polymer in polymers), default=0)
    return [
        polymer
        for polymer in polymers
        if polymer.is_peptide and len(polymer.residues) <= min(MAX_PEPTIDE, longest // 2)
    ]


def _choose(
    groups: list[Group], kept: list[Group], ligand: str | None, chains: Sequence[str], file: Path
) -> Group | None:
    """The group that `ligand` calls, or the only one that can be meant; of several copies the first."""
    near = _Nearness(kept, groups, chains)
    others = [group for group in groups if not group.is_polymer and not group.is_water]
    if ligand is not None and ligand.lower() == NO_LIGAND:
        return None
    if ligand is not None:
        return _named(groups, kept, others, near, ligand, file)
    candidates = [
        group
        for group in others
        if group.name not in ADDITIVES and len(group.heavy) > 5 and near.belongs(group)
    ]
    # Who names a peptide's chain to be kept has said that it is part of the receptor.
    candidates += [] if chains else _peptides(kept)
    names = {group.label if group.is_polymer else group.name for group in candidates}
    if len(names) > 1 or any(group.is_polymer or group.is_cofactor for group in candidates):
        listed = ", ".join(f"{group.label} ({group.size})" for group in candidates)
        peptide = next((group for group in candidates if group.is_polymer), None)
        hint = "" if peptide is None else f", the chain of a peptide ({named_chain(peptide.chain)})"
        raise InputError(
            f"{file}: `--ligand`: expected the name of one ligand{hint} or `{NO_LIGAND}`; there are {listed}"
        )
    return candidates[0] if candidates else None


def _named(
    groups: list[Group], kept: list[Group], others: list[Group], near: _Nearness, ligand: str, file: Path
) -> Group:
    called = [g for g in others if ligand.upper() in (g.name.upper(), g.label.upper())]
    if not called:
        called = [g for g in groups if g.is_polymer and ligand in (g.chain or "''", g.label)]
        called.sort(key=lambda group: len(group.residues))  # chains may share a name
    if not called:
        there = [*filter(near.belongs, others), *_peptides([g for g in groups if g.is_polymer])]
        listed = ", ".join(dict.fromkeys(group.label for group in there))
        instead = f"not {listed}" if listed else "and there is none"
        raise InputError(
            f"{file}: `--ligand`: expected a group of the kept chains; got {ligand!r}, {instead}"
        )
    if called[0].is_polymer:
        near = _Nearness([g for g in kept if g is not called[0]], called, chains=())
        if len(called[0].heavy) > MAX_REFERENCE_ATOMS or kept == called[:1]:
            raise InputError(
                f"{file}: `--ligand`: expected a ligand of at most {MAX_REFERENCE_ATOMS} heavy atoms "
                f"beside a receptor; chain {named_chain(called[0].chain)} has {len(called[0].heavy)}"
            )
    chosen = next(filter(near.belongs, called), None)
    if chosen is None:
        chains = ", ".join(dict.fromkeys(named_chain(group.chain) for group in kept))
        raise InputError(
            f"{file}: `--ligand`: expected a group near the kept chains {chains}; "
            f"{', '.join(group.label for group in called)} is not"
        )
    return chosen


def _pdb_of(group: Group) -> str:
    structure = gemmi.Structure()
    structure.add_model(gemmi.Model(1))
    structure[0].add_chain(gemmi.Chain(group.chain[:1]))
    for residue in group.residues:
        copy = residue.clone()
        copy.name = copy.name[:3]  # PDB has no column for more
        structure[0][0].add_residue(copy)
    return structure.make_pdb_string(gemmi.PdbWriteOptions(minimal=True))
