"""What RDKit says of a SMILES: one spelling a molecule, scaffolds, fingerprints, other spellings."""

from collections.abc import Sequence

import numpy as np
import torch
from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold
from torch import Tensor

# Every invalid SMILES would otherwise print several lines; callers count and name them instead.
rdBase.DisableLog("rdApp.*")


def canonical_smiles(smiles: str) -> str | None:
    """The canonical isomeric SMILES, or None for what is no molecule (an empty string included).

    None, too, for text that is not printable ASCII, of which RDKit would drop characters, and for the rare
    molecule whose canonical SMILES RDKit itself cannot read back: no scorer could.
    """
    if not (smiles.isascii() and smiles.isprintable()):
        return None
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        return None
    molecule = Chem.MolFromSmiles(Chem.MolToSmiles(molecule))
    return None if molecule is None else Chem.MolToSmiles(molecule)


def murcko_scaffold(smiles: str) -> str:
    """Canonical SMILES of the Murcko scaffold; empty for an acyclic molecule."""
    return MurckoScaffold.MurckoScaffoldSmiles(smiles)


def random_smiles(smiles: str, *, count: int, seed: int) -> list[str]:
    """`count` spellings of one molecule, drawn with RDKit's generator seeded by `seed` (≥ 1)."""
    return list(Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(smiles), count, randomSeed=seed))


def fingerprints(smiles: Sequence[str]) -> Tensor:
    """Morgan fingerprints, radius 2, 1024 bits: (N, 1024) of uint8 zeros and ones."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    rows = [generator.GetFingerprintAsNumPy(Chem.MolFromSmiles(line)) for line in smiles]
    stacked = np.stack(rows) if rows else np.zeros((0, 1024))
    return torch.from_numpy(stacked.astype(np.uint8))
