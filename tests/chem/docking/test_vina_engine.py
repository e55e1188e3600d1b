import importlib.util
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem
from vina import Vina

from allmodes.chem.docking.ligand import prepare_ligand
from allmodes.chem.docking.scorer import make_docking_scorer
from allmodes.chem.oracles.components import DockingComponent
from allmodes.chem.oracles.results import UnscorableError
from allmodes.errors import ConfigError

DATA = Path(__file__).parents[4] / "shared" / "data"
CENTER = (10.0, -5.0, 30.0)
ALCOHOL = "C[C@H](O)c1ccncc1"


def molecules(sdf: str) -> list[Chem.Mol]:
    supplier = Chem.SDMolSupplier()
    supplier.SetData(sdf, removeHs=False)
    found = list(supplier)
    assert all(molecule is not None for molecule in found)
    return found


def test_a_score_depends_on_the_molecule_alone(component: dict[str, Any]) -> None:
    used = make_docking_scorer(component)
    fresh = make_docking_scorer(component)
    first = [used(smiles).value for smiles in (ALCOHOL, "CCN", "c1ccccc1O", ALCOHOL, "NCC")]
    assert first[0] == first[3]
    assert first[1] == first[4]
    assert fresh("CCN").value == first[1]
    assert fresh(ALCOHOL).value == first[0]
    assert len(set(first)) == 3
    assert all(value < 0 for value in first)


def test_the_seed_and_the_exhaustiveness_reach_vina(component: dict[str, Any]) -> None:
    smiles = "OCCCCO"
    plain = make_docking_scorer({**component, "poses": 1})(smiles).details["poses"]
    assert make_docking_scorer({**component, "poses": 1})(smiles).details["poses"] == plain
    assert make_docking_scorer({**component, "poses": 1, "seed": 2})(smiles).details["poses"] != plain
    # Every run of the search starts from the same seeds, so that more runs find the same or better.
    values = [make_docking_scorer({**component, "exhaustiveness": n})(smiles).value for n in (1, 3)]
    assert values[1] < values[0]


def test_poses_come_best_first_on_the_molecule_that_was_asked_for(component: dict[str, Any]) -> None:
    scored = make_docking_scorer({**component, "poses": 3})(ALCOHOL)
    assert scored.value == make_docking_scorer(component)(ALCOHOL).value
    poses = molecules(scored.details["poses"])
    assert 1 <= len(poses) <= 3
    values = [float(pose.GetProp("docking_score")) for pose in poses]
    assert values == sorted(values)
    assert values[0] == pytest.approx(scored.value, abs=5e-4)
    assert [pose.GetProp("rank") for pose in poses] == [str(rank + 1) for rank in range(len(poses))]
    for pose in poses:
        assert set(pose.GetPropNames()) == {"smiles", "docked_as", "rank", "docking_score"}
        Chem.AssignStereochemistryFrom3D(pose)
        assert Chem.MolToSmiles(Chem.RemoveHs(pose)) == Chem.CanonSmiles(ALCOHOL)
        assert pose.GetNumAtoms() == Chem.AddHs(Chem.MolFromSmiles(ALCOHOL)).GetNumAtoms()
        for place, middle in zip(pose.GetConformer().GetPositions().mean(0), CENTER, strict=True):
            assert abs(place - middle) < 6


def test_keeping_poses_does_not_change_the_score(component: dict[str, Any]) -> None:
    """It would if Vina were told how many are wanted: −3.178 for 1, −3.199 for 20."""
    values = {make_docking_scorer({**component, "poses": poses})("CCCOc1ccncc1").value for poses in (0, 20)}
    assert len(values) == 1


def test_the_best_pose_has_its_score(pocket: Path, component: dict[str, Any]) -> None:
    """Another route to the number: the pose from the SDF, scored by Vina where it lies."""
    import meeko

    scored = make_docking_scorer({**component, "poses": 1})("CCCc1ccccc1O")
    (pose,) = molecules(scored.details["poses"])
    setup = meeko.MoleculePreparation(rigid_macrocycles=True).prepare(pose)[0]
    engine = Vina(cpu=1, seed=1, verbosity=0)
    engine.set_receptor(str(pocket))
    engine.compute_vina_maps(list(CENTER), [12.0] * 3)
    engine.set_ligand_from_string(meeko.PDBQTWriterLegacy.write_string(setup)[0])
    assert engine.score()[0] == pytest.approx(scored.value, abs=0.02)


