import pytest
import torch
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from allmodes.chem.molecules import canonical_smiles, fingerprints, murcko_scaffold, random_smiles


@pytest.mark.parametrize(
    "spellings",
    [
        ("OCC", "CCO", "C(O)C"),
        ("c1ccccc1O", "C1=CC=CC=C1O", "Oc1ccccc1"),
        ("C[C@H](N)C(=O)O", "N[C@@H](C)C(=O)O", "OC(=O)[C@H](C)N"),
        ("F/C=C/Cl", "Cl/C=C/F", "F\\C=C\\Cl"),
    ],
)
def test_one_spelling_a_molecule(spellings: tuple[str, ...]) -> None:
    assert len({canonical_smiles(text) for text in spellings}) == 1
    assert canonical_smiles(spellings[0]) is not None


@pytest.mark.parametrize(
    "text",
    ["", "C1CC", "C(", "c1cccc1", "CX", "F(C)C", "hello", "C(C)(C)(C)(C)C", "CC>>CO", "\x00", "[C", "ℵ"],
)
def test_what_is_no_molecule_is_none_and_prints_nothing(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert canonical_smiles(text) is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["Cé", "éCO", "C\x00", "\ufffdC"])
def test_what_is_not_ascii_is_no_smiles(text: str) -> None:
    """RDKit drops such characters at the ends, so a damaged line would pass for another molecule."""
    assert canonical_smiles(text) is None


def test_stereo_is_kept_apart() -> None:
    alanines = {canonical_smiles(text) for text in ("C[C@@H](N)C(=O)O", "C[C@H](N)C(=O)O", "CC(N)C(=O)O")}
    assert len(alanines) == 3
    assert canonical_smiles("F/C=C/F") != canonical_smiles("F/C=C\\F")


def test_canonical_again_is_the_same(molecules: list[str]) -> None:
    for smiles in molecules:
        once = canonical_smiles(smiles)
        assert once is not None
        assert canonical_smiles(once) == once


def test_random_spellings_are_the_same_molecule_and_reproducible(molecules: list[str]) -> None:
    for smiles in molecules:
        spellings = random_smiles(smiles, count=3, seed=7)
        assert len(spellings) == 3
        assert {canonical_smiles(text) for text in spellings} == {canonical_smiles(smiles)}
        assert random_smiles(smiles, count=3, seed=7) == spellings


def test_random_spellings_change_with_the_seed_and_within_a_call(molecules: list[str]) -> None:
    by_seed = {random_smiles(molecules[0], count=1, seed=seed)[0] for seed in range(1, 21)}
    within = set(random_smiles(molecules[0], count=20, seed=1))
    assert len(by_seed) > 5
    assert len(within) > 5


def test_fingerprints_are_those_of_rdkit(molecules: list[str]) -> None:
    prints = fingerprints(molecules)
    assert prints.shape == (62, 1024)
    assert prints.dtype == torch.uint8
    assert set(prints.unique().tolist()) == {0, 1}
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    theirs = [generator.GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in molecules]
    rows = prints.double()
    common = rows @ rows.T
    ours = common / (rows.sum(1)[:, None] + rows.sum(1) - common)
    expected = torch.tensor([DataStructs.BulkTanimotoSimilarity(one, theirs) for one in theirs]).double()
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_no_molecules_no_fingerprints() -> None:
    assert fingerprints([]).shape == (0, 1024)
    assert fingerprints([]).dtype == torch.uint8


@pytest.mark.parametrize(
    ("smiles", "scaffold"),
    [
        ("CCc1ccccc1", "c1ccccc1"),
        ("CCCC", ""),
        ("O=C1CCCN1c1ccccc1", "O=C1CCCN1c1ccccc1"),
        ("c1ccccc1CCC1CC1F", "c1ccc(CCC2CC2)cc1"),
    ],
)
def test_murcko_scaffold(smiles: str, scaffold: str) -> None:
    expected = canonical_smiles(scaffold) or ""
    assert murcko_scaffold(smiles) == expected
