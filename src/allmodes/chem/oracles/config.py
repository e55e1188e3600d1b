"""How a molecule is scored: the components of the reward, and their aggregation."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from allmodes.chem.oracles.components import Component, ComponentConfig
from allmodes.chem.oracles.shaping import Aggregation
from allmodes.runs.config import Config, Workers


class OracleConfig(Config):
    """How a molecule is scored."""

    components: Annotated[tuple[Component, ...], Field(min_length=1)]
    """Components of the reward; each has a kind."""
    aggregation: Aggregation = "geometric_mean"
    """Aggregation of the scores to the reward."""
    failed: Literal["exclude", "zero"] = "exclude"
    """Whether a molecule without a score is left out of training, or gets the reward 0."""
    workers: Workers = 1
    """Number of molecules scored in parallel."""
    ray: str | None = None
    """Ray cluster: "local", "auto" for the cluster of this machine, or an address; none if left out."""
    store: str | None = None
    """File or database URL for results of slow scorers, shared between runs; the run's own if left out."""

    @field_validator("store")
    @classmethod
    def _absolute(cls, store: str | None) -> str | None:
        # A file is saved with the run, which may be resumed from another folder; a URL has its scheme.
        return store if store is None or ":" in store else str(Path(store).absolute())

    @field_validator("components")
    @classmethod
    def _distinct(cls, components: tuple[ComponentConfig, ...]) -> tuple[ComponentConfig, ...]:
        names = [component.name for component in components]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"a different name for each component; {twice!r} comes twice")
        return components


def has_plain_program(components: Iterable[ComponentConfig]) -> bool:
    """Whether any component is a program whose answers have no ids."""
    return any(one.program is not None and one.program.protocol == "plain" for one in components)


def has_stored(components: Iterable[ComponentConfig]) -> bool:
    """Whether the store keeps results of any component."""
    return any(one.engines for one in components)


def input_files(oracle: OracleConfig) -> dict[str, Path]:
    """The files that decide what an oracle says, by the key that they come from.

    Those of a folder, as checkpoints are, have their path in it after the key.
    """
    found = {}
    for component in oracle.components:
        for key, path in component.input_paths().items():
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                inside = "" if file == path else f"/{file.relative_to(path)}"
                if file.is_file():
                    found[f"{component.name}.{key}{inside}"] = file
    return found


def oracle_inputs(oracle: OracleConfig) -> dict[str, Path]:
    """The files that an oracle reads, by key: also those that come with allmodes, and may change."""
    found = input_files(oracle)
    for component in oracle.components:
        for key, file in component.shipped_files().items():
            found.setdefault(f"{component.name}.{key}", file)
        found |= {f"{component.name}.{key}": file for key, file in component.other_inputs().items()}
    return found
