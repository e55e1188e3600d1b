"""Seconds for IntDiv1 and #Circles of 10,000 molecules, and against RDKit's Tanimoto similarities.

What bounds IntDiv1: one product of the fingerprints with themselves, 2 × 1024 × N² FLOP. #Circles compares
each molecule with the circles so far, so it depends on how many there are: both a wide distance and a narrow
one are timed. The molecules are samples of the shipped prior, which takes longer than all that is measured.

Run: python benchmarks/diversity.py [molecules]
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from prior_molecules import sampled
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from allmodes.chem.fingerprints import fingerprints
from allmodes.metrics import internal_diversity, num_circles

DISTANCES = (0.75, 0.5)
LIMIT = 5.0  # seconds, for 10,000 molecules


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def by_rdkit(smiles: list[str]) -> float:
    """IntDiv1 by RDKit's bulk similarities."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(line)) for line in smiles]
    total = sum(sum(DataStructs.BulkTanimotoSimilarity(one, prints)) for one in prints)
    return 1 - total / len(prints) ** 2


def main() -> None:
    """Print each figure's seconds and ratio to RDKit's."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    smiles = sampled(count)
    making, prints = timed(lambda: fingerprints(smiles))
    peer, expected = timed(lambda: by_rdkit(smiles))
    seconds, diversity = timed(lambda: internal_diversity(prints))
    assert abs(diversity - expected) < 1e-5, (diversity, expected)
    print(f"{count} molecules, {torch.get_num_threads()} threads; limit {LIMIT:g} s for 10,000")
    print(f"fingerprints       {making:6.2f} s")
    print(f"IntDiv1 {diversity:.4f}     {seconds:6.2f} s, {peer / seconds:5.1f} times as fast as RDKit")
    for distance in DISTANCES:
        seconds, kept = timed(lambda distance=distance: num_circles(prints, distance=distance))
        print(f"#Circles at {distance:4.2f}   {seconds:6.2f} s, {len(kept)} circles")


if __name__ == "__main__":
    main()
