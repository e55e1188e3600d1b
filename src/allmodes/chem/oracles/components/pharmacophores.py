"""Gobbi's two-dimensional pharmacophores, bit for bit as RDKit's `Gen2DFingerprint`, and faster.

RDKit looks up the bit of each pair and triangle of features anew, which is most of its work; here bits are
remembered by feature families and distances, and a pair that is too near is left out with all its triangles.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdkit import Chem

_NEAREST, _FARTHEST = 2, 100  # of Gobbi's bins: distances from 2 on, below 100 bonds
Feature = tuple[int, tuple[int, ...]]  # family, and the atoms that match it


def pharmacophore_fingerprint(molecule: "Chem.Mol") -> Any:
    """The bits of all pairs and triangles of features, by their families and shortest distances.

    Returns an RDKit SparseBitVect. Source: Gobbi and Poppinger 1998.
    """
    from rdkit.Chem.Pharm2D import Gobbi_Pharm2D

    factory = Gobbi_Pharm2D.factory
    fingerprint = factory.GetSignature()
    matches = factory.GetMolFeats(molecule)
    features = [(family, atoms) for family, found in enumerate(matches) for atoms in sorted(set(found))]
    for bit in _bits(features, _distances(molecule, features)):
        fingerprint.SetBit(bit)
    return fingerprint


def _distances(molecule: "Chem.Mol", features: Sequence[Feature]) -> list[list[int]]:
    """The bonds between the nearest atoms of each two features; 0 where they make no pair."""
    from rdkit import Chem

    bonds = Chem.GetDistanceMatrix(molecule).tolist()
    found = [[0] * len(features) for _ in features]
    for first, (_, ours) in enumerate(features):
        for second in range(first + 1, len(features)):
            nearest = min(bonds[one][other] for one in ours for other in features[second][1])
            if _NEAREST <= nearest < _FARTHEST:
                found[first][second] = int(nearest)
    return found


def _bits(features: Sequence[Feature], distances: Sequence[Sequence[int]]) -> Iterator[int]:
    families = [family for family, _ in features]
    for first, of_first in enumerate(distances):
        paired = [second for second in range(first + 1, len(features)) if of_first[second]]
        for place, second in enumerate(paired):
            yield _bit((families[first], families[second]), (of_first[second],))
            of_second = distances[second]
            for third in paired[place + 1 :]:
                if of_second[third]:
                    sides = (of_first[second], of_first[third], of_second[third])
                    yield _bit((families[first], families[second], families[third]), sides)


@lru_cache(maxsize=1 << 17)
def _bit(families: tuple[int, ...], distances: tuple[int, ...]) -> int:
    """The place of a pair or triangle in the fingerprint: some ten thousand occur in drug-like molecules."""
    from rdkit.Chem.Pharm2D import Gobbi_Pharm2D

    return Gobbi_Pharm2D.factory.GetBitIdx(list(families), list(distances), sortIndices=False)
