"""Outcomes of a design run and their frequencies."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, final

import torch
from rdkit import DataStructs
from rdkit.Chem import MolFromSmiles, rdFingerprintGenerator
from torch import Tensor

from allmodes.chem.config import MoleculesConfig, OutcomesConfig
from allmodes.chem.design.scaffold_filter import scaffold_key
from allmodes.chem.oracles.components import Regions


def regions_of(config: MoleculesConfig) -> Regions | None:
    """The regions that a recipe names; None if it names none."""
    name = config.outcomes.regions
    return next((one.make_regions() for one in config.oracle.components if one.name == name), None)


@final
class OutcomeFrequencies:
    """The empirical probability p̂ of each sample's outcome: molecule, Murcko scaffold, cluster or region.

    Samples are counted as they are drawn, duplicates included: in a batch without duplicates every molecule
    would have the same frequency, and IPS would do nothing. With frequency "batch", p̂ = n/N among the N
    samples of the last batch, where an outcome that only a replayed molecule has counts as drawn once; with
    "history" among all samples of the run so far. Clusters are those of the
    sphere exclusion algorithm: a molecule joins the first cluster whose centre is within
    `cluster_distance` (1 − Tanimoto of Morgan fingerprints, radius 2, 1024 bits), or else begins one. A
    molecule outside of all `regions` has no outcome.

    Source: IPS, section 4.
    """

    def __init__(self, config: OutcomesConfig, regions: Regions | None = None) -> None:
        self._config, self._regions = config, regions
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._batch: Counter[str] = Counter()
        self._batch_total = 0
        self._centres: list[str] = []
        self._prints: list[Any] = []
        self._known: dict[str, str] = {}  # clusters of molecules that were asked about before
        self._generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)

    def observe(self, smiles: Sequence[str | None]) -> None:
        """Count one sampled batch; None for an invalid sample, which counts as drawn."""
        outcomes = (None if line is None else self.outcome(line) for line in smiles)
        self._batch = Counter(outcome for outcome in outcomes if outcome is not None)
        self._batch_total = len(smiles)
        self._counts += self._batch
        self._total += self._batch_total

    def frequencies(self, smiles: Sequence[str | None]) -> Tensor:
        """p̂ of the outcome of each molecule, (N,), float32; 1 for one without, as an invalid sample is."""
        is_history = self._config.frequency == "history"
        counts, total = (self._counts, self._total) if is_history else (self._batch, self._batch_total)
        outcomes = [None if line is None else self.outcome(line) for line in smiles]
        values = [1.0 if outcome is None else max(counts[outcome], 1) / total for outcome in outcomes]
        return torch.tensor(values, dtype=torch.float32)

    def outcome(self, smiles: str) -> str | None:
        """The outcome of a molecule in canonical SMILES; None outside of all regions."""
        if self._config.outcome == "molecule":
            return smiles
        if self._config.outcome == "scaffold":
            return scaffold_key(smiles)
        if self._regions is not None and self._config.outcome == "region":
            return self._regions.name_of(smiles)
        if smiles not in self._known:
            self._known[smiles] = self._cluster(smiles)
        return self._known[smiles]

    def _cluster(self, smiles: str) -> str:
        fingerprint = self._generator.GetFingerprint(MolFromSmiles(smiles))
        similarities = DataStructs.BulkTanimotoSimilarity(fingerprint, self._prints)
        least = 1 - self._config.cluster_distance
        found = next((index for index, value in enumerate(similarities) if value >= least), None)
        if found is not None:
            return self._centres[found]
        self._centres.append(smiles)
        self._prints.append(fingerprint)
        return smiles

    def state(self) -> dict[str, Any]:
        """What `restore` needs, ready for JSON."""
        return {"counts": dict(self._counts), "total": self._total, "centres": self._centres}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        self._counts, self._total = Counter(state["counts"]), state["total"]
        self._centres, self._known = list(state["centres"]), {}
        self._prints = [self._generator.GetFingerprint(MolFromSmiles(line)) for line in self._centres]
