"""The files that decide what an oracle says."""

from pathlib import Path

from allmodes.chem.surrogate import shipped_surrogate
from allmodes.runs.oracle_config import OracleConfig, RetrosynthesisComponent, SurrogateComponent, input_files


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
