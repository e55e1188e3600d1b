"""Single-step models: ours, and trained ones whose reactions get a class. No real checkpoint is tried."""

import enum
import math
from pathlib import Path
from typing import Any

import pytest
from syntheseus.interface.bag import Bag
from syntheseus.interface.models import BackwardReactionModel
from syntheseus.interface.molecule import Molecule
from syntheseus.interface.reaction import SingleProductReaction
from syntheseus.reaction_prediction.inference import ListOfReactionsToyModel, config

from allmodes.chem.retrosynthesis.model import (
    ClassifiedModel,
    TemplateModel,
    load_single_step_model,
    reaction_class,
)
from allmodes.chem.retrosynthesis.templates import TemplateSet
from allmodes.errors import ConfigError

TARGET = "CCOc1ccc(C(=O)NC)cc1"
AMIDE = ("CN", "CCOc1ccc(C(=O)O)cc1")
ETHER = ("CCBr", "CNC(=O)c1ccc(O)cc1")
ODD = ("CCOc1ccccc1", "CN=C=O")


def reaction(product: str, precursors: tuple[str, ...], **metadata: float) -> SingleProductReaction:
    molecules = [Molecule(smiles) for smiles in precursors]
    return SingleProductReaction(product=Molecule(product), reactants=Bag(molecules), metadata=metadata)  # type: ignore[arg-type]


def answers(model: BackwardReactionModel, smiles: str = TARGET) -> dict[tuple[str, ...], tuple[str, float]]:
    """By the precursors: class and cost."""
    (found,) = model([Molecule(smiles)])
    assert all(one.product.smiles == smiles for one in found)
    return {
        tuple(sorted(molecule.smiles for molecule in one.reactants)): (
            reaction_class(one),
            one.metadata["cost"],  # type: ignore[typeddict-item]
        )
        for one in found
    }


def key(precursors: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(Molecule(smiles).smiles for smiles in precursors))


def test_the_templates_give_reactions_with_class_and_cost(templates: TemplateSet) -> None:
    found = answers(TemplateModel(templates))
    assert found[key(AMIDE)] == ("amide coupling", 1.0)
    assert found[key(ETHER)] == ("ether formation", 1.25)


def test_classes_that_are_not_allowed_are_gone_before_the_search(templates: TemplateSet) -> None:
    found = answers(TemplateModel(templates.of_classes(["amide coupling"])))
    assert {name for name, _ in found.values()} == {"amide coupling"}
    assert key(AMIDE) in found


def test_a_trained_model_makes_no_single_enantiomer_of_achiral_precursors(templates: TemplateSet) -> None:
    racemic, one = "CC(O)c1ccccc1", "C[C@H](O)c1ccccc1"
    resolved = ("CC(=O)O[C@@H](C)c1ccccc1",)
    model = ListOfReactionsToyModel(
        [reaction(target, ("CC(=O)c1ccccc1",)) for target in (racemic, one)] + [reaction(one, resolved)]
    )
    classified = ClassifiedModel(model, templates, allowed=None)
    assert set(answers(classified, racemic)) == {("CC(=O)c1ccccc1",)}
    assert set(answers(classified, Molecule(one).smiles)) == {key(resolved)}


@pytest.fixture
def trained() -> ListOfReactionsToyModel:
    """A stand-in: a model with reactions that it knows by heart."""
    return ListOfReactionsToyModel(
        [
            reaction(TARGET, AMIDE, log_probability=-0.75),
            reaction(TARGET, ETHER, probability=0.25),
            reaction(TARGET, ODD),
            reaction(TARGET, ("C[NH3+]", "CCOc1ccc(C(=O)Cl)cc1"), log_probability=-math.inf),
            reaction(TARGET, (TARGET, "C")),
        ]
    )


def test_a_trained_models_reactions_get_the_class_of_the_template_that_makes_them(
    trained: ListOfReactionsToyModel, templates: TemplateSet
) -> None:
    assert answers(ClassifiedModel(trained, templates, allowed=None)) == {
        key(AMIDE): ("amide coupling", 0.75),
        key(ETHER): ("ether formation", pytest.approx(math.log(4))),
        key(ODD): ("unclassified", 1.0),
        key(("CN", "CCOc1ccc(C(=O)Cl)cc1")): ("amide coupling", 30.0),
    }


@pytest.mark.parametrize(
    ("allowed", "kept"),
    [(["amide coupling"], 2), (["unclassified"], 1), (["amide coupling", "ether formation"], 3)],
)
def test_of_a_trained_model_only_allowed_classes_are_kept(
    trained: ListOfReactionsToyModel, templates: TemplateSet, allowed: list[str], kept: int
) -> None:
    found = answers(ClassifiedModel(trained, templates, allowed=allowed))
    assert len(found) == kept
    assert {name for name, _ in found.values()} == set(allowed)


def test_the_number_of_results_reaches_a_trained_model(templates: TemplateSet) -> None:
    asked: list[int] = []

    class Asked(BackwardReactionModel):
        def _get_reactions(self, inputs: list[Molecule], num_results: int) -> list[Any]:
            asked.append(num_results)
            return [[] for _ in inputs]

    model = ClassifiedModel(Asked(), templates, allowed=None)
    model([Molecule("CCO")], num_results=7)
    assert asked == [7]


class _StandIn(ListOfReactionsToyModel):
    """A model class as syntheseus has them: made from a folder."""

    def __init__(self, *, model_dir: str, device: str) -> None:
        assert device == "cpu"
        lines = (Path(model_dir) / "reactions.txt").read_text().splitlines()
        super().__init__([SingleProductReaction.from_reaction_smiles(line) for line in lines])


class _NotInstalled(BackwardReactionModel):
    def __init__(self, **_: Any) -> None:
        raise ImportError("MEGAN cannot be instantiated because package 'megan' is not installed")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = enum.Enum("BackwardModelClass", {"StandIn": _StandIn, "NotInstalled": _NotInstalled})
    monkeypatch.setattr(config, "BackwardModelClass", registry)


@pytest.mark.usefixtures("registered")
def test_a_model_is_made_by_name_from_its_checkpoint(tmp_path: Path, templates: TemplateSet) -> None:
    (tmp_path / "reactions.txt").write_text(".".join(AMIDE) + ">>" + TARGET)
    model = load_single_step_model("StandIn", tmp_path)
    found = answers(ClassifiedModel(model, templates, allowed=None))
    assert found == {key(AMIDE): ("amide coupling", 1.0)}


@pytest.mark.usefixtures("registered")
def test_a_model_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"`model.name`: expected one of NotInstalled, StandIn; got 'Other'"
    ):
        load_single_step_model("Other", tmp_path)
    with pytest.raises(
        ConfigError, match=r"`model.checkpoint`: expected the folder of a checkpoint; got .*gone"
    ):
        load_single_step_model("StandIn", tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"whose package is installed; got 'NotInstalled': MEGAN cannot"):
        load_single_step_model("NotInstalled", tmp_path)
    with pytest.raises(
        ConfigError, match=r"`model.checkpoint`: expected a checkpoint of StandIn; .*FileNotFound"
    ):
        load_single_step_model("StandIn", tmp_path)


def test_the_names_are_those_of_syntheseus(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Chemformer, .*LocalRetro, .*MEGAN"):
        load_single_step_model("none", tmp_path)
    with pytest.raises(ConfigError, match=r"model\.(name|checkpoint)"):
        load_single_step_model("LocalRetro", tmp_path)  # its package is no dependency of ours
