"""Checks whether a reaction, run forward, gives the stereoisomer to which a template was applied backward.

Four conditions on every stereo element (tetrahedral centre or double bond) that the product specifies:

1. It is in a precursor already, or the template defines it.
2. A centre at which the reaction exchanges a neighbour is defined on both sides of the template; otherwise it
   is unknown whether the reaction retains or inverts it.
3. Centres that the template creates have their configuration relative to one another, or to a centre of a
   precursor that the template also names. A reaction does not select one of several equally likely
   configurations.
4. Sites of a precursor that differ only in stereochemistry react alike, so all of them must give it.
   For example, a meso diamine gives no single enantiomer of its mono-amide.

Stereo elements that the product leaves unspecified are not checked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from rdkit import Chem
from rdkit.Chem import rdChemReactions

_MOST_MATCHES = 10_000  # limit on symmetries of a precursor, and on matches of a template in a product
_NO_TAG = Chem.ChiralType.CHI_UNSPECIFIED
_CLOCKWISE = Chem.ChiralType.CHI_TETRAHEDRAL_CW
_TAGS = (_CLOCKWISE, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)
_CIS = (Chem.BondStereo.STEREOCIS, Chem.BondStereo.STEREOZ)
_TRANS = (Chem.BondStereo.STEREOTRANS, Chem.BondStereo.STEREOE)

Bond = tuple[int, int]


def has_stereo(molecule: Chem.Mol) -> bool:
    """Whether a molecule specifies a tetrahedral centre or a double bond."""
    return bool(_centres(molecule) or _double_bonds(molecule))


def is_chiral(smiles: str) -> bool:
    """Whether a molecule, as far as it is specified, differs from its mirror image."""
    molecule = Chem.MolFromSmiles(smiles)
    mirrored = Chem.Mol(molecule)
    for centre in _centres(mirrored):
        mirrored.GetAtomWithIdx(centre).InvertChirality()
    return _spelling(mirrored) != _spelling(molecule)


@final
@dataclass(frozen=True, kw_only=True)
class TemplateStereo:
    """The stereochemistry of a template, in atoms of its product side.

    query: the product side. places: its atoms by map number. made: tagged on that side. kept: tagged on both.
    bonds: double bonds with a geometry there, the two atoms that it is relative to, and +1 for cis.
    """

    query: Chem.Mol
    places: Mapping[int, int]
    made: frozenset[int]
    kept: frozenset[int]
    bonds: tuple[tuple[Bond, Bond, int], ...]

    @classmethod
    def of(cls, reaction: rdChemReactions.ChemicalReaction) -> "TemplateStereo":
        """Read a template: one product on the left, precursors on the right."""
        query = Chem.Mol(reaction.GetReactants()[0])
        Chem.SetBondStereoFromDirections(query)
        places = {atom.GetAtomMapNum(): atom.GetIdx() for atom in query.GetAtoms() if atom.GetAtomMapNum()}
        made = _centres(query)
        after = {
            atom.GetAtomMapNum()
            for part in reaction.GetProducts()
            for atom in part.GetAtoms()
            if atom.GetChiralTag() in _TAGS
        }
        kept = made & {places[number] for number in after if number in places}
        bonds = tuple((ends, *_geometry(query, ends)) for ends in _double_bonds(query))
        return cls(query=query, places=places, made=made - kept, kept=kept, bonds=bonds)

    def matches(self, product: Chem.Mol, parts: Sequence[Chem.Mol]) -> Iterator[tuple[int, ...]]:
        """The matches of the template in the product that agree with the precursors `parts` that it gave."""
        known = {}
        for part in parts:
            for atom in part.GetAtoms():
                if atom.HasProp("old_mapno") and atom.HasProp("react_atom_idx"):
                    known[self.places[atom.GetIntProp("old_mapno")]] = atom.GetIntProp("react_atom_idx")
        for match in product.GetSubstructMatches(self.query, uniquify=False, maxMatches=_MOST_MATCHES):
            if all(match[place] == atom for place, atom in known.items()):
                yield match


def carry_geometry(product: Chem.Mol, parts: Iterable[Chem.Mol]) -> None:
    """Restore the geometry of a double bond that product and precursor share, where a template drops it.

    RDKit forgets it when a substituent of the double bond is exchanged, as in a coupling of a vinylboronic
    acid; the reaction keeps it. parts: what a template made of the product, not sanitised; changed in place.
    """
    for part in parts:
        place = {atom.GetIntProp("react_atom_idx"): atom.GetIdx() for atom in part.GetAtoms()
                 if atom.HasProp("react_atom_idx")}  # fmt: skip
        carried = False
        for ends in _double_bonds(product):
            if not all(end in place for end in ends):
                continue
            bond = part.GetBondBetweenAtoms(*(place[end] for end in ends))
            if bond is None or bond.GetBondType() != Chem.BondType.DOUBLE or _is_specified(bond):
                continue
            relative_to, sign = _geometry(product, ends)
            first, second = (
                _successor(part, place, end, substituent)
                for end, substituent in zip(ends, relative_to, strict=True)
            )
            if first is not None and second is not None:
                forward = bond.GetBeginAtomIdx() == place[ends[0]]
                bond.SetStereoAtoms(*((first, second) if forward else (second, first)))
                bond.SetStereo(Chem.BondStereo.STEREOCIS if sign > 0 else Chem.BondStereo.STEREOTRANS)
                carried = True
        if carried:
            Chem.SetDoubleBondNeighborDirections(part)  # RDKit writes new geometries from these only


def _successor(part: Chem.Mol, place: Mapping[int, int], end: int, substituent: int) -> int | None:
    """The atom of a precursor in the position of a substituent of a double bond of the product."""
    around = [atom.GetIdx() for atom in part.GetAtomWithIdx(place[end]).GetNeighbors()]
    if place.get(substituent) in around:
        return place[substituent]
    origins = {index: origin for origin, index in place.items()}
    new = [index for index in around if origins.get(index) is None]
    return new[0] if len(new) == 1 else None


def gives_stereo(
    product: Chem.Mol, stereo: TemplateStereo, parts: Sequence[Chem.Mol], precursors: Sequence[Chem.Mol]
) -> bool:
    """Whether the reaction gives the product's stereoisomer, by the rules in this module's docstring.

    parts: the molecules that the template gave, written once by `Chem.MolToSmiles`; precursors: the same,
    read from these SMILES.
    """
    source: dict[int, tuple[int, int]] = {}  # by atom of the product: precursor, atom there
    origins: list[dict[int, int]] = []  # for each precursor, by atom: atom of the product
    for number, (part, precursor) in enumerate(zip(parts, precursors, strict=True)):
        spelled = [part.GetAtomWithIdx(index) for index in part.GetPropsAsDict(True, True)[_ORDER]]
        heavy = [atom for atom in spelled if atom.GetAtomicNum() != 1]
        atoms = spelled if len(spelled) == precursor.GetNumAtoms() else heavy
        if len(atoms) != precursor.GetNumAtoms():
            return False
        origins.append({index: atom.GetIntProp("react_atom_idx") for index, atom in enumerate(atoms)
                        if atom.HasProp("react_atom_idx")})  # fmt: skip
        source.update({origin: (number, index) for index, origin in origins[-1].items()})
    matches = list(stereo.matches(product, parts)) if stereo.made or stereo.kept or stereo.bonds else [()]
    return any(
        _bonds_are_given(product, stereo, match, source, precursors)
        and _centres_are_given(product, stereo, match, source, precursors, origins)
        for match in matches
    ) and all(
        _sites_are_alike(product, precursor, origin)
        for precursor, origin in zip(precursors, origins, strict=True)
    )


_ORDER = "_smilesAtomOutputOrder"


def _bonds_are_given(
    product: Chem.Mol,
    stereo: TemplateStereo,
    match: Sequence[int],
    source: Mapping[int, tuple[int, int]],
    precursors: Sequence[Chem.Mol],
) -> bool:
    defined = {
        frozenset((match[one], match[two])): ((match[one], match[two]), (match[first], match[second]), sign)
        for (one, two), (first, second), sign in stereo.bonds
    }
    for ends in _double_bonds(product):
        template = defined.get(frozenset(ends))
        if template is None:
            if not _is_carried(ends, source, precursors):
                return False
        elif _sign_of_bond(product, *template[:2]) != template[2]:
            return False
    return True


def _is_carried(ends: Bond, source: Mapping[int, tuple[int, int]], precursors: Sequence[Chem.Mol]) -> bool:
    places = [source.get(end) for end in ends]
    if places[0] is None or places[1] is None or places[0][0] != places[1][0]:
        return False
    bond = precursors[places[0][0]].GetBondBetweenAtoms(places[0][1], places[1][1])
    return bond is not None and _is_specified(bond)


def _centres_are_given(
    product: Chem.Mol,
    stereo: TemplateStereo,
    match: Sequence[int],
    source: Mapping[int, tuple[int, int]],
    precursors: Sequence[Chem.Mol],
    origins: Sequence[Mapping[int, int]],
) -> bool:
    places = {atom: place for place, atom in enumerate(match)}
    made = []
    for centre in _centres(product):
        if centre not in source:
            return False
        number, index = source[centre]
        atom = precursors[number].GetAtomWithIdx(index)
        place = places.get(centre)
        if atom.GetChiralTag() not in _TAGS:
            if place not in stereo.made | stereo.kept:
                return False
            made.append(centre)
            continue
        before = {neighbour.GetIdx() for neighbour in product.GetAtomWithIdx(centre).GetNeighbors()}
        after = {origins[number].get(neighbour.GetIdx()) for neighbour in atom.GetNeighbors()}
        if before != after and place not in stereo.kept:
            return False
    if not made:
        return True
    kept = [
        match[place]
        for place in stereo.kept
        if match[place] in _centres(product) and match[place] not in made
    ]
    hands = {_hand(product, stereo.query, match, places[centre]) for centre in (*made, *kept)}
    if len(hands) != 1 or None in hands:
        return False
    if kept:
        return True
    other = Chem.Mol(product)
    for centre in made:
        other.GetAtomWithIdx(centre).InvertChirality()
    return _spelling(other) == _spelling(product)


def _hand(product: Chem.Mol, query: Chem.Mol, match: Sequence[int], place: int) -> int | None:
    """+1 if a centre of the product has the template's configuration, −1 if the opposite one, else None."""
    drawn = _neighbours(query, place)
    order = [match[neighbour] for neighbour in drawn]
    rest = [neighbour for neighbour in _neighbours(product, match[place]) if neighbour not in order]
    if len(drawn) < 3 or len(rest) > 1:
        return None
    # A neighbour that is not an atom of the graph, such as an implicit hydrogen, comes last in RDKit's
    # convention.
    return _sign_of_centre(query, place, drawn) * _sign_of_centre(product, match[place], [*order, *rest])


