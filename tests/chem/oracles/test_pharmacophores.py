"""Our pharmacophore fingerprints against RDKit's own, bit by bit."""

from pathlib import Path

import pytest
from rdkit import Chem
from rdkit.Chem.Pharm2D import Generate, Gobbi_Pharm2D

from allmodes.chem.oracles.components.pharmacophores import pharmacophore_fingerprint

MOLECULES = Path(__file__).parents[2] / "data" / "molecules.smi"
# Fragments, elements that Gobbi calls unusual, features that share atoms, none at all, and a long chain.
OTHERS = [
    "O=C(O)CC(=O)O.NCCN.[Na+]",
    "B(O)(O)c1ccccc1[Si](C)(C)C",
    "CCCOc1cc2ncnc(Nc3ccc4ncsc4c3)c2cc1S(=O)(=O)C(C)(C)C",
    "C",
    "NC(=N)NCCCC(N)C(=O)NC(CC(=O)O)C(=O)O",
    "OC" + "C" * 110 + "CN",
]


def smiles() -> list[str]:
    lines = MOLECULES.read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("text", [*smiles()[:40], *OTHERS])
def test_bits_are_those_of_rdkit(text: str) -> None:
    molecule = Chem.MolFromSmiles(text)
    expected = Generate.Gen2DFingerprint(molecule, Gobbi_Pharm2D.factory)
    assert list(pharmacophore_fingerprint(molecule).GetOnBits()) == list(expected.GetOnBits())


def test_the_table_has_molecules_with_many_bits() -> None:
    found = [pharmacophore_fingerprint(Chem.MolFromSmiles(text)).GetNumOnBits() for text in smiles()[:40]]
    assert sum(count > 20 for count in found) > 10
    assert pharmacophore_fingerprint(Chem.MolFromSmiles("C")).GetNumOnBits() == 0
