"""Retrosynthesis as a component of the reward."""

from pathlib import Path
from typing import Any, final

from rdkit import Chem
from syntheseus.interface.models import BackwardReactionModel

from allmodes.chem.molecules import MoleculeError, parse_smiles
from allmodes.chem.oracles.results import Scored, UnscorableError
from allmodes.chem.retrosynthesis.model import ClassifiedModel, TemplateModel, load_single_step_model
from allmodes.chem.retrosynthesis.molecules import standard_smiles
from allmodes.chem.retrosynthesis.search import find_route
from allmodes.chem.retrosynthesis.stock import load_stock, shipped_stock
from allmodes.chem.retrosynthesis.template_file import load_templates, shipped_templates
from allmodes.chem.retrosynthesis.templates import UNCLASSIFIED, TemplateSet
from allmodes.errors import ConfigError
from allmodes.reports.formatting import plural

_SHOWN = 60  # classes that a message lists


@final
class RetrosynthesisScorer:
    """1 for a molecule with a route, else 0; the route is in the details.

    notes: notes for the user on the stock and the templates, one per line.
    """

    def __init__(self, component: dict[str, Any]) -> None:
        path, stock_path = component["templates"], component["stock"]
        templates = load_templates(shipped_templates() if path is None else Path(path))
        self._model = _model(component, templates)
        self._stock = load_stock(shipped_stock() if stock_path is None else Path(stock_path))
        self._max_steps, self._max_expansions = component["max_steps"], component["max_expansions"]
        where = f"component {component['name']!r}"
        self.notes = tuple(f"{where}: {note}" for note in templates.notes)
        if self._stock.left_out:
            found = f"{plural(self._stock.left_out, 'line')} left out"
            first = self._stock.first_left_out
            self.notes += (f"{where}: `stock`: {stock_path}: {found}; the first is {first}",)

    def __call__(self, smiles: str) -> Scored:
        """The answer for a canonical SMILES. Raises `UnscorableError` for one of several fragments."""
        try:
            molecule = parse_smiles(smiles)
        except MoleculeError as error:
            raise UnscorableError(
                "unsuitable", f"expected a molecule; got {smiles[:100]!r}: {error}"
            ) from error
        fragments = len(Chem.GetMolFrags(molecule))
        if fragments != 1:
            raise UnscorableError("unsuitable", f"expected one molecule; got {fragments} fragments")
        route = find_route(
            standard_smiles(molecule),
            self._model,
            self._stock,
            max_steps=self._max_steps,
            max_expansions=self._max_expansions,
        )
        details = {
            "solved": route.solved,
            "steps": route.steps,
            "classes": list(route.classes),
            "route": route.node,
        }
        return Scored(float(route.solved), details)


def make_retrosynthesis_scorer(component: dict[str, Any]) -> RetrosynthesisScorer:
    """The scorer of a retrosynthesis component.

    The stock, the templates or the model, and the allowed reactions are read and checked here. Raises
    `ConfigError` that names the component and what is wrong.
    """
    try:
        return RetrosynthesisScorer(component)
    except ConfigError as error:
        raise ConfigError(f"component {component['name']!r}: {error}") from error


def _model(component: dict[str, Any], templates: TemplateSet) -> BackwardReactionModel:
    allowed = component["reactions"]
    trained = component["model"]
    known = templates.classes if trained is None else (*templates.classes, UNCLASSIFIED)
    for name in allowed:
        if name not in known:
            shown = ", ".join(known[:_SHOWN]) + (
                f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
            )
            raise ConfigError(f"`reactions`: expected classes out of {shown}; got {name!r}")
    if trained is None:
        return TemplateModel(templates.of_classes(allowed) if allowed else templates)
    model = load_single_step_model(trained["name"], Path(trained["checkpoint"]))
    return ClassifiedModel(model, templates, allowed=allowed or None)
