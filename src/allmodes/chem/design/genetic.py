"""Offspring of known molecules: two are cut and joined, and the child may be mutated at one place.

What a language model of molecules hardly ever writes is often one bond away from a good molecule. Offspring
are scored like the agent's own molecules, count against the same budget, and reach the agent through the
replay buffer alone. The idea is that of Jensen's graph-based genetic algorithm (2019), and of Genetic GFN
(Kim et al. 2024) beside a policy; operators and rates are allmodes' own.
"""

import random
from collections.abc import Callable, Sequence
from itertools import combinations

from rdkit import Chem

from allmodes.chem.molecules import canonical_smiles

_LARGEST_RING = 7
_TRIES = 20  # of each child; most edits of a drug-like molecule are valid, so few are needed
_RANK_OFFSET = 0.01  # of the number of parents: the best tenth are about two thirds of all that are drawn
_ELEMENTS = {"C": 8, "N": 4, "O": 4, "F": 2, "S": 1, "Cl": 1, "Br": 1}
_JOINTS = {"C": 4, "N": 2, "O": 2, "S": 1}  # can have two neighbours
_SINGLE, _DOUBLE = Chem.BondType.SINGLE, Chem.BondType.DOUBLE

Edit = Callable[[Chem.RWMol, random.Random], bool]


def make_offspring(
    parents: Sequence[str], count: int, *, is_known: Callable[[str], bool], mutation: float, seed: int
) -> list[str]:
    """At most `count` different molecules, canonical SMILES, none of them a parent or known.

    Parents are drawn by rank: of N, the k-th (from 0) has the weight 1 / (N/100 + k). A child is two parents
    cut at a single bond, or at two of a ring, and joined; with the probability `mutation` it is then changed
    at one place, always where the cut fails.

    parents: canonical SMILES, the best first. seed: decides everything that is drawn.
    """
    rng = random.Random(seed)  # noqa: S311 - no secrets here
    weights = [1 / (_RANK_OFFSET * len(parents) + rank) for rank in range(len(parents))]
    found: dict[str, None] = {}
    for _ in range(count * _TRIES if parents else 0):
        one, two = rng.choices(parents, weights, k=2)
        child = crossover(one, two, rng=rng) if one != two else None
        if child is None or rng.random() < mutation:
            child = mutate(child or one, rng=rng)
        if child is not None and child not in parents and not is_known(child):
            found[child] = None
        if len(found) == count:
            break
    return list(found)


def crossover(one: str, two: str, *, rng: random.Random) -> str | None:
    """A part of each molecule, joined; None if neither has a bond to cut, or the child is no molecule."""
    first, second = _open(one), _open(two)
    cut = _cut_chain if rng.random() < 0.5 else _cut_ring
    left, right = cut(first, rng), cut(second, rng)
    if left is None or right is None:
        left, right = _cut_chain(first, rng), _cut_chain(second, rng)
    return None if left is None or right is None else _join(left, right, rng)


def mutate(smiles: str, *, rng: random.Random) -> str | None:
    """A molecule with one atom or bond changed, added or taken away; None if no edit gives a molecule."""
    edits = list(_EDITS)
    while edits:
        edit = rng.choices(edits, [_EDITS[one] for one in edits])[0]
        edits.remove(edit)
        molecule = _open(smiles)
        changed = _closed(molecule) if edit(molecule, rng) else None
        if changed is not None and changed != smiles:
            return changed
    return None


def _open(smiles: str) -> Chem.RWMol:
    """A molecule to edit: without aromatic bonds, hydrogens implicit where the valence gives them."""
    molecule = Chem.RWMol(Chem.MolFromSmiles(smiles))
    Chem.Kekulize(molecule, clearAromaticFlags=True)
    for atom in molecule.GetAtoms():
        if atom.GetFormalCharge() == 0 and atom.GetNumRadicalElectrons() == 0:
            atom.SetNumExplicitHs(0)
            atom.SetNoImplicit(False)
    molecule.UpdatePropertyCache(strict=False)
    return molecule


