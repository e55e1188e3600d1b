"""Substructures."""

from typing import Annotated, Literal, final

from pydantic import Field

from allmodes.chem.oracles.components.component import ComponentConfig, Scorer
from allmodes.chem.oracles.components.properties import read_molecule
from allmodes.errors import ConfigError


@final
class SmartsComponent(ComponentConfig):
    """1 when the molecule matches any of the SMARTS patterns, all of them, or none; else 0."""

    kind: Literal["smarts"]
    """Substructures."""
    patterns: Annotated[tuple[str, ...], Field(min_length=1)]
    """SMARTS; a match of any of them counts 1, unless `match` says otherwise."""
    match: Literal["any", "all", "none"] = "any"
    """How many of the patterns a molecule must match for a 1; "none" is for what is not wanted."""

    def describe(self) -> str:
        """The patterns."""
        if self.match == "none":
            return "does not match " + " or ".join(self.patterns)
        return "matches " + (" and " if self.match == "all" else " or ").join(self.patterns)

    def check_files(self) -> None:
        """Read the patterns as well."""
        super().check_files()
        self.make_scorer()

    def make_scorer(self) -> Scorer:
        """Whether the patterns match. Raises `ConfigError` for one that is no SMARTS."""
        from rdkit import Chem

        patterns = []
        for text in self.patterns:
            pattern = Chem.MolFromSmarts(text)
            if pattern is None:
                raise ConfigError(f"component {self.name!r}: `patterns`: expected SMARTS; got {text!r}")
            patterns.append(pattern)
        quantifier, wanted = (all if self.match == "all" else any), self.match != "none"
        return lambda smiles: float(
            quantifier(map(read_molecule(smiles).HasSubstructMatch, patterns)) == wanted
        )
