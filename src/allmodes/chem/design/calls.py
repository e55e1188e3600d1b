"""The oracle calls of a run: counted exactly, computed in parallel, and recorded as soon as they finish."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import final

from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.ledger import Ledger
from allmodes.chem.oracles.oracle import Oracle
from allmodes.chem.oracles.results import Evaluation


@final
@dataclass(frozen=True, kw_only=True)
class Asked:
    """The oracle calls of one batch.

    unseen: how many molecules of the batch were new. molecules: those of them within the budget, which are
    its calls, after `calls_before` others.
    """

    unseen: int
    calls_before: int
    molecules: list[str]


@final
class OracleCalls:
    """Sends new molecules to the oracle, within the budget, and waits for results.

    A molecule's call number is fixed when it is submitted, so nothing depends on the order of results.
    hits: calls with a reward of at least the hit threshold, among the batches that were waited for.
    """

    def __init__(self, config: MoleculesConfig, oracle: Oracle, ledger: Ledger, *, hits: int) -> None:
        self._config, self._oracle, self._ledger = config, oracle, ledger
        self._in_flight: set[Future[Evaluation]] = set()
        self._error: BaseException | None = None
        self._news = threading.Condition()
        self.hits = hits

    @property
    def enough_hits(self) -> bool:
        """Whether the run has reached the number of hits at which it stops."""
        return self._config.stop_at_hits is not None and self.hits >= self._config.stop_at_hits

    def knows(self, smiles: str) -> bool:
        """Whether a molecule was submitted before; submitting it again costs no call."""
        return self._ledger.knows(smiles)

    def ask(self, smiles: Sequence[str | None], *, step: int) -> Asked:
        """Begin the calls of a batch of canonical SMILES, None for invalid samples."""
        molecules = dict.fromkeys(line for line in smiles if line is not None)
        unseen = [line for line in molecules if not self._ledger.knows(line)]
        calls_before = self._ledger.calls
        asked = unseen[: self._config.budget - calls_before]
        missing = []
        with self._news:
            for line in asked:
                self._ledger.begin(line, step=step)
                evaluation = self._ledger.recovered(line)
                if evaluation is None:
                    missing.append(line)
                else:
                    self._ledger.record(evaluation)
            futures = self._oracle.submit(missing)
            self._in_flight.update(futures)
        for future in futures:
            future.add_done_callback(self._record)
        return Asked(unseen=len(unseen), calls_before=calls_before, molecules=asked)

    def wait(self, asked: Asked) -> list[str]:
        """The molecules of a batch with their results, up to the last hit at which the run stops."""
        for number, line in enumerate(asked.molecules, start=1):
            with self._news:
                while (evaluation := self._ledger.evaluation(line)) is None:
                    if self._error is not None:
                        raise self._error
                    self._news.wait()
            self.hits += evaluation.reward is not None and evaluation.reward >= self._config.hit_threshold
            if self.enough_hits:
                self.give_up(after=asked.calls_before + number)
                return asked.molecules[:number]
        return asked.molecules

    def give_up(self, *, after: int) -> None:
        """Cancel the calls beyond number `after`."""
        with self._news:
            in_flight, self._in_flight = self._in_flight, set()
            self._ledger.forget(after=after)
        for future in in_flight:
            future.cancel()

    def _record(self, future: Future[Evaluation]) -> None:
        """Record a result in its worker's thread, so that a kill during an update loses none."""
        with self._news:
            if future not in self._in_flight:  # taken back
                return
            self._in_flight.remove(future)
            try:
                self._ledger.record(future.result())
            except Exception as error:  # noqa: BLE001 - raised where the result is waited for
                self._error = error
            self._news.notify_all()
