"""One step of training: the batch, replayed molecules, and augmented memory."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.learner import Learner
from allmodes.chem.design.outcomes import OutcomeFrequencies
from allmodes.chem.design.replay import Remembered, ReplayBuffer
from allmodes.chem.design.rounds import Round, Scored
from allmodes.chem.design.scaffold_filter import ScaffoldFilter, scaffold_key
from allmodes.chem.molecules import random_smiles
from allmodes.chem.policies.policy import pad_tokens


@final
@dataclass(frozen=True, kw_only=True)
class Updated:
    """Figures of the update on the batch; log π_ref of its samples and then of replayed ones, (N,).

    not_replayable: molecules of the batch that hold tokens which the prior never saw.
    """

    figures: dict[str, float | None]
    ref_logprobs: Tensor
    not_replayable: int


@final
class Updates:
    """What a step trains on, in its order: the batch with replayed molecules, then other spellings."""

    def __init__(
        self,
        config: MoleculesConfig,
        learner: Learner,
        *,
        outcomes: OutcomeFrequencies,
        replay: ReplayBuffer,
        scaffolds: ScaffoldFilter | None,
        generator: torch.Generator,
    ) -> None:
        self._config, self._learner, self._outcomes = config, learner, outcomes
        self._replay, self._scaffolds, self._generator = replay, scaffolds, generator

    def train(self, batch: Round, scored: Scored, *, step: int) -> Updated:
        """All updates of a step."""
        if self._learner.counts_outcomes:
            self._outcomes.observe(batch.smiles)
        remembered = self._replay.sample(self._config.replay.sample, self._generator)
        replayed = self._learner.encode([entry.smiles for entry in remembered])
        replay_rewards = [remembered[index].reward for index in replayed]
        tokens = _stack(batch.samples.tokens, pad_tokens(list(replayed.values())))
        rewards = torch.cat([scored.penalised, torch.tensor(replay_rewards, dtype=torch.float32)])
        smiles = [*batch.smiles, *(remembered[index].smiles for index in replayed)]
        figures, ref_logprobs = self._learner.update(
            tokens, rewards, smiles, step=step, drawn=batch.samples.logprobs
        )
        not_replayable = self._remember(batch, scored)
        for _ in range(self._config.replay.augmentation_rounds):
            self._train_on_other_spellings(batch, scored, step=step)
        return Updated(figures=figures, ref_logprobs=ref_logprobs, not_replayable=not_replayable)

    def _remember(self, batch: Round, scored: Scored) -> int:
        """Offer this batch to the buffer; returns how many molecules hold tokens the prior never saw."""
        sampled = zip(batch.smiles, scored.penalised.tolist(), strict=True)
        rewards = {
            smiles: reward
            for smiles, reward in (*sampled, *scored.offspring.items())
            if smiles is not None and reward > 0  # False for NaN
        }
        known = self._learner.encode(list(rewards))
        least = self._replay.least
        self._replay.add(
            [
                Remembered(smiles, scaffold_key(smiles), reward)
                for index, (smiles, reward) in enumerate(rewards.items())
                if index in known and reward > least  # of the others no scaffold is needed
            ]
        )
        if self._scaffolds is not None:
            self._replay.purge(self._scaffolds.full())
        return len(rewards) - len(known)

    def _train_on_other_spellings(self, batch: Round, scored: Scored, *, step: int) -> None:
        """Augmented memory: one update on other spellings of this batch's molecules and of the buffer's."""
        rewards = {entry.smiles: entry.reward for entry in self._replay.entries}
        sampled = zip(batch.smiles, scored.penalised.tolist(), strict=True)
        rewards.update({smiles: reward for smiles, reward in sampled if smiles is not None})
        seed = int(torch.randint(1, 2**31 - 1, (), generator=self._generator))
        spellings = [random_smiles(smiles, count=1, seed=seed)[0] for smiles in rewards]
        encoded = self._learner.encode(spellings)
        molecules, values = list(rewards), list(rewards.values())
        chosen = torch.tensor([values[index] for index in encoded], dtype=torch.float32)
        spelt = [molecules[index] for index in encoded]
        self._learner.update(pad_tokens(list(encoded.values())), chosen, spelt, step=step)


def _stack(above: Tensor, below: Tensor) -> Tensor:
    """Two padded token tensors as one."""
    width = max(above.shape[1], below.shape[1])
    parts = [torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in (above, below)]
    return torch.cat(parts)
