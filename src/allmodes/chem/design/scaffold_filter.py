"""Identical-Murcko-scaffold filter: limits how often a scaffold is rewarded."""

from collections import Counter
from collections.abc import Mapping
from typing import final

from allmodes.chem.molecules import murcko_scaffold


def scaffold_key(smiles: str) -> str:
    """The Murcko scaffold; for an acyclic molecule, which has none, the molecule itself."""
    return murcko_scaffold(smiles) or smiles


@final
class ScaffoldFilter:
    """Gives reward 0 to good molecules whose scaffold has come up `bucket_size` times before.

    Only molecules with a reward of at least `min_reward` fill buckets and are penalised. A molecule that is
    sampled again in a later batch counts again, so old hits are not rewarded forever.
    """

    def __init__(self, *, bucket_size: int, min_reward: float) -> None:
        self._bucket_size, self._min_reward = bucket_size, min_reward
        self._counts: Counter[str] = Counter()

    def penalise(self, rewards: Mapping[str, float], scaffolds: Mapping[str, str]) -> dict[str, float]:
        """Rewards by SMILES, penalised; call it once a batch with each molecule once, in sampled order."""
        penalised = {}
        for smiles, reward in rewards.items():
            if reward >= self._min_reward:
                scaffold = scaffolds[smiles]
                if self._counts[scaffold] >= self._bucket_size:
                    penalised[smiles] = 0.0
                    continue
                self._counts[scaffold] += 1
            penalised[smiles] = reward
        return penalised

    def full(self) -> set[str]:
        """Scaffolds that are no longer rewarded."""
        return {scaffold for scaffold, count in self._counts.items() if count >= self._bucket_size}

    def state(self) -> dict[str, int]:
        """What `restore` needs, ready for JSON."""
        return dict(self._counts)

    def restore(self, state: dict[str, int]) -> None:
        """Put back what `state` returned."""
        self._counts = Counter(state)
