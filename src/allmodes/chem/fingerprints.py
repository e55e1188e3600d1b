"""Fingerprints of molecules as tensors; apart from `molecules`, which worker processes load without torch."""

from collections.abc import Sequence

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from torch import Tensor


def fingerprints(smiles: Sequence[str], *, bits: int = 1024) -> Tensor:
    """Morgan fingerprints, radius 2: (N, bits) of uint8 zeros and ones."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=bits)
    rows = [generator.GetFingerprintAsNumPy(Chem.MolFromSmiles(line)) for line in smiles]
    stacked = np.stack(rows) if rows else np.zeros((0, bits))
    return torch.from_numpy(stacked.astype(np.uint8))
