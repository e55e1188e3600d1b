"""SYNTH and ALL-AMIDE as they are shipped, with a receptor of a few atoms in place of a protein."""

import json
from pathlib import Path
from typing import Any

import pytest

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.design import new_design
from allmodes.chem.design.ledger import read_ledger
from allmodes.chem.oracles.components import DockingComponent, RetrosynthesisComponent
from allmodes.chem.oracles.store import STORED_KINDS, ResultStore, component_key
from allmodes.runs.config import apply_flags, apply_scale, build_config, read_config_file

RECIPES = Path(__file__).parents[3] / "recipes"


def config_of(recipe: str, scale: str | None, *flags: str) -> MoleculesConfig:
    path = RECIPES / recipe
    values = apply_scale(read_config_file(path), scale, MoleculesConfig)
    values = apply_flags(values, flags, MoleculesConfig)
    return build_config(MoleculesConfig, values, source=str(path))


@pytest.mark.parametrize("recipe", ["synth.toml", "all-amide.toml"])
def test_the_papers_settings(recipe: str) -> None:
    """MARA, appendix C.5; IPS, appendix B.2; Saturn for what they leave open."""
    config = config_of(recipe, "paper")
    assert (config.budget, config.batch_size, config.sigma, config.learning_rate) == (10_000, 64, 128.0, 1e-4)
    assert (config.seeds, config.hit_threshold, config.lookahead) == ((0, 1, 2, 3, 4), 0.8, 0)
    assert (config.replay.size, config.replay.sample, config.replay.augmentation_rounds) == (100, 10, 2)
    assert config.scaffold_filter is not None
    assert config.scaffold_filter.bucket_size == 10
    assert str(config.prior) == "mamba"
    docking, qed, donors, synthesis = config.oracle.components
    assert isinstance(docking, DockingComponent)
    assert docking.shaping.model_dump() == {"kind": "reverse_sigmoid", "low": -16.0, "high": 0.0, "k": 0.15}
    assert docking.exhaustiveness == 8
    assert (qed.kind, qed.shaping.kind) == ("qed", "none")
    assert donors.shaping.model_dump() == {"kind": "step", "low": None, "high": 3.0}
    assert isinstance(synthesis, RetrosynthesisComponent)
    assert synthesis.reactions == (("amide coupling",) if recipe == "all-amide.toml" else ())
    assert config.oracle.aggregation == "geometric_mean"
    quick = config_of(recipe, None)
    assert (quick.budget, quick.seeds) == (500, (0,))


@pytest.fixture
def run(pocket: Path, tmp_path: Path) -> Any:
    def make(recipe: str, algorithms: str) -> tuple[MoleculesConfig, Path]:
        reference = tmp_path / "ligand.pdb"
        x, y, z = (10.0, -5.0, 30.0)  # the middle of the pocket
        reference.write_text(
            f"HETATM    1  C1  LIG A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C\nEND\n"
        )
        config = config_of(
            recipe, "quick", "--algorithm", algorithms,
            "--budget", "3", "--batch_size", "2", "--threads", "1",
            "--oracle.components.docking.box.size", "12",
            "--oracle.components.docking.receptor", str(pocket),
            "--oracle.components.docking.box.reference_ligand", str(reference), "--screen", "0.01",
        )  # fmt: skip
        new_design(config, tmp_path / recipe)
        return config, tmp_path / recipe

    return make


@pytest.mark.parametrize(
    ("recipe", "algorithms"), [("synth.toml", '["reinvent", "mara"]'), ("all-amide.toml", '["ips-grpo"]')]
)
def test_a_recipe_runs_to_a_report_with_poses_and_routes(recipe: str, algorithms: str, run: Any) -> None:
    config, out = run(recipe, algorithms)
    names = [arm.name for arm in config.arms]
    ledgers = [read_ledger(out / f"{algorithm}-0/ledger.sqlite") for algorithm in names]
    assert [len(rows) for rows in ledgers] == [3] * len(names)
    scored = [row.evaluation for rows in ledgers for row in rows if row.evaluation.failure is None]
    assert scored
    for evaluation in scored:
        value = 1.0
        for score in evaluation.shaped.values():
            value *= score
        assert evaluation.reward == pytest.approx(value ** (1 / 4))
        assert evaluation.details["docking"]["poses"].count("$$$$") == 1
        found = evaluation.details["synthesis"]
        assert found["solved"] == (evaluation.raw["synthesis"] == 1.0)
        if recipe == "all-amide.toml":
            assert set(found["classes"]) <= {"amide coupling"}
    for name in ("report.html", "hits.csv", "hits.sdf", "results.json"):
        assert (out / name).exists()
    # Both algorithms begin with the same two batches, drawn before any update: the second has all results
    # from the store.
    busy = [
        json.loads((out / f"{algorithm}-0/timing.jsonl").read_text().splitlines()[-2])["busy"]
        for algorithm in names  # the last line is the checksum
    ]
    assert busy[0]["docking"] > 0
    if len(names) == 2:
        asked = [[row.evaluation.smiles for row in rows] for rows in ledgers]
        assert asked[0] == asked[1]
        assert (busy[1]["docking"], busy[1]["synthesis"]) == (0, 0)
    with ResultStore(str(out / "evaluations.sqlite")) as store:
        stored = [c for c in config.oracle.components if c.kind in STORED_KINDS]
        assert [c.name for c in stored] == ["docking", "synthesis"]
        for component in stored:
            key = component_key(component.model_dump(mode="json"))
            for evaluation in scored:
                assert store.get(key, evaluation.smiles).value == evaluation.raw[component.name]  # type: ignore[union-attr]
    assert set(busy[0]) == {"docking", "synthesis", "RDKit"}
