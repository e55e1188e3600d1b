"""Components of the reward: keys, computation and description of each in one module.

`Component` is the only list of them. To add one, write its module and add its class here.
"""

from typing import Annotated, Any, get_args

from pydantic import Field

from allmodes.chem.oracles.components.component import (
    ComponentConfig,
    InputPath,
    Program,
    Regions,
    Scorer,
)
from allmodes.chem.oracles.components.composition import ElementCountComponent, IsomerComponent
from allmodes.chem.oracles.components.docking import (
    BoxConfig,
    DockingComponent,
    DockingSettings,
    ExternalDockingComponent,
)
from allmodes.chem.oracles.components.function import FunctionComponent
from allmodes.chem.oracles.components.process import ProcessComponent
from allmodes.chem.oracles.components.properties import PropertyComponent
from allmodes.chem.oracles.components.retrosynthesis import RetrosynthesisComponent, SingleStepModelConfig
from allmodes.chem.oracles.components.similarity import LevenshteinComponent, SimilarityComponent
from allmodes.chem.oracles.components.smarts import SmartsComponent
from allmodes.chem.oracles.components.surrogate import SurrogateComponent
from allmodes.runs.config_errors import kinds_of

__all__ = [
    "KINDS",
    "BoxConfig",
    "Component",
    "ComponentConfig",
    "DockingComponent",
    "DockingSettings",
    "ElementCountComponent",
    "ExternalDockingComponent",
    "FunctionComponent",
    "InputPath",
    "IsomerComponent",
    "LevenshteinComponent",
    "ProcessComponent",
    "Program",
    "PropertyComponent",
    "Regions",
    "RetrosynthesisComponent",
    "Scorer",
    "SimilarityComponent",
    "SingleStepModelConfig",
    "SmartsComponent",
    "SurrogateComponent",
    "read_component",
]

Component = Annotated[
    PropertyComponent
    | SimilarityComponent
    | LevenshteinComponent
    | SmartsComponent
    | ElementCountComponent
    | IsomerComponent
    | FunctionComponent
    | ProcessComponent
    | DockingComponent
    | ExternalDockingComponent
    | RetrosynthesisComponent
    | SurrogateComponent,
    Field(discriminator="kind"),
]

KINDS: dict[str, type[ComponentConfig]] = {
    kind: model for model in get_args(get_args(Component)[0]) for kind in kinds_of(model)
}
"""The component of each `kind`."""


def read_component(values: dict[str, Any]) -> ComponentConfig:
    """The component that `model_dump(mode="json")` gave.

    >>> component = read_component({"kind": "qed", "name": "drug-likeness"})
    >>> component.model_dump()["weight"]
    1.0
    """
    return KINDS[values["kind"]].model_validate(values)
