import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from allmodes.chem.docking import ligand
from allmodes.chem.docking.ligand import Ligand, Protonation, prepare_ligand
from allmodes.chem.oracles.results import UnscorableError

CELECOXIB = "CC1=CC=C(C=C1)C1=CC(=NN1C1=CC=C(C=C1)S(N)(=O)=O)C(F)(F)F"


def prepare(smiles: str, protonation: Protonation = "ph7.4", max_torsions: int = 15) -> Ligand:
    return prepare_ligand(smiles, protonation=protonation, max_torsions=max_torsions)


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CC(=O)O", "CC(=O)[O-]"),  # pKa 4.8
        ("CCN", "CC[NH3+]"),  # 10.7
        ("c1ccncc1", "c1ccncc1"),  # 5.2
        ("Oc1ccccc1", "Oc1ccccc1"),  # 10.0
        ("CC(=O)Nc1ccccc1", "CC(=O)Nc1ccccc1"),
        ("NCC(=O)O", "[NH3+]CC(=O)[O-]"),
        ("CC(=O)[O-]", "CC(=O)[O-]"),
    ],
)
def test_sites_take_their_likelier_state_at_ph_7(smiles: str, expected: str) -> None:
    assert prepare(smiles).docked_as == Chem.CanonSmiles(expected)
    assert prepare(smiles, "as_written").docked_as == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize("protonation", ["ph7.4", "as_written"])
def test_every_spelling_gives_the_same_ligand_whatever_came_before(protonation: Protonation) -> None:
    first = prepare(CELECOXIB, protonation)
    prepare("CCO", protonation)
    molecule = Chem.MolFromSmiles(CELECOXIB)
    for seed in (1, 2):
        (spelling,) = Chem.MolToRandomSmilesVect(molecule, 1, randomSeed=seed)
        assert spelling != CELECOXIB
        assert prepare(spelling, protonation).pdbqt == first.pdbqt


def test_the_pdbqt_holds_the_molecule_and_its_torsions() -> None:
    """Ethyl benzoate: 11 heavy atoms, no polar hydrogen, three bonds that turn something."""
    ligand = prepare("CCOC(=O)c1ccccc1")
    atoms = [line for line in ligand.pdbqt.splitlines() if line.startswith("ATOM")]
    assert sorted(line[77:79].strip() for line in atoms) == sorted(["A"] * 6 + ["C"] * 3 + ["OA"] * 2)
    # aryl-C(=O), C(=O)-O and O-CH2; the methyl's turn moves nothing but hydrogens.
    assert ligand.torsions == 3 == ligand.pdbqt.count("\nENDBRANCH")
    assert ligand.molecule.GetNumAtoms() == 11 + 10


def test_the_structure_lies_at_a_minimum_of_uff() -> None:
    molecule = Chem.Mol(prepare("CC(C)Cc1ccc(C(C)C)cc1").molecule)
    before = rdForceFieldHelpers.UFFGetMoleculeForceField(molecule).CalcEnergy()
    rdForceFieldHelpers.UFFOptimizeMolecule(molecule, maxIters=2000)
    after = rdForceFieldHelpers.UFFGetMoleculeForceField(molecule).CalcEnergy()
    assert before - after < 0.1  # kcal/mol; some 10 as embedded


def test_bonds_have_the_lengths_of_a_relaxed_structure() -> None:
    molecule = prepare("c1ccccc1C#N").molecule
    places = molecule.GetConformer().GetPositions()
    length = {
        bond.GetBondType(): float(
            np.linalg.norm(places[bond.GetBeginAtomIdx()] - places[bond.GetEndAtomIdx()])
        )
        for bond in molecule.GetBonds()
    }
    assert length[Chem.BondType.AROMATIC] == pytest.approx(1.39, abs=0.02)
    assert length[Chem.BondType.TRIPLE] == pytest.approx(1.16, abs=0.02)


def test_stereo_that_is_written_is_kept() -> None:
    for smiles in ("C[C@H](O)c1ccccc1", "C[C@@H](O)c1ccccc1", "C/C=C/c1ccccc1", "C/C=C\\c1ccccc1"):
        molecule = Chem.Mol(prepare(smiles).molecule)
        Chem.AssignStereochemistryFrom3D(molecule)
        assert Chem.MolToSmiles(Chem.RemoveHs(molecule)) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize(
    ("smiles", "kind", "words"),
    [
        ("CC(=O)[O-].[Na+]", "unsuitable", "expected one fragment; got 2"),
        ("OB(O)c1ccccc1", "unsuitable", "no Vina atom type for B"),
        ("*CC", "unsuitable", r"no Vina atom type for \*"),
        ("[H][H]", "unsuitable", "expected a heavy atom"),
        ("[CH2]C", "unsuitable", "expected no radical"),
        ("CCCCCCCCCCCCCCCCCCCCC", "unsuitable", "at most 15 rotatable bonds; got 18"),
        ("c1ccccc", "unsuitable", "RDKit cannot read"),
        ("[C-]#[O+]", "unsuitable", "meeko cannot type"),
        ("C1=CC2CCC1=C2", "not_embedded", "no conformer in 30 attempts"),
        ("CS(F)(F)(F)(F)F", "not_embedded", "UFF has no parameters"),
    ],
)
def test_what_cannot_be_docked_is_a_typed_failure(smiles: str, kind: str, words: str) -> None:
    with pytest.raises(UnscorableError, match=words) as caught:
        prepare(smiles)
    assert caught.value.kind == kind


def test_the_cap_on_torsions_is_inclusive() -> None:
    torsions = prepare("CCCCCC").torsions
    assert torsions == 3
    assert prepare("CCCCCC", max_torsions=3).torsions == 3
    with pytest.raises(UnscorableError, match="at most 2 rotatable bonds; got 3"):
        prepare("CCCCCC", max_torsions=2)


@pytest.mark.parametrize(
    ("smiles", "words"),
    [
        ("CCCCCCCCCCCCCCCCCCCCC", "at most 15 rotatable bonds; got 18"),
        ("C" * 600, "at most 15 rotatable bonds; got 597|too large"),
    ],
)
def test_a_ligand_that_is_too_flexible_is_not_embedded(
    smiles: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(*_: object) -> None:
        raise AssertionError("it was embedded")

    monkeypatch.setattr(ligand, "_embed", embed)
    with pytest.raises(UnscorableError, match=words) as caught:
        prepare(smiles, "as_written")
    assert caught.value.kind == "unsuitable"


def test_macrocycles_stay_closed() -> None:
    ligand = prepare("C1CCCCCCCCCCCCCCC1")
    assert ligand.torsions == 0
    assert all(line[77:79].strip() == "C" for line in ligand.pdbqt.splitlines() if line.startswith("ATOM"))
