"""Hits and scores as CSV and SDF: what is written is what was found, and other programs can read it."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.ledger import LedgerRow
from allmodes.chem.design.results import RunResult
from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.results import Evaluation
from allmodes.chem.reporting.export import evaluation_columns, write_csv, write_hits, write_sdf
from allmodes.errors import RunError
from allmodes.runs.config import build_config
from molecule_settings import molecule_config
from run_files import read_csv

QED = {"kind": "qed", "name": "QED"}
DOCKING = {
    "kind": "docking", "name": "dock", "receptor": "r.pdbqt", "box": {"center": [0, 0, 0]}, "poses": 2,
    "shaping": {"kind": "reverse_sigmoid", "low": -16, "high": 0, "k": 0.15},
}  # fmt: skip
SYNTHESIS = {"kind": "retrosynthesis", "name": "synthesis"}


def oracle(*components: dict[str, Any]) -> OracleConfig:
    return build_config(OracleConfig, {"components": components}, source="test")


def poses_of(smiles: str, scores: list[float]) -> str:
    """SDF of one conformer for each score, with hydrogens."""
    text = io.StringIO()
    with Chem.SDWriter(text) as writer:
        for seed, score in enumerate(scores, start=1):
            molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
            rdDistGeom.EmbedMolecule(molecule, randomSeed=seed)
            molecule.SetProp("docking_score", f"{score:.3f}")
            molecule.SetProp("rank", str(seed))
            writer.write(molecule)
    return text.getvalue()


def evaluation(smiles: str, reward: float | None, **changes: Any) -> Evaluation:
    values: dict[str, Any] = {
        "raw": {},
        "shaped": {},
        "failure": None if reward is not None else "QED: died: x",
    }
    return Evaluation(smiles=smiles, reward=reward, **{**values, **changes})


def route(*, solved: bool, steps: int, classes: list[str]) -> dict[str, Any]:
    return {"solved": solved, "steps": steps, "classes": classes, "route": None}


def read_sdf(path: Path) -> list[Chem.Mol]:
    molecules = list(Chem.SDMolSupplier(str(path), removeHs=False))
    assert all(molecule is not None for molecule in molecules)
    return molecules


def test_columns_hold_every_number_in_full() -> None:
    config = oracle(DOCKING, QED, SYNTHESIS)
    raw, shaped = (
        {"dock": -8.1 / 3, "QED": 1 / 3, "synthesis": 1.0},
        {"dock": 0.1, "QED": 1 / 3, "synthesis": 1.0},
    )
    details = {"synthesis": route(solved=True, steps=2, classes=["SNAr", "amide coupling"])}
    columns = evaluation_columns(config, evaluation("CCO", 2 / 7, raw=raw, shaped=shaped, details=details))
    assert list(columns) == [
        "smiles", "reward", "dock raw", "dock score", "QED raw", "QED score", "synthesis raw",
        "synthesis score", "failure", "steps", "classes",
    ]  # fmt: skip
    assert columns["smiles"] == "CCO"
    assert float(columns["reward"]) == 2 / 7
    assert float(columns["dock raw"]) == -8.1 / 3
    assert float(columns["dock score"]) == 0.1
    assert float(columns["QED score"]) == 1 / 3
    assert (columns["failure"], columns["steps"], columns["classes"]) == ("", "2", "SNAr; amide coupling")


def test_a_failure_has_no_numbers_and_an_unsolved_route_no_steps() -> None:
    config = oracle(QED, SYNTHESIS)
    details = {"synthesis": route(solved=False, steps=0, classes=[])}
    columns = evaluation_columns(config, evaluation("CCO", None, raw={"synthesis": 0.0}, details=details))
    assert columns["failure"] == "QED: died: x"
    assert [columns[name] for name in ("reward", "QED raw", "QED score", "steps", "classes")] == [""] * 5
    bought = {"synthesis": route(solved=True, steps=0, classes=[])}
    assert evaluation_columns(config, evaluation("CCO", 1.0, details=bought))["steps"] == "0"


def test_two_searches_have_columns_of_their_own() -> None:
    config = oracle(SYNTHESIS, {**SYNTHESIS, "name": "amide", "reactions": ["amide coupling"]})
    details = {
        "synthesis": route(solved=True, steps=3, classes=["SNAr"]),
        "amide": route(solved=True, steps=1, classes=["amide coupling"]),
    }
    columns = evaluation_columns(config, evaluation("CCO", 1.0, details=details))
    assert (columns["synthesis steps"], columns["amide steps"]) == ("3", "1")
    assert (columns["synthesis classes"], columns["amide classes"]) == ("SNAr", "amide coupling")
    assert "steps" not in columns


def test_csv_survives_commas_quotes_and_lines(tmp_path: Path) -> None:
    name = 'one, "two"\nthree'
    write_csv(tmp_path / "a.csv", ["name", "reward"], [{"name": name}, {"name": "ü", "reward": "1"}])
    assert read_csv(tmp_path / "a.csv") == [{"name": name, "reward": ""}, {"name": "ü", "reward": "1"}]
    with pytest.raises(RunError, match=r"a\.csv"):
        write_csv(tmp_path / "a.csv" / "b.csv", ["name"], [])


def test_without_poses_every_molecule_is_drawn(tmp_path: Path) -> None:
    smiles = ["C[C@H](N)C(=O)O", "c1ccccc1", "CCO"]
    rows = [(f"name {line}", evaluation(line, None), {"reward": "", "failure": "x: y: z"}) for line in smiles]
    write_sdf(tmp_path / "a.sdf", oracle(QED, {**DOCKING, "poses": 0}), rows)
    molecules = read_sdf(tmp_path / "a.sdf")
    assert [Chem.MolToSmiles(molecule) for molecule in molecules] == smiles
    assert [molecule.GetProp("_Name") for molecule in molecules] == [f"name {line}" for line in smiles]
    assert [molecule.GetPropsAsDict() for molecule in molecules] == [{"failure": "x: y: z"}] * 3
    assert not any(molecule.GetConformer().Is3D() for molecule in molecules)


def test_with_poses_all_of_them_are_written_where_the_engine_put_them(tmp_path: Path) -> None:
    text = poses_of("CC(N)=O", [-6.5, -5.25])
    docked = evaluation("CC(N)=O", 0.5, details={"dock": {"poses": text, "torsions": 0}})
    rows = [
        ("failed", evaluation("CCO", None), {"reward": ""}),
        ("acetamide", docked, {"reward": "0.5"}),
    ]
    write_sdf(tmp_path / "a.sdf", oracle(DOCKING), rows)
    molecules = read_sdf(tmp_path / "a.sdf")
    supplier = Chem.SDMolSupplier()
    supplier.SetData(text, removeHs=False)
    assert len(molecules) == 2  # the failure has no pose, and a drawing among poses would lie
    for molecule, expected in zip(molecules, supplier, strict=True):
        moved = molecule.GetConformer().GetPositions() - expected.GetConformer().GetPositions()
        assert abs(moved).max() < 1e-3
        assert molecule.GetNumAtoms() == 9
        assert molecule.GetProp("_Name") == "acetamide"
        assert molecule.GetProp("docking_score") == expected.GetProp("docking_score")
        assert molecule.GetProp("reward") == "0.5"
    assert [molecule.GetProp("rank") for molecule in molecules] == ["1", "2"]
    assert not molecules[0].HasProp("component")


def test_poses_of_two_dockings_say_whose_they_are(tmp_path: Path) -> None:
    details = {
        "dock": {"poses": poses_of("CCO", [-3.0])},
        "other": {"poses": poses_of("CCO", [-4.0])},
    }
    config = oracle({**DOCKING, "name": "other"}, DOCKING)
    write_sdf(tmp_path / "a.sdf", config, [("x", evaluation("CCO", 1.0, details=details), {})])
    found = [(m.GetProp("component"), m.GetProp("docking_score")) for m in read_sdf(tmp_path / "a.sdf")]
    assert found == [("other", "-4.000"), ("dock", "-3.000")]


def test_no_text_breaks_a_record(tmp_path: Path) -> None:
    hostile = "a\n$$$$\n> <reward>\n9\n\nb"
    rows = [
        (hostile, evaluation("CCO", 1.0), {"<x>\n": hostile, "failure": hostile, "reward": "1.0"}),
        ("$$$$", evaluation("CCN", 1.0), {"reward": "2.0"}),
    ]
    write_sdf(tmp_path / "a.sdf", oracle(QED), rows)
    molecules = read_sdf(tmp_path / "a.sdf")
    assert [Chem.MolToSmiles(molecule) for molecule in molecules] == ["CCO", "CCN"]
    assert [molecule.GetProp("reward") for molecule in molecules] == ["1.0", "2.0"]
    assert set(molecules[0].GetPropNames()) == {"(x)", "failure", "reward"}


# The hits of a run

SMILES = ("CC(=O)Nc1ccc(O)cc1", "CC(=O)Nc1ccc(OC)cc1", "O=C(O)c1ccccc1", "C1CCNCC1")


def settings(*components: dict[str, Any]) -> MoleculesConfig:
    return molecule_config(
        algorithm=["mara", "grpo"], seeds=[0, 1], budget=4, oracle={"components": components}
    )


def ledger(rewards: list[float | None]) -> list[LedgerRow]:
    return [
        LedgerRow(
            call=call,
            step=1,
            evaluation=evaluation(
                smiles,
                reward,
                raw={"QED": reward or 0.0},
                shaped={"QED": reward or 0.0},
                details={"dock": {"poses": poses_of(smiles, [-call, -call / 2])}},
            ),
            penalised_reward=None,
        )
        for call, (smiles, reward) in enumerate(zip(SMILES, rewards, strict=True), start=1)
    ]


def result(algorithm: str, seed: int) -> RunResult:
    return RunResult(
        algorithm=algorithm, seed=seed, stopped_by="budget", steps=1, calls=4, hits=0, ob100=None,
        intdiv1=None, circles=0, failures={}, collapsed_at_step=None,
    )  # fmt: skip


def test_hits_of_all_runs_best_first_with_their_circles(tmp_path: Path) -> None:
    ledgers = {("mara", 1): ledger([0.6, 0.7, 0.49, 0.9]), ("grpo", 0): ledger([None, 0.5, 0.2, 0.3])}
    write_hits(tmp_path, settings(QED, DOCKING), [result("mara", 1), result("grpo", 0)], ledgers)
    rows = read_csv(tmp_path / "hits.csv")
    assert list(rows[0])[:5] == ["algorithm", "seed", "call", "smiles", "reward"]
    assert list(rows[0])[-1] == "circle"
    assert "failure" not in rows[0]
    found = [
        (r["algorithm"], r["seed"], r["call"], r["smiles"], float(r["reward"]), r["circle"]) for r in rows
    ]
    assert found == [
        ("mara", "1", "4", SMILES[3], 0.9, "1"),
        ("mara", "1", "2", SMILES[1], 0.7, "2"),
        ("mara", "1", "1", SMILES[0], 0.6, ""),  # too near to the one before
        ("grpo", "0", "2", SMILES[1], 0.5, "1"),
    ]
    molecules = read_sdf(tmp_path / "hits.sdf")
    assert len(molecules) == 8
    best = molecules[0]
    assert best.GetProp("_Name") == "mara seed 1 call 4"
    assert {name: best.GetProp(name) for name in rows[0] if rows[0][name]} == {
        name: value for name, value in rows[0].items() if value
    }
    assert math.isclose(float(best.GetProp("docking_score")), -4)


def test_a_run_without_hits_has_empty_files(tmp_path: Path) -> None:
    write_hits(tmp_path, settings(QED), [result("mara", 0)], {("mara", 0): ledger([0.1, None, 0.2, 0.3])})
    assert (tmp_path / "hits.csv").read_text().splitlines() == [
        "algorithm,seed,call,smiles,reward,QED raw,QED score,circle"
    ]
    assert (tmp_path / "hits.sdf").read_text() == ""


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('=HYPERLINK("http://a.b")', '\'=HYPERLINK("http://a.b")'),
        ("@SUM(1)", "'@SUM(1)"),
        ("+1 more", "'+1 more"),
        ("-8.25", "-8.25"),
        ("+1e3", "+1e3"),
        ("C=O", "C=O"),
        ("", ""),
    ],
)
def test_no_cell_is_run_as_a_formula(text: str, written: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["name"], [{"name": text}])
    with open(tmp_path / "a.csv", newline="") as handle:
        assert next(csv.DictReader(handle))["name"] == written


def test_no_head_is_run_as_a_formula(tmp_path: Path) -> None:
    heads = ["smiles", '=HYPERLINK("x") raw', "@sum score", "-0.5"]
    write_csv(tmp_path / "a.csv", heads, [dict.fromkeys(heads, "C")])
    with open(tmp_path / "a.csv", newline="") as handle:
        assert list(csv.reader(handle)) == [
            ["smiles", '\'=HYPERLINK("x") raw', "'@sum score", "-0.5"],
            ["C", "C", "C", "C"],
        ]
