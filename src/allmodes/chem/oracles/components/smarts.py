"""Substructures."""

from typing import Annotated, Literal, final

from pydantic import Field

from allmodes.chem.oracles.components.component import ComponentConfig, Scorer
from allmodes.chem.oracles.components.properties import read_molecule
from allmodes.errors import ConfigError


@final
class SmartsComponent(ComponentConfig):
    """1 when the molecule matches any of the SMARTS patterns, else 0."""

    kind: Literal["smarts"]
    """Substructures."""
    patterns: Annotated[tuple[str, ...], Field(min_length=1)]
    """SMARTS; a match of any of them counts 1."""

    def describe(self) -> str:
        """The patterns."""
        return "matches " + " or ".join(self.patterns)

    def check_files(self) -> None:
        """Read the patterns as well."""
        super().check_files()
        self.make_scorer()

    def make_scorer(self) -> Scorer:
        """Whether any pattern matches. Raises `ConfigError` for one that is no SMARTS."""
        from rdkit import Chem

        patterns = []
        for text in self.patterns:
            pattern = Chem.MolFromSmarts(text)
            if pattern is None:
                raise ConfigError(f"component {self.name!r}: `patterns`: expected SMARTS; got {text!r}")
            patterns.append(pattern)
        return lambda smiles: float(any(map(read_molecule(smiles).HasSubstructMatch, patterns)))
