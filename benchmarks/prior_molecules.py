"""Molecules for the benchmarks: samples of the shipped prior."""

import torch

from allmodes.chem.molecules import canonical_smiles
from allmodes.chem.policies.policy import load_policy
from allmodes.chem.policies.prior import shipped_prior


def sampled(count: int) -> list[str]:
    """Different molecules of one fragment, in the order they came; the same every time."""
    policy, tokenizer = load_policy(shipped_prior())
    generator = torch.Generator().manual_seed(0)
    found: dict[str, None] = {}
    while len(found) < count:
        samples = policy.sample(128, max_length=100, generator=generator)
        decoded = [tokenizer.decode(row) for row in samples.tokens.tolist()]
        molecules = filter(None, map(canonical_smiles, decoded))
        found |= {smiles: None for smiles in molecules if "." not in smiles}
    return list(found)[:count]
