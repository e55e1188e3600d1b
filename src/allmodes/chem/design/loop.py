"""The design loop: sample molecules, score the new ones, move the agent toward the target."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, final

import torch

from allmodes.chem.arms import Arm
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.calls import OracleCalls
from allmodes.chem.design.collapse import CollapseMonitor
from allmodes.chem.design.learner import Learner
from allmodes.chem.design.ledger import Ledger
from allmodes.chem.design.outcomes import OutcomeFrequencies, regions_of
from allmodes.chem.design.records import metrics_row, new_share, sample_rows
from allmodes.chem.design.replay import ReplayBuffer
from allmodes.chem.design.rounds import Round, Rounds, Scoring
from allmodes.chem.design.scaffold_filter import ScaffoldFilter
from allmodes.chem.design.updates import Updates
from allmodes.chem.oracles.config import has_plain_program
from allmodes.chem.oracles.oracle import Oracle
from allmodes.chem.oracles.results import StrayLineError
from allmodes.chem.policies.policy import Samples, save_policy
from allmodes.errors import RunError
from allmodes.runs.checkpoint import AFRESH, load_checkpoint, save_checkpoint
from allmodes.runs.folder import RunFolder
from allmodes.runs.sample_log import SampleLog
from allmodes.runs.seals import restoring, say_unverified

StopReason = Literal["budget", "hits", "collapse", "max_steps"]

_OF_SAMPLES = ("tokens", "logprobs", "finished")


@final
@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress after each step; busy: share of worker time in use."""

    step: int
    calls: int
    hits: int
    mean_reward: float | None
    collapsed: bool
    busy: float | None = None


