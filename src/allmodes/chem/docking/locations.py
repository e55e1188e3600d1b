"""Selects one location per atom, and one residue per position, where a file gives alternatives.

A site is a residue, or the residues that share its position (microheterogeneity). Bonded sites with
alternatives take the same letter, since a letter names one conformation of all of them.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import final

import gemmi

# Upper limits of bond lengths, in Å; the second is for two atoms of S, P or Se.
_BOND, _LONG_BOND = 1.95, 2.3
_LARGE = frozenset({"S", "P", "Se"})
_UNNAMED = "\0"


@final
@dataclass
class _Site:
    """Indices of a chain and its residues at one position, and the mean occupancy of each letter there."""

    chain: int
    residues: list[int]
    occupancy: dict[str, float]


def keep_one_location(model: gemmi.Model) -> list[tuple[str, gemmi.Residue]]:
    """Keep one location per atom and one residue per position; returns the removed residues with their chain.

    For bonded sites, the letter is kept whose residue has the highest occupancy where residues differ, then
    the one with the highest sum of mean occupancies, then the first in the alphabet. A site without that
    letter takes its next best.
    """
    sites = [site for index, chain in enumerate(model) for site in _sites(index, chain)]
    ranking: dict[int, list[str]] = {}
    for group in _bonded(model, sites):
        ranked = _ranked([sites[index] for index in group])
        ranking.update(dict.fromkeys(group, ranked))
    removed: list[tuple[str, gemmi.Residue]] = []
    for index in reversed(range(len(sites))):
        site = sites[index]
        chain = model[site.chain]
        letter = next((letter for letter in ranking.get(index, []) if letter in site.occupancy), _UNNAMED)
        kept = _best_residue(chain, site, letter)
        _keep_atoms(chain[kept], letter)
        for other in reversed(site.residues):
            if other != kept:
                removed.append((chain.name, chain[other].clone()))
                del chain[other]
    return removed[::-1]


def _sites(index: int, chain: gemmi.Chain) -> list[_Site]:
    groups: list[list[int]] = []
    for place in range(len(chain)):
        if groups and all(_exclude(chain[other], chain[place]) for other in groups[-1]):
            groups[-1].append(place)
        else:
            groups.append([place])
    return [_Site(index, group, _occupancy(chain, group)) for group in groups]


def _exclude(one: gemmi.Residue, other: gemmi.Residue) -> bool:
    """Whether two residues of a chain are alternatives at one position."""
    if one.seqid != other.seqid or one.name == other.name:
        return False
    first, second = _letters(one), _letters(other)
    if first and second:
        return not first & second or (_is_monomer(one) and _is_monomer(other))
    return _is_monomer(one) and _is_monomer(other)


def _is_monomer(residue: gemmi.Residue) -> bool:
    known = gemmi.find_tabulated_residue(residue.name)
    return known.is_amino_acid() or known.is_nucleic_acid()


def _letters(residue: gemmi.Residue) -> set[str]:
    return {atom.altloc for atom in residue} - {_UNNAMED}


def _mean(occupancies: list[float]) -> float:
    return round(sum(occupancies) / len(occupancies), 3)  # so that equal occupancies compare as equal


def _occupancy(chain: gemmi.Chain, places: list[int]) -> dict[str, float]:
    atoms: defaultdict[str, list[float]] = defaultdict(list)
    for place in places:
        for atom in chain[place]:
            atoms[atom.altloc].append(atom.occ)
    return {letter: _mean(values) for letter, values in atoms.items() if letter != _UNNAMED}


def _bonded(model: gemmi.Model, sites: list[_Site]) -> list[list[int]]:
    """Groups of sites with alternatives that are bonded to each other, by their indices."""
    site_of = {(site.chain, place): index for index, site in enumerate(sites) for place in site.residues}
    group_of = {index: [index] for index, site in enumerate(sites) if site.occupancy}
    # Without a unit cell there are no symmetry images: only the file's own atoms count.
    search = gemmi.NeighborSearch(model, gemmi.UnitCell(), 5).populate(include_h=False) if group_of else None
    for index in list(group_of):
        for place in sites[index].residues:
            for atom in model[sites[index].chain][place]:
                for mark in _bonds(atom, search):
                    other = group_of.get(site_of[mark.chain_idx, mark.residue_idx])
                    if other is not None and other is not group_of[index]:
                        merged = group_of[index] + other
                        group_of.update(dict.fromkeys(merged, merged))
    return list({id(group): group for group in group_of.values()}.values())


def _bonds(atom: gemmi.Atom, search: gemmi.NeighborSearch | None) -> list[gemmi.NeighborSearch.Mark]:
    """The atoms bonded to an atom in its own conformation, by distance; bonds to metals do not count."""
    if search is None or atom.element.is_metal or atom.is_hydrogen():
        return []
    return [
        mark
        for mark in search.find_atoms(atom.pos, atom.altloc, radius=_LONG_BOND)
        if not mark.element.is_metal
        and (atom.pos.dist(mark.pos) < _BOND or {atom.element.name, mark.element.name} <= _LARGE)
    ]


def _ranked(sites: list[_Site]) -> list[str]:
    decisive: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for site in sites:
        for letter, occupancy in site.occupancy.items():
            total[letter] += round(1000 * occupancy)
            decisive[letter] += round(1000 * occupancy) if len(site.residues) > 1 else 0
    return sorted(total, key=lambda letter: (-decisive[letter], -total[letter], letter))


def _best_residue(chain: gemmi.Chain, site: _Site, letter: str) -> int:
    with_letter = [place for place in site.residues if letter in _letters(chain[place])]

    def occupancy(place: int) -> float:
        return _mean([atom.occ for atom in chain[place] if atom.altloc in (_UNNAMED, letter)] or [0.0])

    return max(with_letter or site.residues, key=occupancy)


def _keep_atoms(residue: gemmi.Residue, letter: str) -> None:
    is_monomer = _is_monomer(residue)
    names = {atom.name for atom in residue if atom.altloc in (_UNNAMED, letter)}
    gone, seen = [], set()
    for index, atom in enumerate(residue):
        if atom.altloc in (_UNNAMED, letter):
            # An atom name may occur once per residue, except in ligands whose atoms all have the same name.
            keep = not is_monomer or atom.name not in seen
        else:
            # Missing side-chain atoms are added later; those of backbones and ligands are not.
            keep = atom.name not in names | seen and (not is_monomer or atom.name in ("N", "CA", "C", "O"))
        atom.altloc = _UNNAMED
        if keep:
            seen.add(atom.name)
        else:
            gone.append(index)
    for index in reversed(gone):
        del residue[index]
