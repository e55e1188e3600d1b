"""States at pH 7.4 against published pKa, by kinds of groups, whatever state and spelling is given."""

import csv
from pathlib import Path

import pytest
from rdkit import Chem

from allmodes.chem.docking.protonation import protonated

TABLE = Path(__file__).parents[2] / "data" / "protonation.csv"
ROWS = list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))
# Known to be wrong, and named in the guide: its carboxylate stabilises the ammonium beside it.
WRONG = {"cetirizine"}


def state(smiles: str) -> str:
    return Chem.MolToSmiles(protonated(Chem.MolFromSmiles(smiles)))


def test_known_compounds_are_in_their_published_state() -> None:
    assert len(ROWS) > 180
    wrong = {
        row["name"]: state(row["smiles"])
        for row in ROWS
        if state(row["smiles"]) != Chem.CanonSmiles(row["state"])
    }
    assert set(wrong) == WRONG, wrong


def test_the_state_that_is_given_and_its_spelling_do_not_matter() -> None:
    for row in ROWS:
        expected = state(row["smiles"])
        assert state(row["state"]) == expected, row["name"]
        for seed in (1, 2):
            molecule = Chem.MolFromSmiles(row["smiles"])
            (spelling,) = Chem.MolToRandomSmilesVect(molecule, 1, randomSeed=seed)
            assert state(Chem.CanonSmiles(spelling)) == expected, row["name"]


@pytest.mark.parametrize(
    ("kind", "smiles"),
    [
        ("phenols", "Oc1ccc({})cc1"),
        ("phenols", "Oc1cccc({})c1"),
        ("phenols", "Oc1cccc2cc({})ccc12"),
        ("enaminones", "CC(=O)C=C(N){}"),
        ("enaminones", "CC(=O)/C=C/N(C){}"),
        ("enaminones", "O=C1C=C(N{})CCC1"),
        ("anilines", "CNc1ccc({})cc1"),
        ("amides and ureas", "CNC(=O)N{}"),
        ("sulfonamides", "CS(=O)(=O)NC{}"),
    ],
)
def test_weak_acids_and_weak_bases_stay_neutral(kind: str, smiles: str) -> None:
    for substituent in ("C", "CC(C)C", "COC", "CCl"):
        written = Chem.CanonSmiles(smiles.format(substituent))
        assert state(written) == written, kind


@pytest.mark.parametrize("acceptors", [("N(=O)=O", None), ("N(=O)=O", "Cl"), ("C=O", "Cl"), ("C#N", "Br")])
def test_phenols_with_strong_acceptors_are_phenolates(acceptors: tuple[str, str | None]) -> None:
    para, ortho = acceptors
    smiles = f"Oc1ccc({para})cc1{ortho or ''}".replace("N(=O)=O", "[N+](=O)[O-]")
    assert "[O-]c1" in state(smiles) or "([O-])" in state(smiles)
    assert Chem.GetFormalCharge(Chem.MolFromSmiles(state(smiles))) == -1


@pytest.mark.parametrize(
    ("smiles", "charge"),
    [
        ("O=[N+]([O-])c1ccc(O)c(O)c1", -1),
        ("OC1=C(O)C(=O)OC1CO", -1),
        ("O=c1[nH]c(=O)c2[nH]c(=O)[nH]c2[nH]1", -1),
        ("OC(=O)CCC(=O)O", -2),
        ("OC(=O)c1ccccc1O", -1),
        ("OP(=O)(O)OC", -2),
        ("OP(=O)(O)C", -1),
        ("OP(=O)(O)OP(=O)(O)OC", -3),
        ("CN1CCN(C)CC1", 1),  # 1,4 in a ring
        ("CNCCNC", 1),  # 1,2 in a chain
        ("NCCCN", 2),
        ("C1CN2CCN1CC2", 1),
        ("CC(=O)N1CCNCC1", 1),
        ("CS(=O)(=O)N1CCN(C)CC1", 0),
        ("c1ccc(N2CCNCC2)cc1", 1),
        ("N=C(N)NC(=N)N", 1),
        ("N=C(N)c1ccc(C(=N)N)cc1", 2),
        ("NCCNCCN", 2),
        ("NCc1cccc(CN2CCc3ncn(Cc4ccc(Cl)cc4)c(=O)c3C2)c1", 2),  # of PDB 7UVU: as a dication it redocks
    ],
)
def test_a_charge_makes_the_acids_and_bases_beside_it_weaker(smiles: str, charge: int) -> None:
    assert Chem.GetFormalCharge(Chem.MolFromSmiles(state(smiles))) == charge


@pytest.mark.parametrize(
    "smiles",
    ["C[N+](C)(C)C", "C[N+](C)(C)[O-]", "C[n+]1ccccc1", "C=[N+](C)[O-]", "CN=[N+]=[N-]", "C[N+]#[C-]"],
)
def test_charges_without_a_proton_stay(smiles: str) -> None:
    assert state(smiles) == Chem.CanonSmiles(smiles)


def test_a_huge_molecule_is_no_obstacle() -> None:
    chain = "C" * 1000
    assert state(f"N{chain}C(=O)O") == Chem.CanonSmiles(f"[NH3+]{chain}C(=O)[O-]")


def test_stereochemistry_and_isotopes_stay() -> None:
    assert state("C[C@H](N)C(=O)O") == Chem.CanonSmiles("C[C@H]([NH3+])C(=O)[O-]")
    assert state("OC(=O)/C=C\\[13CH2]N") == Chem.CanonSmiles("[O-]C(=O)/C=C\\[13CH2][NH3+]")
