"""Outcomes and their frequencies, against counting by hand."""

from collections.abc import Sequence
from typing import Any

import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from allmodes.chem.config import OutcomesConfig
from allmodes.chem.design.outcomes import OutcomeFrequencies, regions_of
from molecule_settings import molecule_config

# Two phenyls that share a scaffold, the first twice; an invalid sample; an acyclic molecule; a pyridine.
BATCH: Sequence[str | None] = ("Cc1ccccc1", "CCc1ccccc1", "Cc1ccccc1", None, "CCO", "Cc1ccncc1")


def frequencies(batch: Sequence[str | None], **config: Any) -> list[float]:
    outcomes = OutcomeFrequencies(OutcomesConfig(**config))
    outcomes.observe(batch)
    return outcomes.frequencies(batch).tolist()


@pytest.mark.parametrize(
    ("outcome", "counts"), [("molecule", [2, 1, 2, None, 1, 1]), ("scaffold", [3, 3, 3, None, 1, 1])]
)
def test_frequencies_in_a_batch_count_duplicates_and_invalid_samples(
    outcome: str, counts: list[int | None]
) -> None:
    expected = [1.0 if count is None else count / 6 for count in counts]
    assert frequencies(BATCH, outcome=outcome) == pytest.approx(expected)


def test_a_batch_is_counted_as_drawn_for_other_molecules_too() -> None:
    """Replayed molecules and other spellings are asked about after the batch: they do not count."""
    outcomes = OutcomeFrequencies(OutcomesConfig(outcome="scaffold"))
    outcomes.observe(["CCO"] * 5)
    outcomes.observe(BATCH)
    distinct = ["CCCc1ccccc1", "CCO", "C1CCCCC1"]  # the last has a scaffold that was not drawn
    assert outcomes.frequencies(distinct).tolist() == pytest.approx([3 / 6, 1 / 6, 1 / 6])


def test_history_is_of_all_samples_that_were_drawn() -> None:
    outcomes = OutcomeFrequencies(OutcomesConfig(outcome="scaffold", frequency="history"))
    outcomes.observe(BATCH)
    outcomes.observe(["Cc1ccncc1", None])
    # Of 8 samples: phenyl 3, pyridine 2, ethanol 1. What is asked about does not count by being asked.
    got = outcomes.frequencies(["CCCc1ccncc1", "Cc1ccccc1", "CCO", None]).tolist()
    assert got == pytest.approx([2 / 8, 3 / 8, 1 / 8, 1.0])
    assert outcomes.frequencies(["CCO"]).tolist() == pytest.approx([1 / 8])


def similarity(one: str, other: str) -> float:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in (one, other)]
    return DataStructs.TanimotoSimilarity(*prints)


def test_clusters_are_those_of_sphere_exclusion() -> None:
    molecules = ["CCCCCCCCO", "CCCCCCCCCO", "Cc1ccccc1", "CCCCCCCN", "Clc1ccccc1", "CCCCCCCCCCO", "CCO"]
    config = OutcomesConfig(outcome="cluster", cluster_distance=0.5)
    centres: list[str] = []
    expected = []
    for smiles in molecules:
        near = [centre for centre in centres if 1 - similarity(centre, smiles) <= 0.5]
        expected.append(near[0] if near else smiles)
        centres += [] if near else [smiles]
    outcomes = OutcomeFrequencies(config)
    assert [outcomes.outcome(smiles) for smiles in molecules] == expected
    assert 1 < len(centres) < len(molecules)
    counts = [expected.count(centre) / len(molecules) for centre in expected]
    assert frequencies(molecules, outcome="cluster", cluster_distance=0.5) == pytest.approx(counts)


def test_a_restored_history_goes_on_as_if_nothing_had_happened() -> None:
    config = OutcomesConfig(outcome="cluster", frequency="history", cluster_distance=0.5)
    whole, first = OutcomeFrequencies(config), OutcomeFrequencies(config)
    batches = [["CCCCCCCCO", "Cc1ccccc1", None], ["CCCCCCCCCO", "CCO", "Clc1ccccc1"]]
    whole.observe(batches[0])
    first.observe(batches[0])
    second = OutcomeFrequencies(config)
    second.restore(first.state())
    for outcomes in (whole, second):
        outcomes.observe(batches[1])
    assert second.state() == whole.state()
    assert second.frequencies(batches[1]).tolist() == whole.frequencies(batches[1]).tolist()


def test_regions_are_counted_by_name_and_nothing_counts_outside_of_them() -> None:
    component = {"kind": "smarts", "patterns": ["c", "n", "N"], "names": ["benzene", "pyridine", "amine"]}
    config = molecule_config(
        oracle={"components": [component]}, outcomes={"outcome": "region", "regions": "smarts"}
    )
    outcomes = OutcomeFrequencies(config.outcomes, regions_of(config))
    batch = ["Cc1ccccc1", "c1ccncc1", "CN", None, "CCO", "CCN", "Nc1ccccc1"]  # two of benzene's hold more
    assert [None if line is None else outcomes.outcome(line) for line in batch] == [
        "benzene", "benzene", "amine", None, None, "amine", "benzene",
    ]  # fmt: skip
    outcomes.observe(batch)
    expected = [3 / 7, 3 / 7, 2 / 7, 1, 1, 2 / 7, 3 / 7]
    assert outcomes.frequencies(batch).tolist() == pytest.approx(expected)
    assert regions_of(molecule_config()) is None
