"""Similarity to known molecules: by fingerprint, or by the text of their SMILES."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

from pydantic import Field, model_validator

from allmodes.chem.oracles.components.component import ComponentConfig, Regions, Scorer, region_names
from allmodes.chem.oracles.components.properties import read_molecule
from allmodes.errors import ConfigError

if TYPE_CHECKING:
    from rdkit import Chem

Fingerprint = Literal["morgan", "ECFP4", "ECFP6", "FCFP4", "FCFP6", "AP", "PHCO"]
References = Annotated[tuple[str, ...], Field(min_length=1)]
Among = Literal["nearest", "mean"]

_DESCRIPTIONS = {
    "morgan": "Morgan bits, radius 2, 2048",
    "ECFP4": "ECFP4 counts",
    "ECFP6": "ECFP6 counts",
    "FCFP4": "FCFP4 counts",
    "FCFP6": "FCFP6 counts",
    "AP": "atom pairs up to 10 bonds apart, counts",
    "PHCO": "Gobbi's pharmacophores in two dimensions",
}


@final
class SimilarityComponent(ComponentConfig):
    """Tanimoto similarity to the nearest of the references, or its mean over them."""

    kind: Literal["similarity"]
    """Similarity to known molecules."""
    references: References
    """Their SMILES."""
    fingerprint: Fingerprint = "morgan"
    """"morgan": bits, radius 2, 2048 of them; the others are GuacaMol's: circular (ECFP, FCFP) and atom pairs
    (AP) with counts, not folded, and Gobbi's pharmacophores (PHCO), the slowest with 2 ms a molecule."""
    among: Among = "nearest"
    """Of several references the largest similarity, or the mean."""
    names: tuple[str, ...] = ()
    """What the references are called in reports, in their order; the SMILES themselves if left out."""

    @model_validator(mode="after")
    def _named_references(self) -> "SimilarityComponent":
        region_names(self.names, self.references, key="references")
        return self

    def describe(self) -> str:
        """The references."""
        mean = "mean " if self.among == "mean" and len(self.references) > 1 else ""
        print_ = "" if self.fingerprint == "morgan" else f" ({_DESCRIPTIONS[self.fingerprint]})"
        return f"{mean}similarity to {', '.join(self.references)}{print_}"

    def check_files(self) -> None:
        """Read the references as well."""
        super().check_files()
        self.make_scorer()

    def make_scorer(self) -> Scorer:
        """The similarity. Raises `ConfigError` for a reference that is no molecule."""
        similarities = self._similarities()
        combine = _COMBINE[self.among]
        return lambda smiles: combine(similarities(smiles))

    @property
    def has_regions(self) -> bool:
        """Where the nearest of several references counts."""
        return self.among == "nearest" and len(self.references) > 1

    def make_regions(self) -> Regions:
        """The references: a molecule's region is that of the nearest, the first of ties."""
        return _nearest_regions(self, self._similarities())

    def _similarities(self) -> Callable[[str], list[float]]:
        return nearness(self.references, fingerprint=self.fingerprint, where=self.name)


@final
class LevenshteinComponent(ComponentConfig):
    """Similarity of the SMILES as text to the nearest of the references, or its mean over them."""

    kind: Literal["levenshtein"]
    """Similarity of texts: max(0, 1 − edits / length of the reference), both in RDKit's canonical SMILES."""
    references: References
    """Their SMILES."""
    among: Among = "nearest"
    """Of several references the largest similarity, or the mean."""
    names: tuple[str, ...] = ()
    """What the references are called in reports, in their order; the SMILES themselves if left out."""

    @model_validator(mode="after")
    def _named_references(self) -> "LevenshteinComponent":
        region_names(self.names, self.references, key="references")
        return self

    def describe(self) -> str:
        """The references."""
        mean = "mean " if self.among == "mean" and len(self.references) > 1 else ""
        return f"{mean}similarity of the canonical SMILES, by edits, to {', '.join(self.references)}"

    def check_files(self) -> None:
        """Read the references as well."""
        super().check_files()
        self.make_scorer()

    def make_scorer(self) -> Scorer:
        """The similarity. Raises `ConfigError` for a reference that is no molecule."""
        similarities = self._similarities()
        combine = _COMBINE[self.among]
        return lambda smiles: combine(similarities(smiles))

    @property
    def has_regions(self) -> bool:
        """Where the nearest of several references counts."""
        return self.among == "nearest" and len(self.references) > 1

    def make_regions(self) -> Regions:
        """The references: a molecule's region is that of the nearest, the first of ties."""
        return _nearest_regions(self, self._similarities())

    def _similarities(self) -> Callable[[str], list[float]]:
        return text_nearness(self.references, where=self.name)


