"""Retrosynthesis as a component of the reward."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rdkit import Chem
from syntheseus.interface.models import BackwardReactionModel

from allmodes.chem.oracles.results import Scored, UnscorableError
from allmodes.chem.retrosynthesis.model import ClassifiedModel, TemplateModel, load_single_step_model
from allmodes.chem.retrosynthesis.molecules import standard_smiles
from allmodes.chem.retrosynthesis.search import find_route
from allmodes.chem.retrosynthesis.stock import load_stock, shipped_stock
from allmodes.chem.retrosynthesis.template_file import load_templates, shipped_templates
from allmodes.chem.retrosynthesis.templates import UNCLASSIFIED
from allmodes.errors import ConfigError


def make_retrosynthesis_scorer(component: dict[str, Any]) -> Callable[[str], Scored]:
    """The scorer of a retrosynthesis component: 1 when a route is found, else 0; the route in the details.

    The stock, the templates or the model, and the allowed reactions are read and checked here. Raises
    `ConfigError` that names the component and what is wrong. The scorer takes a canonical SMILES, brings it
    to its neutral form, and raises `UnscorableError` for one of several fragments.
    """
    try:
        return _make(component)
    except ConfigError as error:
        raise ConfigError(f"component {component['name']!r}: {error}") from error


def _make(component: dict[str, Any]) -> Callable[[str], Scored]:
    model = _model(component)
    stock_path = component["stock"]
    stock = load_stock(shipped_stock() if stock_path is None else Path(stock_path))
    max_steps, max_expansions = component["max_steps"], component["max_expansions"]

    def score(smiles: str) -> Scored:
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None:
            raise UnscorableError("unsuitable", f"expected a molecule; got {smiles!r}")
        fragments = len(Chem.GetMolFrags(molecule))
        if fragments != 1:
            raise UnscorableError("unsuitable", f"expected one molecule; got {fragments} fragments")
        route = find_route(
            standard_smiles(molecule), model, stock, max_steps=max_steps, max_expansions=max_expansions
        )
        details = {
            "solved": route.solved,
            "steps": route.steps,
            "classes": list(route.classes),
            "route": route.node,
        }
        return Scored(float(route.solved), details)

    return score


def _model(component: dict[str, Any]) -> BackwardReactionModel:
    path = component["templates"]
    templates = load_templates(shipped_templates() if path is None else Path(path))
    allowed = component["reactions"]
    trained = component["model"]
    known = templates.classes if trained is None else (*templates.classes, UNCLASSIFIED)
    for name in allowed:
        if name not in known:
            raise ConfigError(f"`reactions`: expected classes out of {', '.join(known)}; got {name!r}")
    if trained is None:
        return TemplateModel(templates.of_classes(allowed) if allowed else templates)
    model = load_single_step_model(trained["name"], Path(trained["checkpoint"]))
    return ClassifiedModel(model, templates, allowed=allowed or None)
