"""Batches in progress: sampled, being scored, or scored."""

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.calls import Asked, OracleCalls
from allmodes.chem.design.genetic import make_offspring
from allmodes.chem.design.learner import Learner
from allmodes.chem.design.ledger import Ledger
from allmodes.chem.design.replay import ReplayBuffer
from allmodes.chem.design.scaffold_filter import ScaffoldFilter, scaffold_key
from allmodes.chem.molecules import canonical_smiles
from allmodes.chem.policies.policy import Samples
from allmodes.errors import RunError

# A step in which at least this many molecules were scored and all failed means a broken oracle.
_ALL_FAILED = 8


@final
@dataclass(frozen=True, kw_only=True)
class Round:
    """One sampled batch that is being scored.

    smiles: per sample, canonical, None if invalid. offspring: molecules that are asked for with them and were
    not sampled.
    """

    samples: Samples
    texts: list[str]
    smiles: list[str | None]
    offspring: list[str]
    asked: Asked


@final
@dataclass(frozen=True, kw_only=True)
class Scored:
    """The two rewards of a round's samples, (N,), its calls, and how many of them gave no reward.

    offspring: the penalised reward of each offspring that has one.
    """

    raw: Tensor
    penalised: Tensor
    offspring: dict[str, float]
    calls: int
    failures: int


@final
class Rounds:
    """The batches that the oracle works on, the oldest first; the agent of the moment samples a new one."""

    def __init__(
        self,
        config: MoleculesConfig,
        learner: Learner,
        calls: OracleCalls,
        replay: ReplayBuffer,
        generator: torch.Generator,
    ) -> None:
        self._config, self._learner, self._calls = config, learner, calls
        self._replay, self._generator = replay, generator
        self._waiting: deque[Round] = deque()
        self._seconds = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def samples(self) -> list[Samples]:
        """What was sampled, for a checkpoint."""
        return [waiting.samples for waiting in self._waiting]

    @property
    def offspring(self) -> list[list[str]]:
        """The offspring of each batch, for a checkpoint."""
        return [waiting.offspring for waiting in self._waiting]

    @property
    def calls_before(self) -> int | None:
        """The number of calls before the oldest batch; None without one."""
        return self._waiting[0].asked.calls_before if self._waiting else None

    def sample(self, *, step: int) -> None:
        """Sample a batch and ask the oracle about it; step: the number of the oldest batch's update."""
        started = time.perf_counter()
        samples = self._learner.sample(self._generator)
        offspring = self._breed()
        self._seconds += time.perf_counter() - started
        self.ask(samples, offspring, step=step)

    def _breed(self) -> list[str]:
        """Offspring of the molecules in the replay buffer that the agent can write."""
        genetic = self._config.genetic
        if genetic is None:
            return []
        made = make_offspring(
            [entry.smiles for entry in self._replay.entries],
            genetic.offspring,
            is_known=self._calls.knows,
            mutation=genetic.mutation,
            seed=int(torch.randint(1, 2**31 - 1, (), generator=self._generator)),
        )
        return [made[index] for index in self._learner.encode(made)]

    def ask(self, samples: Samples, offspring: Sequence[str], *, step: int) -> None:
        """Ask the oracle about a batch that is sampled already, and its offspring."""
        texts = [self._learner.tokenizer.decode(ids) for ids in samples.tokens.tolist()]
        smiles = [
            canonical_smiles(text) if ended else None
            for text, ended in zip(texts, samples.finished.tolist(), strict=True)
        ]
        others = [line for line in offspring if line not in smiles]
        asked = self._calls.ask([*smiles, *others], step=step + len(self._waiting))
        self._waiting.append(
            Round(samples=samples, texts=texts, smiles=smiles, offspring=others, asked=asked)
        )

    def take(self) -> Round:
        """The oldest batch, which is no longer one of them."""
        return self._waiting.popleft()

    def forget(self) -> None:
        """Drop the batches; the caller cancels their calls."""
        self._waiting.clear()

    def sampling_seconds(self) -> float:
        """The time that sampling took since this was asked last."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


@final
class Scoring:
    """The rewards of a batch once the oracle has answered: raw, and under the scaffold filter."""

    def __init__(
        self, config: MoleculesConfig, calls: OracleCalls, ledger: Ledger, scaffolds: ScaffoldFilter | None
    ) -> None:
        self._config, self._calls, self._ledger, self._scaffolds = config, calls, ledger, scaffolds

    def score(self, batch: Round, *, step: int) -> Scored:
        """Wait for a batch's results. Raises RunError if every molecule of a large batch failed."""
        asked = self._calls.wait(batch.asked)
        # Missing: molecules beyond the budget or the hits. None: molecules that failed.
        raw = {
            line: evaluation.reward
            for line in dict.fromkeys([*batch.smiles, *batch.offspring])
            if line is not None and (evaluation := self._ledger.evaluation(line)) is not None
        }
        rewards = {line: reward for line, reward in raw.items() if reward is not None}
        failures = [line for line in asked if line not in rewards]
        if len(failures) == len(asked) >= _ALL_FAILED:
            evaluation = self._ledger.evaluation(failures[0])
            # These are no results: when the oracle works again, a resumed run shall ask it again.
            self._ledger.forget(after=batch.asked.calls_before)
            raise RunError(
                f"the oracle failed for all {len(asked)} molecules of step {step}; the first: "
                f"{failures[0]}: {evaluation.failure if evaluation else ''}"
            )
        penalised = self._penalise(rewards)
        self._ledger.record_penalised((line, penalised.get(line)) for line in asked)
        if self._config.oracle.failed == "zero":
            penalised |= {line: 0.0 for line in raw if line not in rewards}
        return Scored(
            raw=_per_sample(batch.smiles, rewards),
            penalised=_per_sample(batch.smiles, penalised),
            offspring={line: penalised[line] for line in batch.offspring if line in penalised},
            calls=len(asked),
            failures=len(failures),
        )

    def _penalise(self, rewards: dict[str, float]) -> dict[str, float]:
        if self._scaffolds is None:
            return dict(rewards)
        return self._scaffolds.penalise(rewards, {smiles: scaffold_key(smiles) for smiles in rewards})


def _per_sample(smiles: Sequence[str | None], rewards: dict[str, float]) -> Tensor:
    """Rewards by sample, (N,): 0 for an invalid SMILES, NaN for a molecule without a reward.

    0 for what the oracle never saw is REINVENT's convention. Updates leave NaN out.
    """
    values = [0.0 if line is None else rewards.get(line, math.nan) for line in smiles]
    return torch.tensor(values, dtype=torch.float32)
