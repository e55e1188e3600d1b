"""The design loop: sample molecules, score the new ones, move the agent toward the target."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import torch
from torch import Tensor

from allmodes.chem.config import Algorithm, MoleculesConfig
from allmodes.chem.design.calls import Asked, OracleCalls
from allmodes.chem.design.collapse import CollapseMonitor
from allmodes.chem.design.learner import Learner
from allmodes.chem.design.ledger import Ledger
from allmodes.chem.design.outcomes import OutcomeFrequencies
from allmodes.chem.design.replay import Remembered, ReplayBuffer
from allmodes.chem.design.scaffold_filter import ScaffoldFilter, scaffold_key
from allmodes.chem.molecules import canonical_smiles, random_smiles
from allmodes.chem.oracles.config import has_plain_program
from allmodes.chem.oracles.oracle import Oracle
from allmodes.chem.oracles.results import StrayLineError
from allmodes.chem.policies.policy import Samples, pad_tokens, save_policy
from allmodes.chem.policies.tokenizer import PAD
from allmodes.errors import RunError, UnknownTokenError
from allmodes.runs.checkpoint import AFRESH, load_checkpoint, save_checkpoint
from allmodes.runs.folder import RunFolder
from allmodes.runs.sample_log import SampleLog, sample_line
from allmodes.runs.seals import restoring, say_unverified

StopReason = Literal["budget", "hits", "collapse", "max_steps"]

# A step in which at least this many molecules were scored and all failed means a broken oracle.
_ALL_FAILED = 8
_OF_SAMPLES = ("tokens", "logprobs", "finished")


@final
@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a caller may show after each step; busy: share of worker time in use."""

    step: int
    calls: int
    hits: int
    mean_reward: float | None
    collapsed: bool
    busy: float | None = None


@final
@dataclass(frozen=True, kw_only=True)
class _Round:
    """One sampled batch on its way through the oracle; smiles: per sample, canonical, None if invalid."""

    samples: Samples
    texts: list[str]
    smiles: list[str | None]
    asked: Asked


@final
@dataclass(frozen=True, kw_only=True)
class _Scored:
    """The two rewards of a round's samples, (N,), its calls, and how many of them gave no reward."""

    raw: Tensor
    penalised: Tensor
    calls: int
    failures: int


