"""Single-step models for syntheseus: the templates, or a trained model with classes from the templates."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, final

from syntheseus.interface.bag import Bag
from syntheseus.interface.models import BackwardReactionModel
from syntheseus.interface.molecule import Molecule
from syntheseus.interface.reaction import ReactionMetaData, SingleProductReaction

from allmodes.chem.retrosynthesis.molecules import standard_smiles
from allmodes.chem.retrosynthesis.stereo import is_chiral
from allmodes.chem.retrosynthesis.templates import UNCLASSIFIED, TemplateSet
from allmodes.errors import ConfigError, one_line

# Answers that are kept: bounded, so that a long run does not grow; what is forgotten is computed again.
_REMEMBERED = 5_000
_LEAST = -30.0  # nats; log-probabilities below it count as this, so that no cost is infinite


def make_reaction(
    product: Molecule, precursors: Sequence[str], *, name: str, reaction_class: str, cost: float
) -> SingleProductReaction:
    """A reaction of syntheseus; name, class and cost are in its metadata."""
    molecules = [Molecule(smiles, canonicalize=False, make_rdkit_mol=False) for smiles in precursors]
    metadata = {"template": name, "reaction_class": reaction_class, "cost": cost}
    return SingleProductReaction(
        reactants=Bag(molecules),
        product=product,
        identifier=name,
        metadata=cast("ReactionMetaData", metadata),
    )


def reaction_class(reaction: SingleProductReaction) -> str:
    """The class in a reaction's metadata."""
    return cast("dict[str, Any]", reaction.metadata)["reaction_class"]


@final
class TemplateModel(BackwardReactionModel):
    """What the templates make of a molecule."""

    def __init__(self, templates: TemplateSet) -> None:
        super().__init__(use_cache=True, max_cache_size=_REMEMBERED)
        self._templates = templates

    def _get_reactions(
        self, inputs: list[Molecule], num_results: int
    ) -> list[Sequence[SingleProductReaction]]:
        return [
            [
                make_reaction(
                    molecule,
                    found.precursors,
                    name=found.template.name,
                    reaction_class=found.template.reaction_class,
                    cost=found.template.cost,
                )
                for found in self._templates.disconnect(molecule.smiles)[:num_results]
            ]
            for molecule in inputs
        ]


@final
class ClassifiedModel(BackwardReactionModel):
    """A trained model's reactions, with the class of the template that would make the same precursors.

    A reaction that no template makes is `unclassified`. `allowed`: the classes that are kept; None keeps all.
    Left out is a reaction that makes one enantiomer of precursors that are their own mirror images.
    The cost of a step is −log p in nats where the model gives a probability, else 1.
    """

    def __init__(
        self, model: BackwardReactionModel, templates: TemplateSet, *, allowed: Sequence[str] | None
    ) -> None:
        super().__init__(use_cache=True, max_cache_size=_REMEMBERED)
        self._model, self._templates = model, templates
        self._allowed = None if allowed is None else frozenset(allowed)

    def _get_reactions(
        self, inputs: list[Molecule], num_results: int
    ) -> list[Sequence[SingleProductReaction]]:
        answers = self._model(inputs, num_results=num_results)
        return [
            [
                classified
                for reaction in reactions
                if (classified := self._classify(molecule, reaction)) is not None
            ]
            for molecule, reactions in zip(inputs, answers, strict=True)
        ]

    def _classify(self, molecule: Molecule, reaction: SingleProductReaction) -> SingleProductReaction | None:
        precursors = [standard_smiles(precursor.rdkit_mol) for precursor in reaction.reactants]
        template = self._templates.making(molecule.smiles, precursors)
        name = UNCLASSIFIED if template is None else template.name
        its_class = UNCLASSIFIED if template is None else template.reaction_class
        if molecule.smiles in precursors or (self._allowed is not None and its_class not in self._allowed):
            return None
        if is_chiral(molecule.smiles) and not any(map(is_chiral, precursors)):
            return None
        cost = _cost(reaction.metadata)
        return make_reaction(molecule, precursors, name=name, reaction_class=its_class, cost=cost)


def _cost(metadata: ReactionMetaData) -> float:
    log_probability = metadata.get("log_probability")
    if log_probability is None:
        probability = metadata.get("probability")
        if probability is None:
            return 1.0
        log_probability = math.log(max(probability, math.exp(_LEAST)))
    return -min(max(log_probability, _LEAST), 0.0)


def load_single_step_model(name: str, checkpoint: Path) -> BackwardReactionModel:
    """A model that syntheseus knows by `name` (MEGAN, LocalRetro ...), from the folder of a checkpoint.

    It runs on the processor. Raises `ConfigError` when syntheseus does not know the name, the checkpoint is
    not there, the model's package is not installed, or the checkpoint cannot be loaded.
    """
    from syntheseus.reaction_prediction.inference.config import BackwardModelClass

    known = {member.name: member.value for member in BackwardModelClass}
    if name not in known:
        raise ConfigError(f"`model.name`: expected one of {', '.join(sorted(known))}; got {name!r}")
    if not checkpoint.exists():
        raise ConfigError(f"`model.checkpoint`: expected the folder of a checkpoint; got {checkpoint}")
    model_class: Any = known[name]
    try:
        return model_class(model_dir=str(checkpoint), device="cpu")
    except ImportError as error:
        raise ConfigError(
            f"`model.name`: expected a model whose package is installed; got {name!r}: {one_line(error)}"
        ) from error
    except Exception as error:  # whatever a model's own loading raises
        raise ConfigError(
            f"`model.checkpoint`: expected a checkpoint of {name}; got {checkpoint}: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