def _sites_are_alike(product: Chem.Mol, precursor: Chem.Mol, origin: Mapping[int, int]) -> bool:
    """Whether every symmetry of a precursor's constitution gives the same stereoisomer of the product."""
    centres, bonds = _centres(precursor), _double_bonds(precursor)
    ranks = list(Chem.CanonicalRankAtoms(precursor, breakTies=False, includeChirality=False))
    if not any(
        _may_move(precursor, ranks, atom) for atom in {*centres, *(end for ends in bonds for end in ends)}
    ):
        return True
    expected = _spelling(product)
    seen = set()
    for image in precursor.GetSubstructMatches(precursor, uniquify=False, maxMatches=_MOST_MATCHES):
        if any(ranks[atom] != ranks[other] for atom, other in enumerate(image)):
            continue  # tautomers match each other too
        changes = (
            tuple((atom, _change_of_centre(precursor, image, atom)) for atom in range(len(image))),
            tuple((ends, _change_of_bond(precursor, image, ends)) for ends in bonds),
        )
        if changes in seen:
            continue
        seen.add(changes)
        if _spelling(_changed(product, origin, *changes)) != expected:
            return False
    return True


def _may_move(molecule: Chem.Mol, ranks: Sequence[int], atom: int) -> bool:
    around = [ranks[neighbour] for neighbour in _neighbours(molecule, atom)]
    return ranks.count(ranks[atom]) > 1 or len(set(around)) < len(around)