def _closed(molecule: Chem.Mol) -> str | None:
    """The canonical SMILES of an edited molecule; None for one that is none, is in parts, or strained."""
    if Chem.SanitizeMol(molecule, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return None
    Chem.AssignStereochemistry(molecule, cleanIt=True, force=True)
    smiles = canonical_smiles(Chem.MolToSmiles(molecule))
    if smiles is None or "." in smiles:
        return None
    return None if _is_strained(Chem.MolFromSmiles(smiles)) else smiles


def _is_strained(molecule: Chem.Mol) -> bool:
    """Whether a ring is too large, has a triple bond or cumulated ones, or bridges an aromatic ring."""
    rings = [set(ring) for ring in molecule.GetRingInfo().AtomRings()]
    if any(len(ring) > _LARGEST_RING for ring in rings):
        return True
    for index in set().union(*rings):
        atom = molecule.GetAtomWithIdx(index)
        orders = [bond.GetBondTypeAsDouble() for bond in atom.GetBonds()]
        if 3.0 in orders or (atom.GetAtomicNum() == 6 and orders.count(2.0) > 1):
            return True
    return any(
        len(one & two) > 2
        for one, two in combinations(rings, 2)
        if any(molecule.GetAtomWithIdx(index).GetIsAromatic() for index in one & two)
    )


Part = tuple[Chem.Mol, list[int]]  # and its atoms with an open bond


def _cut_chain(molecule: Chem.Mol, rng: random.Random) -> Part | None:
    """One side of a single bond that is in no ring, drawn."""
    bonds = [b for b in molecule.GetBonds() if b.GetBondType() == _SINGLE and not b.IsInRing()]
    return _part(molecule, [rng.choice(bonds)], rng) if bonds else None


def _cut_ring(molecule: Chem.Mol, rng: random.Random) -> Part | None:
    """One side of a ring that is cut at two single bonds, drawn."""
    pairs = [
        pair
        for ring in Chem.GetSymmSSSR(molecule)
        for pair in combinations(_single_bonds(molecule, list(ring)), 2)
        if not {pair[0].GetBeginAtomIdx(), pair[0].GetEndAtomIdx()}
        & {pair[1].GetBeginAtomIdx(), pair[1].GetEndAtomIdx()}
    ]
    return _part(molecule, list(rng.choice(pairs)), rng) if pairs else None


def _single_bonds(molecule: Chem.Mol, ring: list[int]) -> list[Chem.Bond]:
    around = zip(ring, [*ring[1:], ring[0]], strict=True)
    bonds = (molecule.GetBondBetweenAtoms(one, two) for one, two in around)
    return [bond for bond in bonds if bond.GetBondType() == _SINGLE]


def _part(molecule: Chem.Mol, bonds: list[Chem.Bond], rng: random.Random) -> Part | None:
    """One of the two parts that a molecule falls into without these bonds, drawn; None for another number."""
    cut = Chem.RWMol(molecule)
    ends = [index for bond in bonds for index in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())]
    for bond in bonds:
        cut.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    sides = Chem.GetMolFrags(cut)
    if len(sides) != 2:
        return None
    kept = sides[rng.randrange(2)]
    places = [kept.index(end) for end in ends if end in kept]
    if len(places) != len(bonds):
        return None
    for index in sorted(set(range(cut.GetNumAtoms())) - set(kept), reverse=True):
        cut.RemoveAtom(index)
    return cut.GetMol(), places


def _join(left: Part, right: Part, rng: random.Random) -> str | None:
    """Two parts with single bonds between their open atoms, in a drawn order."""
    whole = Chem.RWMol(Chem.CombineMols(left[0], right[0]))
    theirs = [place + left[0].GetNumAtoms() for place in right[1]]
    rng.shuffle(theirs)
    for one, two in zip(left[1], theirs, strict=True):
        whole.AddBond(one, two, _SINGLE)
    return _closed(whole)


