"""Retrosynthesis as a component of the reward."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allmodes.chem.oracles.components import RetrosynthesisComponent
from allmodes.chem.oracles.results import UnscorableError
from allmodes.chem.retrosynthesis.scorer import make_retrosynthesis_scorer
from allmodes.errors import ConfigError

Write = Callable[[str], Path]


def component(**values: Any) -> dict[str, Any]:
    config = RetrosynthesisComponent.model_validate({"kind": "retrosynthesis", "name": "route", **values})
    return config.model_dump(mode="json")


def error_of(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make_retrosynthesis_scorer(component(**values))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def small(tmp_path: Path, write_templates: Write, amide: str, ether: str) -> dict[str, Any]:
    """Two templates, five molecules in stock."""
    (tmp_path / "stock.smi").write_text("CC(=O)O\nCN\nNCc1ccc(O)cc1\nCCBr\nN[C@@H](C)C(=O)O\n")
    return {"templates": str(write_templates(amide + ether)), "stock": str(tmp_path / "stock.smi")}


def test_a_route_is_worth_one_and_shown(small: dict[str, Any]) -> None:
    score = make_retrosynthesis_scorer(component(**small))
    found = score("CCOc1ccc(CNC(C)=O)cc1")
    assert found.value == 1.0
    assert (found.details["solved"], found.details["steps"]) == (True, 2)
    assert found.details["classes"] == ["amide coupling", "ether formation"]
    assert found.details["route"]["smiles"] == "CCOc1ccc(CNC(C)=O)cc1"
    assert json.loads(json.dumps(found.details)) == found.details
    assert set(found.details) == {"solved", "steps", "classes", "route"}


def test_no_route_is_worth_nothing_and_no_failure(small: dict[str, Any]) -> None:
    score = make_retrosynthesis_scorer(component(**small))
    found = score("CCNC(C)=O")
    assert found.value == 0.0
    assert found.details == {"solved": False, "steps": 0, "classes": [], "route": None}


def test_what_can_be_bought_counts_as_synthesizable(small: dict[str, Any]) -> None:
    for smiles in ("CN", "C[NH3+]", "C[C@H](N)C(=O)O", "C[C@H]([NH3+])C(=O)[O-]"):
        found = make_retrosynthesis_scorer(component(**small))(smiles)
        assert found.value == 1.0
        assert (found.details["steps"], found.details["classes"]) == (0, [])
        assert found.details["route"]["purchasable"] is True


def test_allowed_reactions_hold_for_every_step(small: dict[str, Any]) -> None:
    """ALL-AMIDE: a molecule whose cheapest route has another step, but which has one of amides alone."""
    amides = make_retrosynthesis_scorer(component(**small, reactions=["amide coupling"]))
    assert amides("CCOc1ccc(CNC(C)=O)cc1").value == 0.0
    assert amides("CC(=O)NCc1ccc(O)cc1").details["classes"] == ["amide coupling"]
    ethers = make_retrosynthesis_scorer(component(**small, reactions=["ether formation"]))
    assert ethers("CC(=O)NCc1ccc(O)cc1").value == 0.0


def test_the_bounds_of_the_search_are_the_components(small: dict[str, Any]) -> None:
    target = "CCOc1ccc(CNC(C)=O)cc1"
    assert make_retrosynthesis_scorer(component(**small, max_steps=1))(target).value == 0.0
    assert make_retrosynthesis_scorer(component(**small, max_expansions=1))(target).value == 0.0
    assert make_retrosynthesis_scorer(component(**small, max_steps=2, max_expansions=9))(target).value == 1.0


def test_a_molecule_of_several_fragments_or_none_has_no_score(small: dict[str, Any]) -> None:
    score = make_retrosynthesis_scorer(component(**small))
    for smiles, said in (
        ("CN.Cl", "expected one molecule; got 2"),
        ("", "expected a molecule; got '': no SMILES"),
        ("C(", "expected a molecule"),
        ("C" * 20_000, "20,000 characters, more than 4,000"),
    ):
        with pytest.raises(UnscorableError, match=said) as caught:
            score(smiles)
        assert caught.value.kind == "unsuitable"


def test_the_defaults_solve_an_easy_target_by_amides_alone() -> None:
    score = make_retrosynthesis_scorer(component(reactions=["amide coupling"]))
    assert score("O=C(NCc1ccccc1)c1ccc(F)cc1").details["steps"] == 1
    assert score("O=C(Nc1ccc(F)cc1)C1CCN(C(=O)c2ccccc2)CC1").details["steps"] == 2
    assert score("c1ccc(-c2ccncc2)cc1").value == 0.0  # a Suzuki product


def test_what_cannot_work_is_said_at_once(tmp_path: Path, small: dict[str, Any]) -> None:
    said = error_of(**small, reactions=["amide"])
    assert said == (
        "component 'route': `reactions`: expected classes out of amide coupling, ether formation; got 'amide'"
    )
    assert "component 'route': `stock`: cannot read" in error_of(**{**small, "stock": "gone.smi"})
    (tmp_path / "bad.smi").write_text("CC\nC1CC\n")
    assert "bad.smi: line 2: expected a molecule; got 'C1CC'" in error_of(
        **{**small, "stock": tmp_path / "bad.smi"}
    )
    assert "component 'route': `templates`: " in error_of(**{**small, "templates": "gone.toml"})
    assert "`model.name`: expected one of" in error_of(**small, model={"name": "None", "checkpoint": "."})
    assert "`model.checkpoint`" in error_of(**small, model={"name": "MEGAN", "checkpoint": "gone"})


def test_a_trained_models_routes_may_be_unclassified(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from syntheseus.interface.reaction import SingleProductReaction
    from syntheseus.reaction_prediction.inference import ListOfReactionsToyModel

    from allmodes.chem.retrosynthesis import scorer

    lines = ("CC(=O)O.CN>>CNC(C)=O", "CN.CCBr>>CCNC")
    toy = ListOfReactionsToyModel([SingleProductReaction.from_reaction_smiles(line) for line in lines])
    monkeypatch.setattr(scorer, "load_single_step_model", lambda name, checkpoint: toy)
    values = {**small, "model": {"name": "MEGAN", "checkpoint": "."}}
    score = make_retrosynthesis_scorer(component(**values))
    assert score("CNC(C)=O").details["classes"] == ["amide coupling"]
    assert score("CCNC").details["classes"] == ["unclassified"]
    assert score("CCOc1ccc(CNC(C)=O)cc1").value == 0.0  # the templates are not asked
    amides = make_retrosynthesis_scorer(component(**values, reactions=["amide coupling"]))
    assert [amides(smiles).value for smiles in ("CNC(C)=O", "CCNC")] == [1.0, 0.0]
    others = make_retrosynthesis_scorer(component(**values, reactions=["unclassified"]))
    assert [others(smiles).value for smiles in ("CNC(C)=O", "CCNC")] == [0.0, 1.0]
