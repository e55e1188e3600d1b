import subprocess
import sys

import pytest
import torch
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from allmodes.chem.fingerprints import fingerprints
from allmodes.chem.molecules import (
    MAX_ATOMS,
    MAX_SMILES,
    MoleculeError,
    canonical_smiles,
    murcko_scaffold,
    not_drawn,
    parse_block,
    parse_smiles,
    random_smiles,
    spelling,
)


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


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("[CH3:1][CH2:7][OH:3]", "CCO"),
        ("[CH3:1][C@H:2]([OH:3])[F:4]", "C[C@H](O)F"),
        ("[CH3:1][C@H]([CH3:2])F", "CC(C)F"),  # the maps alone made it a stereocentre
        ("[H]C([H])([H])O[H]", "CO"),
        ("[H:1]C([H:2])([H:3])O", "CO"),
        ("[13CH3]O", "[13CH3]O"),
        ("[2H]OC", "[2H]OC"),
        ("[Cl-].CC[NH3+]", "CC[NH3+].[Cl-]"),
        ("CC[NH3+].[Cl-]", "CC[NH3+].[Cl-]"),
        ("C[C@H](O)F |&1:1|", "CC(O)F"),  # a racemate
        ("C[C@@H](O)F |&1:1|", "CC(O)F"),
        ("C[C@@H](O)F |o1:1|", "CC(O)F"),  # one of the two, nobody knows which
        ("C[C@@H](O)F |r|", "CC(O)F"),
        ("C[C@@H](O)F |(0,0,;1,1,;2,1,;0,2,),r|", "CC(O)F"),
        ("C[C@H](O)F |w:1.0|", "CC(O)F"),  # a wavy bond
        ("C[C@H](O)F |a:1|", "C[C@H](O)F"),
        ("C[C@H](O)F |$;r;;$|", "C[C@H](O)F"),
        ("C[C@H](O)F r,s |r|", "C[C@H](O)F"),  # a name
        ("C[C@H](O)[C@H](F)Cl |&1:3|", "C[C@H](O)C(F)Cl"),
    ],
)
def test_identity_is_the_substance_and_not_the_way_of_writing(text: str, canonical: str) -> None:
    assert canonical_smiles(text) == canonical_smiles(canonical) == Chem.CanonSmiles(canonical)
    assert canonical_smiles(Chem.CanonSmiles(canonical)) == canonical_smiles(text)


def test_a_racemate_of_a_molfile_leaves_its_centre_open_too() -> None:
    for text, canonical in {"C[C@H](O)F |&1:1|": "CC(O)F", "C[C@H](O)F": "C[C@H](O)F"}.items():
        block = Chem.MolToV3KMolBlock(Chem.MolFromSmiles(text))
        assert spelling(parse_block(block)) == canonical
    assert spelling(parse_block(Chem.MolToMolBlock(Chem.MolFromSmiles("C[C@H](O)F")))) == "C[C@H](O)F"


# Size


def necklace(count: int) -> str:
    """A ring of `count` cyclobutanes: 2^count rings of one size."""
    return "C2%11CC(C2)" + "C2CC(C2)" * (count - 2) + "C2CC%11C2"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("C" * 20_000, r"20,000 characters, more than 4,000"),
        ("C" * (MAX_ATOMS + 1), r"501 heavy atoms, more than 500"),
        ("C(" * 1300 + "C" + ")" * 1300, "1,301 heavy atoms"),
        ("C." * 600 + "C", "601 heavy atoms"),
        ("C1" + "C" * 600 + "C1", "602 heavy atoms"),
        ("(" * 3000, "RDKit cannot read it"),
        ("[" * 3000, "RDKit cannot read it"),
        ("C(" * 1000, "RDKit cannot read it"),
        (" ", "no SMILES"),
        ("Cé", "not printable ASCII"),
    ],
)
def test_a_text_that_is_too_large_costs_itself_and_says_why(text: str, reason: str) -> None:
    with pytest.raises(MoleculeError, match=reason):
        parse_smiles(text)
    assert canonical_smiles(text) is None


def chain_block(count: int) -> str:
    """A molfile of a chain of carbons."""
    atoms = [f"{0.0:10.4f}{0.0:10.4f}{0.0:10.4f} C   0  0" for _ in range(count)]
    bonds = [f"{index:3}{index + 1:3}  1  0" for index in range(1, count)]
    head = ["", "", "", f"{count:3}{count - 1:3}  0  0  0  0  0  0  0  0999 V2000"]
    return "\n".join([*head, *atoms, *bonds, "M  END", ""])


def test_molfiles_have_the_same_limits() -> None:
    assert spelling(parse_block(chain_block(12))) == "C" * 12
    for count in (501, 999):
        with pytest.raises(MoleculeError, match=f"{count} heavy atoms, more than 500"):
            parse_block(chain_block(count))
    with pytest.raises(MoleculeError, match="a record of 2,000,000 characters"):
        parse_block(" " * 2_000_000)
    with pytest.raises(MoleculeError, match="RDKit cannot read it as a molfile"):
        parse_block("\n\n\nhello\n")
    with pytest.raises(MoleculeError, match="without atoms"):
        parse_block(chain_block(0).replace(" -1", "  0"))


def test_the_largest_molecules_are_still_read() -> None:
    assert canonical_smiles("C" * MAX_ATOMS) == "C" * MAX_ATOMS
    peptide = "N[C@@H](Cc1ccccc1)C(=O)" * 40 + "O"
    assert len(peptide) < MAX_SMILES
    assert canonical_smiles(peptide) is not None
    hydrogens = "[H]" + "C([H])([H])" * 300 + "[H]"
    assert canonical_smiles(hydrogens) == "C" * 300


FULLERENE = (
    "C12=C3C4=C5C6=C1C7=C8C9=C1C%10=C%11C(=C29)C3=C2C3=C4C4=C5C5=C9C6=C7C6=C7C8=C1C1=C8C%10=C%10C%11=C2C2=C3"
    "C3=C4C4=C5C5=C%11C%12=C(C6=C95)C7=C1C1=C%12C5=C%11C4=C3C3=C5C(=C81)C%10=C23"
)


def test_rings_that_are_many_are_read_and_those_that_stall_rdkit_are_not() -> None:
    assert canonical_smiles(FULLERENE) is not None
    assert parse_smiles(necklace(9)).GetNumAtoms() == 36
    for _ in range(2):  # the second time without another trial
        with pytest.raises(MoleculeError, match="a ring system at which RDKit"):
            parse_smiles(necklace(20))
    assert canonical_smiles(FULLERENE.replace("=", "")) is not None  # the trials go on


def test_a_drawing_has_a_limit_of_its_own() -> None:
    assert not_drawn(parse_smiles("C" * 200)) is None
    assert not_drawn(parse_smiles(FULLERENE)) is None
    assert not_drawn(parse_smiles("C" * 201)) == "not drawn: more than 200 atoms"
    assert not_drawn(parse_smiles(necklace(12))) == "not drawn: RDKit takes too long over its rings"


def test_a_molecule_that_would_end_the_process_ends_no_process() -> None:
    """In a process of its own: RDKit would crash with a signal."""
    code = (
        "from allmodes.chem.molecules import canonical_smiles\n"
        "print(canonical_smiles('C' * 20_000), canonical_smiles('C' * 100_000), canonical_smiles('OCC'))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "None None CCO\n")


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
