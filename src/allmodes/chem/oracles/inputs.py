"""The files that decide what an oracle says."""

import shutil
import warnings
from pathlib import Path

from allmodes.chem.docking.box import box_warning
from allmodes.chem.oracles.components import make_scorer
from allmodes.chem.surrogate import shipped_surrogate
from allmodes.errors import AllmodesWarning, ConfigError, shown
from allmodes.runs.oracle_config import (
    DockingComponent,
    ExternalDockingComponent,
    OracleConfig,
    ProcessComponent,
    RetrosynthesisComponent,
    SimilarityComponent,
    SmartsComponent,
    SurrogateComponent,
    input_files,
    input_paths,
)


def oracle_inputs(oracle: OracleConfig) -> dict[str, Path]:
    """The files that an oracle reads, by key: also those that come with allmodes, and may change."""
    found = input_files(oracle)
    for component in oracle.components:
        if isinstance(component, SurrogateComponent):
            found.setdefault(f"{component.name}.model", shipped_surrogate())
        elif isinstance(component, RetrosynthesisComponent):
            # Here, so that an oracle without it needs no syntheseus.
            from allmodes.chem.retrosynthesis.stock import shipped_stock
            from allmodes.chem.retrosynthesis.template_file import shipped_templates

            found.setdefault(f"{component.name}.stock", shipped_stock())
            found.setdefault(f"{component.name}.templates", shipped_templates())
    return found


def check_oracle_files(oracle: OracleConfig) -> None:
    """Check an oracle as far as that runs no program and imports no module that it names.

    Files must be there, programs must be found, patterns, references and reference ligands must be readable.
    Warns of a box that cannot hold its own reference ligand. Raises `ConfigError`.
    """
    for component in oracle.components:
        where = f"component {component.name!r}"
        for key, path in input_paths(component).items():
            if not path.exists():
                raise ConfigError(f"{where}: `{key}`: expected a file; got {path}, which does not exist")
        if isinstance(component, DockingComponent | ExternalDockingComponent):
            warning = box_warning(component.box.model_dump(mode="json"), where=f"{where}: `box")
            if warning is not None:
                warnings.warn(warning, AllmodesWarning, stacklevel=2)
        if isinstance(component, SimilarityComponent | SmartsComponent):
            make_scorer(component.model_dump(mode="json"))
        if isinstance(component, ProcessComponent | ExternalDockingComponent):
            program = component.command[0]
            if shutil.which(program) is None:
                raise ConfigError(f"{where}: `command`: expected a program to run; got {shown(program)}")