@final
class DesignLoop:
    """One algorithm with one seed: REINVENT's loop, with MARA, or with the losses of GRPO and IPS-GRPO.

    With `lookahead` the oracle works on that many batches more than the one whose results the next update
    waits for. They were sampled by an earlier agent, always by the same, so results depend neither on the
    number of workers nor on who is done first, as long as no time limit strikes. REINVENT's squared loss may
    be taken at any samples; GRPO's advantages are weighted with the ratio of the two agents' probabilities.

    Everything that changes while it runs is in the checkpoint, so a killed run continues as if nothing had
    happened. Source: MARA, section 6.3 and equation 12; IPS, section 5.3; Saturn, Guo & Schwaller 2024.
    """

    def __init__(
        self, config: MoleculesConfig, *, algorithm: Algorithm, seed: int, folder: RunFolder, oracle: Oracle
    ) -> None:
        self._config, self._algorithm, self._folder, self._oracle = config, algorithm, folder, oracle
        self._outcomes = OutcomeFrequencies(config.ips)
        self._learner = Learner(config, algorithm, self._outcomes)
        self._generator = torch.Generator().manual_seed(seed)
        self._replay = ReplayBuffer(config.replay.size)
        scaffold = config.scaffold_filter
        self._filter = None if scaffold is None else ScaffoldFilter(
            bucket_size=scaffold.bucket_size, min_reward=scaffold.min_reward
        )  # fmt: skip
        self._samples = SampleLog(folder.path / "samples.jsonl")
        self._collapse = CollapseMonitor(window=config.collapse.window, min_new=config.collapse.min_new)
        self._step, self._sampling_seconds = 0, 0.0
        # A program without ids may have been a line behind in the batch in which the run was killed.
        trusted = _last_step(folder) if has_plain_program(config.oracle.components) else None
        with restoring(folder.checkpoint_path, remedy=AFRESH):
            state, ahead = self._restore()
        self._saved_calls: int = state["calls"]
        self._ledger = Ledger(folder.path / "ledger.sqlite", calls=state["calls"], trusted_steps=trusted)
        self._calls = OracleCalls(config, oracle, self._ledger, hits=state["hits"])
        self._rounds: deque[_Round] = deque()
        for samples in ahead:
            self._rounds.append(self._ask(samples))

    @property
    def calls(self) -> int:
        """Oracle calls so far."""
        return self._ledger.calls

    def run(self, on_step: Callable[[Progress], None]) -> StopReason:
        """Train until the budget is spent or a stop rule holds; returns which.

        Raises `StrayLineError` where answers may belong to other molecules, and then keeps no result that is
        younger than the last checkpoint; at the very end, where a program without ids has turned out to have
        said too much, none at all.
        """
        with self._ledger:
            try:
                reason = self._train(on_step)
            except StrayLineError:
                self._calls.give_up(after=self._saved_calls)
                raise
            try:
                self._oracle.finish()
            except StrayLineError:
                self._calls.give_up(after=0)
                self._folder.checkpoint_path.unlink(missing_ok=True)
                raise
            self._ledger.finish()
            self._save()
            agent = self._folder.path / "agent.safetensors"
            save_policy(agent, self._learner.agent, self._learner.tokenizer, half=True)
            return reason

    def _train(self, on_step: Callable[[Progress], None]) -> StopReason:
        """Every step up to the last; returns why it is the last."""
        while (reason := self._fill()) is None or self._rounds:
            self._step += 1
            row, times = self._train_step(self._rounds.popleft())
            self._folder.append_metrics(row)
            self._folder.append_timing({"step": self._step, **times})
            if self._step % self._config.checkpoint_every == 0:
                self._save()
            on_step(
                Progress(
                    step=self._step,
                    calls=row["calls"],
                    hits=self._calls.hits,
                    mean_reward=row["mean_reward"],
                    collapsed=self._collapse.collapsed,
                )
            )
        return reason

    def _fill(self) -> StopReason | None:
        """Have as many batches with the oracle as there shall be; returns why no more are sampled, if so."""
        reason = self._stop_reason()
        if reason in ("hits", "collapse") and self._rounds:
            self._calls.give_up(after=self._rounds[0].asked.calls_before)
            self._rounds.clear()
        while reason is None and len(self._rounds) <= self._config.lookahead:
            self._rounds.append(self._sample_round())
            reason = self._stop_reason()
        return reason

    def _stop_reason(self) -> StopReason | None:
        """Why no more batches are sampled, if so."""
        config = self._config
        steps_for_budget = math.ceil(config.budget / config.batch_size)
        if self._ledger.calls >= config.budget:
            return "budget"
        if self._calls.enough_hits:
            return "hits"
        if config.collapse.action == "stop" and self._collapse.collapsed:
            return "collapse"
        # An agent that has collapsed onto known molecules would never spend its budget.
        most = 10 * steps_for_budget if config.max_steps is None else config.max_steps
        if self._step + len(self._rounds) >= most:
            return "max_steps"
        return None

    def _sample_round(self) -> _Round:
        started = time.perf_counter()
        agent = self._learner.agent
        samples = agent.sample(
            self._config.batch_size, max_length=self._config.max_tokens, generator=self._generator
        )
        if self._learner.needs_sampled_logprobs:  # by the same passes: in bfloat16 the sampler's differ
            with torch.no_grad():
                samples = replace(samples, logprobs=agent.logprobs(samples.tokens))
        self._sampling_seconds += time.perf_counter() - started
        return self._ask(samples)

    def _ask(self, samples: Samples) -> _Round:
        texts = [self._learner.tokenizer.decode(ids) for ids in samples.tokens.tolist()]
        smiles = [
            canonical_smiles(text) if ended else None
            for text, ended in zip(texts, samples.finished.tolist(), strict=True)
        ]
        asked = self._calls.ask(smiles, step=self._step + 1 + len(self._rounds))
        return _Round(samples=samples, texts=texts, smiles=smiles, asked=asked)

    def _train_step(self, batch: _Round) -> tuple[dict[str, Any], dict[str, float]]:
        started = time.perf_counter()
        scored = self._score(batch)
        known = time.perf_counter()

        if self._algorithm == "ips-grpo":
            self._outcomes.observe(batch.smiles)
        remembered = self._replay.sample(self._config.replay.sample, self._generator)
        replayed = self._encode([entry.smiles for entry in remembered])
        replay_rewards = [remembered[index].reward for index in replayed]
        tokens = _stack(batch.samples.tokens, pad_tokens(list(replayed.values())))
        rewards = torch.cat([scored.penalised, torch.tensor(replay_rewards, dtype=torch.float32)])
        smiles = [*batch.smiles, *(remembered[index].smiles for index in replayed)]
        update, ref_logprobs = self._learner.update(
            tokens, rewards, smiles, step=self._step, sampled=batch.samples.logprobs
        )
        self._samples.append(self._sample_rows(batch, scored, ref_logprobs))
        not_replayable = self._remember(batch, scored)
        for _ in range(self._config.replay.augmentation_rounds):
            self._augmented_update(batch, scored)
        updated = time.perf_counter()

        is_valid = torch.tensor([smiles is not None for smiles in batch.smiles])
        count = len(batch.smiles)
        self._collapse.observe(batch.asked.unseen / count)
        row = {
            "step": self._step,
            "calls": batch.asked.calls_before + scored.calls,
            "hits": self._calls.hits,
            "mean_reward": _mean(scored.raw[is_valid]),
            "mean_penalised_reward": _mean(scored.penalised[is_valid]),
            "validity": float(is_valid.float().mean()),
            "new_share": batch.asked.unseen / count,
            "failures": scored.failures,
            "replay_size": len(self._replay),
            "unknown_tokens": not_replayable,
            "agent_nll": -float(batch.samples.logprobs.mean()),
            "collapsed": self._collapse.collapsed,
            **update,
        }
        times = {"sample": self._sampling_seconds, "score": known - started, "update": updated - known}
        self._sampling_seconds = 0.0
        return row, times

    def _sample_rows(self, batch: _Round, scored: _Scored, ref_logprobs: Tensor) -> Iterator[str]:
        """A line for every sample as it was drawn, in the format of `allmodes audit`."""
        samples = batch.samples
        lengths = (samples.tokens != PAD).sum(1).tolist()
        columns = (samples.logprobs.tolist(), samples.finished.tolist(), scored.raw.tolist())
        for number, (text, smiles) in enumerate(zip(batch.texts, batch.smiles, strict=True)):
            logprob, finished, reward = (column[number] for column in columns)
            ref_logprob = float(ref_logprobs[number])
            yield sample_line(
                {
                    "step": self._step,
                    "response": text,
                    "outcome": smiles,
                    "reward": None if math.isnan(reward) else reward,
                    "ref_logprob": None if math.isnan(ref_logprob) else ref_logprob,
                    "policy_logprob": logprob,
                    "num_tokens": lengths[number],
                    "truncated": not finished,
                }
            )

    def _score(self, batch: _Round) -> _Scored:
        asked = self._calls.wait(batch.asked)
        if self._calls.enough_hits:
            self._rounds.clear()  # their calls are taken back
        # Missing: molecules beyond the budget or the hits. None: molecules that failed.
        raw = {
            line: evaluation.reward
            for line in dict.fromkeys(batch.smiles)
            if line is not None and (evaluation := self._ledger.evaluation(line)) is not None
        }
        rewards = {line: reward for line, reward in raw.items() if reward is not None}
        failures = [line for line in asked if line not in rewards]
        if len(failures) == len(asked) >= _ALL_FAILED:
            evaluation = self._ledger.evaluation(failures[0])
            # These are no results: when the oracle works again, a resumed run shall ask it again.
            self._ledger.forget(after=batch.asked.calls_before)
            raise RunError(
                f"the oracle failed for all {len(asked)} molecules of step {self._step}; the first: "
                f"{failures[0]}: {evaluation.failure if evaluation else ''}"
            )
        penalised = self._penalise(rewards)
        self._ledger.record_penalised((line, penalised.get(line)) for line in asked)
        if self._config.oracle.failed == "zero":
            penalised |= {line: 0.0 for line in raw if line not in rewards}
        return _Scored(
            raw=_per_sample(batch.smiles, rewards),
            penalised=_per_sample(batch.smiles, penalised),
            calls=len(asked),
            failures=len(failures),
        )

    def _penalise(self, rewards: dict[str, float]) -> dict[str, float]:
        if self._filter is None:
            return dict(rewards)
        return self._filter.penalise(rewards, {smiles: scaffold_key(smiles) for smiles in rewards})

    def _remember(self, batch: _Round, scored: _Scored) -> int:
        """Offer this batch to the buffer; returns how many molecules hold tokens the prior never saw."""
        entries: dict[str, Remembered] = {}
        for smiles, reward in zip(batch.smiles, scored.penalised.tolist(), strict=True):
            if smiles is not None and reward > 0:  # False for NaN
                entries[smiles] = Remembered(smiles, scaffold_key(smiles), reward)
        known = self._encode(list(entries))
        self._replay.add([entry for index, entry in enumerate(entries.values()) if index in known])
        if self._filter is not None:
            self._replay.purge(self._filter.full())
        return len(entries) - len(known)

    def _augmented_update(self, batch: _Round, scored: _Scored) -> None:
        """Augmented memory: one update on other spellings of this batch's molecules and of the buffer's."""
        rewards = {entry.smiles: entry.reward for entry in self._replay.entries}
        sampled = zip(batch.smiles, scored.penalised.tolist(), strict=True)
        rewards.update({smiles: reward for smiles, reward in sampled if smiles is not None})
        seed = int(torch.randint(1, 2**31 - 1, (), generator=self._generator))
        spellings = [random_smiles(smiles, count=1, seed=seed)[0] for smiles in rewards]
        encoded = self._encode(spellings)
        molecules, values = list(rewards), list(rewards.values())
        chosen = torch.tensor([values[index] for index in encoded], dtype=torch.float32)
        spelt = [molecules[index] for index in encoded]
        self._learner.update(pad_tokens(list(encoded.values())), chosen, spelt, step=self._step)

    def _encode(self, smiles: Sequence[str]) -> dict[int, list[int]]:
        """Token ids by position, without those that are too long or hold a token the prior never saw.

        Another spelling of a known molecule may hold one, a ring closure of two digits say.
        """
        encoded = {}
        for index, text in enumerate(smiles):
            try:
                ids = self._learner.tokenizer.encode(text)
            except UnknownTokenError:
                continue
            if len(ids) <= self._config.max_tokens:
                encoded[index] = ids
        return encoded

    def _save(self) -> None:
        self._ledger.flush()
        tensors = {**self._learner.tensors(), "generator": self._generator.get_state()}
        for number, ahead in enumerate(self._rounds):
            tensors |= {f"ahead.{number}.{name}": getattr(ahead.samples, name) for name in _OF_SAMPLES}
        state = {
            "step": self._step,
            "calls": self._rounds[0].asked.calls_before if self._rounds else self._ledger.calls,
            "hits": self._calls.hits,
            "ahead": len(self._rounds),
            "replay": self._replay.state(),
            "filter": None if self._filter is None else self._filter.state(),
            "collapse": self._collapse.state(),
            "outcomes": self._outcomes.state(),
            "files": self._folder.mark_logs(),
            "learner": self._learner.state(),
        }
        save_checkpoint(self._folder.checkpoint_path, tensors, state)
        self._saved_calls = state["calls"]

    def _restore(self) -> tuple[dict[str, Any], list[Samples]]:
        """Put back the last checkpoint, if there is one; returns its state and the batches ahead."""
        if not self._folder.checkpoint_path.exists():
            self._folder.restore_logs({})
            return {"calls": 0, "hits": 0}, []
        tensors, state = load_checkpoint(self._folder.checkpoint_path)
        self._learner.restore(tensors, state.get("learner"))
        self._generator.set_state(tensors["generator"])
        self._step = state["step"]
        self._replay.restore(state["replay"])
        if self._filter is not None:
            self._filter.restore(state["filter"])
        self._collapse.restore(state["collapse"])
        self._outcomes.restore(state["outcomes"])
        if "files" in state:
            self._folder.restore_logs(state["files"])
        else:
            say_unverified(self._folder.checkpoint_path)
            self._folder.keep_metrics(lambda row: row["step"] <= self._step)
            self._samples.begin(step=self._step + 1, overwrite=True)
        return state, [
            Samples(**{name: tensors[f"ahead.{number}.{name}"] for name in _OF_SAMPLES})
            for number in range(state["ahead"])
        ]


def _last_step(folder: RunFolder) -> int:
    """The last step that was done before the run was interrupted, as far as its metrics can be read."""
    try:
        return max((row["step"] for row in folder.read_metrics()), default=0)
    except (RunError, KeyError, TypeError):
        return 0


def _per_sample(smiles: Sequence[str | None], rewards: dict[str, float]) -> Tensor:
    """Rewards by sample, (N,): 0 for an invalid SMILES, NaN for a molecule without a reward.

    0 for what the oracle never saw is REINVENT's convention. Updates leave NaN out.
    """
    values = [0.0 if line is None else rewards.get(line, math.nan) for line in smiles]
    return torch.tensor(values, dtype=torch.float32)


def _stack(above: Tensor, below: Tensor) -> Tensor:
    """Two padded token tensors as one."""
    width = max(above.shape[1], below.shape[1])
    parts = [torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in (above, below)]
    return torch.cat(parts)


def _mean(values: Tensor) -> float | None:
    scored = values[~values.isnan()]
    return float(scored.mean()) if len(scored) else None
