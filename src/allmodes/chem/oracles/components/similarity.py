"""Similarity to known molecules."""

from typing import Annotated, Literal, final

from pydantic import Field

from allmodes.chem.oracles.components.component import ComponentConfig, Scorer
from allmodes.chem.oracles.components.properties import read_molecule
from allmodes.errors import ConfigError


@final
class SimilarityComponent(ComponentConfig):
    """Largest Tanimoto similarity (Morgan, radius 2, 2048 bits) to any of the references."""

    kind: Literal["similarity"]
    """Similarity to known molecules."""
    references: Annotated[tuple[str, ...], Field(min_length=1)]
    """Their SMILES."""

    def describe(self) -> str:
        """The references."""
        return "similarity to " + ", ".join(self.references)

    def check_files(self) -> None:
        """Read the references as well."""
        super().check_files()
        self.make_scorer()

    def make_scorer(self) -> Scorer:
        """The similarity. Raises `ConfigError` for a reference that is no molecule."""
        from rdkit import DataStructs
        from rdkit.Chem import rdFingerprintGenerator

        from allmodes.chem.molecules import MoleculeError, parse_smiles

        generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
        references = []
        for text in self.references:
            try:
                references.append(generator.GetFingerprint(parse_smiles(text)))
            except MoleculeError as error:
                where = f"component {self.name!r}: `references`:"
                raise ConfigError(f"{where} expected SMILES; got {text[:100]!r}: {error}") from error

        def score(smiles: str) -> float:
            fingerprint = generator.GetFingerprint(read_molecule(smiles))
            return max(DataStructs.BulkTanimotoSimilarity(fingerprint, references))

        return score