def _change_of_centre(molecule: Chem.Mol, image: Sequence[int], atom: int) -> int | None:
    """The factor on an atom's configuration when its image replaces it; None if the image has none."""
    tagged = [molecule.GetAtomWithIdx(index).GetChiralTag() in _TAGS for index in (atom, image[atom])]
    if not any(tagged):
        return 1
    if not all(tagged):
        return None
    around = _neighbours(molecule, atom)
    moved = [image[neighbour] for neighbour in around]
    return _sign_of_centre(molecule, atom, around) * _sign_of_centre(molecule, image[atom], moved)


def _change_of_bond(molecule: Chem.Mol, image: Sequence[int], ends: Bond) -> int | None:
    moved = (image[ends[0]], image[ends[1]])
    if not _is_specified(molecule.GetBondBetweenAtoms(*moved)):
        return None
    (first, second), sign = _geometry(molecule, ends)
    return sign * _sign_of_bond(molecule, moved, (image[first], image[second]))


def _changed(
    product: Chem.Mol,
    origin: Mapping[int, int],
    centres: Iterable[tuple[int, int | None]],
    bonds: Iterable[tuple[Bond, int | None]],
) -> Chem.Mol:
    """The product with changed configurations and geometries from one precursor."""
    changed = Chem.Mol(product)
    for index, factor in centres:
        if index in origin and factor != 1:
            atom = changed.GetAtomWithIdx(origin[index])
            if factor is None:
                atom.SetChiralTag(_NO_TAG)
            else:
                atom.InvertChirality()
    for ends, factor in bonds:
        if factor == 1 or not all(end in origin for end in ends):
            continue
        bond = changed.GetBondBetweenAtoms(*(origin[end] for end in ends))
        if bond is not None and _is_specified(bond):
            cis = bond.GetStereo() in _CIS
            flipped = Chem.BondStereo.STEREOTRANS if cis else Chem.BondStereo.STEREOCIS
            bond.SetStereo(Chem.BondStereo.STEREONONE if factor is None else flipped)
    return changed