def _free_atoms(molecule: Chem.RWMol, hydrogens: int = 1) -> list[int]:
    return [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetTotalNumHs() >= hydrogens]


def _draw_element(elements: dict[str, int], rng: random.Random) -> Chem.Atom:
    return Chem.Atom(rng.choices(list(elements), list(elements.values()))[0])


def _append_atom(molecule: Chem.RWMol, rng: random.Random) -> bool:
    order = _DOUBLE if rng.random() < 0.2 else _SINGLE
    places = _free_atoms(molecule, hydrogens=2 if order == _DOUBLE else 1)
    if not places:
        return False
    place = rng.choice(places)
    new = molecule.AddAtom(_draw_element(_JOINTS if order == _DOUBLE else _ELEMENTS, rng))
    molecule.AddBond(place, new, order)
    return True


def _insert_atom(molecule: Chem.RWMol, rng: random.Random) -> bool:
    bonds = [bond for bond in molecule.GetBonds() if bond.GetBondType() == _SINGLE]
    if not bonds:
        return False
    bond = rng.choice(bonds)
    one, two = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    new = molecule.AddAtom(_draw_element(_JOINTS, rng))
    molecule.RemoveBond(one, two)
    molecule.AddBond(one, new, _SINGLE)
    molecule.AddBond(new, two, _SINGLE)
    return True


def _delete_atom(molecule: Chem.RWMol, rng: random.Random) -> bool:
    places = [atom for atom in molecule.GetAtoms() if atom.GetDegree() in (1, 2)]
    if not places or molecule.GetNumAtoms() < 3:
        return False
    atom = rng.choice(places)
    around = [neighbour.GetIdx() for neighbour in atom.GetNeighbors()]
    if len(around) == 2:
        if molecule.GetBondBetweenAtoms(*around) is not None:  # of a ring of three
            return False
        molecule.AddBond(around[0], around[1], _SINGLE)
    molecule.RemoveAtom(atom.GetIdx())
    return True


def _change_element(molecule: Chem.RWMol, rng: random.Random) -> bool:
    places = [atom for atom in molecule.GetAtoms() if atom.GetFormalCharge() == 0]
    if not places:
        return False
    molecule.ReplaceAtom(rng.choice(places).GetIdx(), _draw_element(_ELEMENTS, rng), preserveProps=False)
    return True


def _change_bond(molecule: Chem.RWMol, rng: random.Random) -> bool:
    bond = rng.choice(list(molecule.GetBonds())) if molecule.GetNumBonds() else None
    if bond is None:
        return False
    bond.SetBondType(rng.choice([order for order in (_SINGLE, _DOUBLE) if order != bond.GetBondType()]))
    return True


def _close_ring(molecule: Chem.RWMol, rng: random.Random) -> bool:
    bonds_between = Chem.GetDistanceMatrix(molecule)
    free = _free_atoms(molecule)
    pairs = [pair for pair in combinations(free, 2) if 2 <= bonds_between[pair] < _LARGEST_RING]
    if not pairs:
        return False
    # Rings of five and six are most of those in drugs.
    weights = [6 if bonds_between[pair] in (4, 5) else 1 for pair in pairs]
    one, two = rng.choices(pairs, weights)[0]
    molecule.AddBond(one, two, _SINGLE)
    return True


def _open_ring(molecule: Chem.RWMol, rng: random.Random) -> bool:
    Chem.FastFindRings(molecule)
    bonds = [bond for bond in molecule.GetBonds() if bond.GetBondType() == _SINGLE and bond.IsInRing()]
    if not bonds:
        return False
    bond = rng.choice(bonds)
    molecule.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    return True


_EDITS: dict[Edit, int] = {
    _append_atom: 4,
    _insert_atom: 3,
    _delete_atom: 4,
    _change_element: 4,
    _change_bond: 2,
    _close_ring: 2,
    _open_ring: 1,
}