def test_protonation_is_what_the_component_says(component: dict[str, Any]) -> None:
    acid = "CC(C)C(=O)O"
    for protonation, expected in (("ph7.4", "CC(C)C(=O)[O-]"), ("as_written", acid)):
        scored = make_docking_scorer({**component, "protonation": protonation, "poses": 1})(acid)
        (pose,) = molecules(scored.details["poses"])
        assert Chem.MolToSmiles(Chem.RemoveHs(pose)) == expected
        assert pose.GetProp("docked_as") == expected
        assert pose.GetProp("smiles") == acid


def test_details_hold_torsions_and_poses_only_when_asked(component: dict[str, Any]) -> None:
    assert make_docking_scorer(component)("CCCCC").details == {"torsions": 2}


def test_what_the_ligand_fails_on_passes_through(component: dict[str, Any]) -> None:
    score = make_docking_scorer({**component, "max_torsions": 1})
    with pytest.raises(UnscorableError) as caught:
        score("CCCCCC")
    assert caught.value.kind == "unsuitable"
    assert score("CCO").value < 0  # and the next one is docked


def test_a_ligand_larger_than_the_box_is_a_failure(component: dict[str, Any]) -> None:
    """A rigid rod of 12 Å in a cube of 4 Å, whose diagonal is 7 Å: Vina itself says +10⁷ kcal/mol."""
    score = make_docking_scorer({**component, "box": {**component["box"], "size": 4.0}})
    with pytest.raises(
        UnscorableError, match=r"does not fit into the box; it juts out by \d+\.\d Å"
    ) as caught:
        score("N#Cc1ccc(cc1)-c1ccc(cc1)C#N")
    assert caught.value.kind == "unsuitable"
    assert score("CCO").value < 0


def test_a_bad_configuration_stops_before_the_maps(
    component: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"^component 'docking': `receptor`: expected a file"):
        make_docking_scorer({**component, "receptor": "nowhere.pdbqt"})
    with pytest.raises(ConfigError, match=r"^component 'docking': `seed`: expected a number below 2³¹"):
        make_docking_scorer({**component, "seed": 2**31})
    make_docking_scorer({**component, "seed": 2**31 - 1})
    box = {**component["box"], "center": [500.0, 0.0, 0.0]}
    with pytest.raises(ConfigError, match=r"^component 'docking': `receptor`: .*expected atoms within 8 Å"):
        make_docking_scorer({**component, "box": box})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vina" else object())
    with pytest.raises(ConfigError, match=r"pip install .*\[docking\].*`; vina is not installed"):
        make_docking_scorer(component)


def test_nothing_is_printed(component: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    make_docking_scorer({**component, "poses": 2})("CCO")
    for smiles in ("C1=CC2CCC1=C2", "c1ccccc", "[C-]#[O+]", "OB(O)C"):
        with pytest.raises(UnscorableError):
            prepare_ligand(smiles, protonation="ph7.4", max_torsions=5)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.skipif(not DATA.is_dir(), reason="the structure is not part of the project")
def test_celecoxib_docks_into_clpp_as_others_report() -> None:
    """−8.2 kcal/mol, with Vina 1.2.7; 2 s."""
    component = DockingComponent(
        kind="docking",
        receptor=DATA / "clpp_7uvu_receptor.pdbqt",
        box={"reference_ligand": DATA / "clpp_7uvu_reference_ligand.pdb"},
        exhaustiveness=1,
    )
    scored = make_docking_scorer(component.model_dump(mode="json"))(
        "CC1=CC=C(C=C1)C1=CC(=NN1C1=CC=C(C=C1)S(N)(=O)=O)C(F)(F)F"
    )
    assert scored.value == pytest.approx(-8.2, abs=0.15)