def _centres(molecule: Chem.Mol) -> frozenset[int]:
    return frozenset(atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetChiralTag() in _TAGS)


def _double_bonds(molecule: Chem.Mol) -> list[Bond]:
    return [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds() if _is_specified(bond)
    ]


def _is_specified(bond: Chem.Bond) -> bool:
    return bond.GetStereo() in (*_CIS, *_TRANS)


def _neighbours(molecule: Chem.Mol, atom: int) -> list[int]:
    """Neighbours in the order that RDKit's chiral tags refer to."""
    return [bond.GetOtherAtomIdx(atom) for bond in molecule.GetAtomWithIdx(atom).GetBonds()]


def _sign_of_centre(molecule: Chem.Mol, atom: int, order: Sequence[int]) -> int:
    """+1 where the neighbours in this order are clockwise, the last three seen from the first; else −1."""
    positions = [order.index(neighbour) for neighbour in _neighbours(molecule, atom)]
    swaps = sum(a > b for index, a in enumerate(positions) for b in positions[index + 1 :])
    clockwise = molecule.GetAtomWithIdx(atom).GetChiralTag() == _CLOCKWISE
    return 1 if clockwise == (swaps % 2 == 0) else -1


def _geometry(molecule: Chem.Mol, ends: Bond) -> tuple[Bond, int]:
    """The neighbours of both ends that a geometry is relative to, and +1 for cis, −1 for trans."""
    bond = molecule.GetBondBetweenAtoms(*ends)
    first, second = bond.GetStereoAtoms()
    if bond.GetBeginAtomIdx() != ends[0]:
        first, second = second, first
    return (first, second), 1 if bond.GetStereo() in _CIS else -1


def _sign_of_bond(molecule: Chem.Mol, ends: Bond, relative_to: Bond) -> int:
    """+1 where these neighbours of the two ends are cis, −1 where they are trans."""
    own, sign = _geometry(molecule, ends)
    return sign * (1 if (own[0] == relative_to[0]) == (own[1] == relative_to[1]) else -1)


def _spelling(molecule: Chem.Mol) -> str:
    return Chem.CanonSmiles(Chem.MolToSmiles(molecule))
