"""Replay buffer: the best molecules found so far, one spelling each."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, final

import torch


@final
@dataclass(frozen=True)
class Remembered:
    """A molecule in the buffer: canonical SMILES, its scaffold, and the reward it is replayed with."""

    smiles: str
    scaffold: str
    reward: float


@final
class ReplayBuffer:
    """Keeps the `size` molecules with the highest rewards; earlier ones win ties."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: dict[str, Remembered] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> list[Remembered]:
        """Best first."""
        return list(self._entries.values())

    @property
    def least(self) -> float:
        """A molecule enters only with a reward above this; 0 while there is space."""
        return self.entries[-1].reward if 0 < self._size <= len(self._entries) else 0.0

    def add(self, molecules: list[Remembered]) -> None:
        """Offer molecules by canonical SMILES; one that is in the buffer already is left as it is."""
        for molecule in molecules:
            self._entries.setdefault(molecule.smiles, molecule)
        best = sorted(self._entries.values(), key=lambda entry: -entry.reward)[: self._size]
        self._entries = {entry.smiles: entry for entry in best}

    def purge(self, scaffolds: Collection[str]) -> None:
        """Forget the molecules with these scaffolds (Saturn's selective purge)."""
        self._entries = {s: entry for s, entry in self._entries.items() if entry.scaffold not in scaffolds}

    def sample(self, count: int, generator: torch.Generator) -> list[Remembered]:
        """At most `count` different molecules, drawn uniformly."""
        chosen = torch.randperm(len(self._entries), generator=generator)[:count].tolist()
        entries = self.entries
        return [entries[index] for index in chosen]

    def state(self) -> list[list[Any]]:
        """What `restore` needs, ready for JSON."""
        return [[entry.smiles, entry.scaffold, entry.reward] for entry in self.entries]

    def restore(self, state: list[list[Any]]) -> None:
        """Put back what `state` returned."""
        self._entries = {smiles: Remembered(smiles, scaffold, reward) for smiles, scaffold, reward in state}