@final
class DesignLoop:
    """One arm with one seed: a loss, such as REINVENT's or GRPO's, and a method that changes the rewards.

    With `lookahead` the oracle works on that many batches more than the one whose results the next update
    waits for. They were sampled by an earlier agent, always by the same, so results depend neither on the
    number of workers nor on who is done first, as long as no time limit strikes. REINVENT's squared loss may
    be taken at any samples; GRPO's advantages are weighted with the ratio of the two agents' probabilities.

    All state is in the checkpoint, so a killed run resumes as if nothing had
    happened. Source: MARA, section 6.3 and equation 12; IPS, section 5.3; Saturn, Guo & Schwaller 2024.
    """

    def __init__(
        self, config: MoleculesConfig, *, arm: Arm, seed: int, folder: RunFolder, oracle: Oracle
    ) -> None:
        self._config, self._folder, self._oracle = config, folder, oracle
        self._outcomes = OutcomeFrequencies(config.outcomes, regions_of(config))
        self._learner = Learner(config, arm, self._outcomes)
        self._generator = torch.Generator().manual_seed(seed)
        self._replay = ReplayBuffer(config.replay.size)
        scaffold = config.scaffold_filter
        self._filter = None if scaffold is None else ScaffoldFilter(
            bucket_size=scaffold.bucket_size, min_reward=scaffold.min_reward
        )  # fmt: skip
        self._samples = SampleLog(folder.path / "samples.jsonl")
        self._collapse = CollapseMonitor(window=config.collapse.window, min_new=config.collapse.min_new)
        self._step = 0
        # A program without ids may have been a line behind in the batch in which the run was killed.
        trusted = _last_step(folder) if has_plain_program(config.oracle.components) else None
        with restoring(folder.checkpoint_path, remedy=AFRESH):
            state, ahead = self._restore()
        self._saved_calls: int = state["calls"]
        self._ledger = Ledger(folder.path / "ledger.sqlite", calls=state["calls"], trusted_steps=trusted)
        self._calls = OracleCalls(config, oracle, self._ledger, hits=state["hits"])
        self._scoring = Scoring(config, self._calls, self._ledger, self._filter)
        self._updates = Updates(
            config,
            self._learner,
            outcomes=self._outcomes,
            replay=self._replay,
            scaffolds=self._filter,
            generator=self._generator,
        )
        self._rounds = Rounds(config, self._learner, self._calls, self._replay, self._generator)
        for samples, offspring in ahead:
            self._rounds.ask(samples, offspring, step=self._step + 1)

    @property
    def calls(self) -> int:
        """Oracle calls so far."""
        return self._ledger.calls

    @property
    def step(self) -> int:
        """Updates so far."""
        return self._step

    def run(
        self, on_step: Callable[[Progress], None], on_row: Callable[[dict[str, Any]], None] | None = None
    ) -> StopReason:
        """Train until the budget is spent or a stop rule holds; returns which.

        on_row: gets each row of metrics.jsonl, when the ledger has its step.

        Raises `StrayLineError` if answers may belong to other molecules, and then keeps no result that is
        younger than the last checkpoint; at the very end, where a program without ids has turned out to have
        said too much, none at all.
        """
        with self._ledger:
            try:
                reason = self._train(on_step, on_row)
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

    def _train(
        self, on_step: Callable[[Progress], None], on_row: Callable[[dict[str, Any]], None] | None
    ) -> StopReason:
        """Every step up to the last; returns why it is the last."""
        while (reason := self._fill()) is None or self._rounds:
            self._step += 1
            row, times = self._train_step(self._rounds.take())
            self._folder.append_metrics(row)
            self._folder.append_timing({"step": self._step, **times})
            if self._step % self._config.checkpoint_every == 0:
                self._save()
            if on_row is not None:
                on_row(row)
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
        before = self._rounds.calls_before
        if reason in ("hits", "collapse") and before is not None:
            self._calls.give_up(after=before)
            self._rounds.forget()
        while reason is None and len(self._rounds) <= self._config.lookahead:
            self._rounds.sample(step=self._step + 1)
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

    def _train_step(self, batch: Round) -> tuple[dict[str, Any], dict[str, float]]:
        """The figures of one step, and its times."""
        started = time.perf_counter()
        scored = self._scoring.score(batch, step=self._step)
        if self._calls.enough_hits:
            self._rounds.forget()  # their calls are taken back
        known = time.perf_counter()
        updated = self._updates.train(batch, scored, step=self._step)
        self._samples.append(sample_rows(batch, scored, updated.ref_logprobs, step=self._step))
        done = time.perf_counter()
        self._collapse.observe(new_share(batch))
        row = metrics_row(
            batch,
            scored,
            updated,
            step=self._step,
            hits=self._calls.hits,
            replay_size=len(self._replay),
            collapsed=self._collapse.collapsed,
        )
        times = {"sample": self._rounds.sampling_seconds(), "score": known - started, "update": done - known}
        return row, times

    def _save(self) -> None:
        self._ledger.flush()
        tensors = {**self._learner.tensors(), "generator": self._generator.get_state()}
        for number, samples in enumerate(self._rounds.samples):
            tensors |= {f"ahead.{number}.{name}": getattr(samples, name) for name in _OF_SAMPLES}
        before = self._rounds.calls_before
        state = {
            "step": self._step,
            "calls": self._ledger.calls if before is None else before,
            "hits": self._calls.hits,
            "ahead": len(self._rounds),
            "ahead_offspring": self._rounds.offspring,
            "replay": self._replay.state(),
            "filter": None if self._filter is None else self._filter.state(),
            "collapse": self._collapse.state(),
            "outcomes": self._outcomes.state(),
            "files": self._folder.mark_logs(),
            "learner": self._learner.state(),
        }
        save_checkpoint(self._folder.checkpoint_path, tensors, state)
        self._saved_calls = state["calls"]

    def _restore(self) -> tuple[dict[str, Any], list[tuple[Samples, list[str]]]]:
        """Put back the last checkpoint, if any; returns its state, and the batches ahead with offspring."""
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
        ahead = [
            Samples(**{name: tensors[f"ahead.{number}.{name}"] for name in _OF_SAMPLES})
            for number in range(state["ahead"])
        ]
        return state, list(zip(ahead, state.get("ahead_offspring", [[] for _ in ahead]), strict=True))


def _last_step(folder: RunFolder) -> int:
    """The last step that was done before the run was interrupted, as far as its metrics can be read."""
    try:
        return max((row["step"] for row in folder.read_metrics()), default=0)
    except (RunError, KeyError, TypeError):
        return 0
