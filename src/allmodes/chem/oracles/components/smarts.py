"""Substructures."""

from typing import TYPE_CHECKING, Annotated, Literal, final

from pydantic import Field, model_validator

from allmodes.chem.oracles.components.component import ComponentConfig, Regions, Scorer, region_names
from allmodes.chem.oracles.components.properties import read_molecule
from allmodes.errors import ConfigError

if TYPE_CHECKING:
    from rdkit import Chem


@final
class SmartsComponent(ComponentConfig):
    """1 when the molecule matches any of the SMARTS patterns, all of them, or none; else 0."""

    kind: Literal["smarts"]
    """Substructures."""
    patterns: Annotated[tuple[str, ...], Field(min_length=1)]
    """SMARTS patterns; a match of any of them gives 1, unless `match` says otherwise."""
    match: Literal["any", "all", "none"] = "any"
    """Patterns that a molecule must match for a 1: any, all, or none (for unwanted patterns)."""

    names: tuple[str, ...] = ()
    """Names of the patterns in reports, in order; the patterns themselves if left out."""

    @model_validator(mode="after")
    def _named_patterns(self) -> "SmartsComponent":
        region_names(self.names, self.patterns, key="patterns")
        return self

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
        patterns = self._read_patterns()
        quantifier, wanted = (all if self.match == "all" else any), self.match != "none"
        return lambda smiles: float(
            quantifier(map(read_molecule(smiles).HasSubstructMatch, patterns)) == wanted
        )

    @property
    def has_regions(self) -> bool:
        """Where any of several patterns will do."""
        return self.match == "any" and len(self.patterns) > 1

    def make_regions(self) -> Regions:
        """The patterns: a molecule's region is the first that it matches."""
        patterns = self._read_patterns()

        def find(smiles: str) -> int | None:
            molecule = read_molecule(smiles)
            return next(
                (place for place, pattern in enumerate(patterns) if molecule.HasSubstructMatch(pattern)), None
            )

        names = region_names(self.names, self.patterns, key="patterns")
        return Regions(names, find, pictures=self.patterns, is_smarts=True)

    def _read_patterns(self) -> "list[Chem.Mol]":
        from rdkit import Chem

        patterns = []
        for text in self.patterns:
            pattern = Chem.MolFromSmarts(text)
            if pattern is None:
                raise ConfigError(f"component {self.name!r}: `patterns`: expected SMARTS; got {text!r}")
            patterns.append(pattern)
        return patterns