def nearness(
    references: Sequence[str], *, fingerprint: Fingerprint, where: str
) -> Callable[[str], list[float]]:
    """The Tanimoto similarity of a molecule to each reference, in order.

    With counts Σ min(aᵢ, bᵢ) / Σ max(aᵢ, bᵢ). where: the component's name, for messages. Raises ConfigError
    for a reference that is no molecule.
    """
    from rdkit import DataStructs

    compute = _fingerprints(fingerprint)
    prints = [compute(molecule) for molecule in _parsed(references, where=where)]
    return lambda smiles: list(DataStructs.BulkTanimotoSimilarity(compute(read_molecule(smiles)), prints))


def text_nearness(references: Sequence[str], *, where: str) -> Callable[[str], list[float]]:
    """max(0, 1 − edits / length of the reference) of a SMILES to each reference, in order.

    edits: Levenshtein's distance of the canonical SMILES, so a value depends on RDKit's version. Raises
    ConfigError for a reference that is no molecule. Source: MolExpL, arXiv 2501.19153.
    """
    from rdkit import Chem

    texts = [Chem.MolToSmiles(molecule) for molecule in _parsed(references, where=where)]

    def similarities(smiles: str) -> list[float]:
        text = Chem.MolToSmiles(read_molecule(smiles))
        return [max(0.0, 1.0 - edit_distance(text, reference) / len(reference)) for reference in texts]

    return similarities


def edit_distance(left: str, right: str) -> int:
    """Levenshtein's distance: the fewest insertions, deletions and replacements of characters."""
    row = list(range(len(right) + 1))
    for count, char in enumerate(left, start=1):
        diagonal, row[0] = row[0], count
        for place, other in enumerate(right, start=1):
            change = diagonal + (char != other)
            diagonal = row[place]
            row[place] = min(change, diagonal + 1, row[place - 1] + 1)
    return row[-1]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


_COMBINE: dict[str, Callable[[Sequence[float]], float]] = {"nearest": max, "mean": _mean}


def _nearest_regions(
    component: SimilarityComponent | LevenshteinComponent, similarities: Callable[[str], list[float]]
) -> Regions:
    def find(smiles: str) -> int:
        values = similarities(smiles)
        return values.index(max(values))

    names = region_names(component.names, component.references, key="references")
    return Regions(names, find, pictures=component.references, is_smarts=False)


def _parsed(references: Sequence[str], *, where: str) -> "list[Chem.Mol]":
    from allmodes.chem.molecules import MoleculeError, parse_smiles

    molecules = []
    for text in references:
        try:
            molecules.append(parse_smiles(text))
        except MoleculeError as error:
            raise ConfigError(
                f"component {where!r}: `references`: expected SMILES; got {text[:100]!r}: {error}"
            ) from error
    return molecules


def _fingerprints(kind: Fingerprint) -> "Callable[[Chem.Mol], Any]":
    """The fingerprint of a molecule, of one kind."""
    from rdkit.Chem import rdFingerprintGenerator

    if kind == "PHCO":
        from allmodes.chem.oracles.components.pharmacophores import pharmacophore_fingerprint

        return pharmacophore_fingerprint
    if kind == "morgan":
        return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048).GetFingerprint
    if kind == "AP":
        return rdFingerprintGenerator.GetAtomPairGenerator(maxDistance=10).GetSparseCountFingerprint
    features = rdFingerprintGenerator.GetMorganFeatureAtomInvGen() if kind.startswith("F") else None
    diameter = int(kind[-1])
    generator = rdFingerprintGenerator.GetMorganGenerator(
        radius=diameter // 2, atomInvariantsGenerator=features
    )
    return generator.GetSparseCountFingerprint
