"""The ledger: every oracle call of a run, one row each, in SQLite."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import final

import torch
from torch import Tensor

from allmodes.chem.oracles.results import Evaluation
from allmodes.errors import RunError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS evaluations (
    call INTEGER PRIMARY KEY,       -- 1 for the first oracle call of the run
    step INTEGER NOT NULL,          -- training step, from 1
    smiles TEXT NOT NULL,           -- canonical isomeric SMILES
    raw TEXT NOT NULL,              -- JSON: raw value by component
    shaped TEXT NOT NULL,           -- JSON: score by component
    reward REAL,                    -- NULL when a component failed
    penalised_reward REAL,          -- after the scaffold filter, as first used for training
    failure TEXT                    -- what failed, or NULL
)
"""


@final
@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """One oracle call."""

    call: int
    step: int
    evaluation: Evaluation
    penalised_reward: float | None


@final
class Ledger:
    """Oracle calls in order, each molecule once. Use it as a context manager.

    A result is committed as soon as it is known. A resumed run continues from `calls` of its checkpoint;
    results beyond that are kept and used again when their molecule comes up, so none is computed twice.
    """

    def __init__(self, path: Path, *, calls: int = 0) -> None:
        try:
            self._database = sqlite3.connect(path)
            self._database.execute("PRAGMA journal_mode = WAL")
            # A commit then survives the end of this process at once, and the loss of power after `flush`.
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise RunError(f"cannot open ledger {path}: {error}") from error
        self._path = path
        self.calls = calls
        rows = read_ledger(path)
        self._known = {row.evaluation.smiles: row for row in rows if row.call <= calls}
        self._recovered = {row.evaluation.smiles: row.evaluation for row in rows if row.call > calls}
        if len(self._known) != calls:
            raise RunError(
                f"ledger {path}: expected {calls} calls up to the checkpoint; got {len(self._known)}"
            )

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def evaluation(self, smiles: str) -> Evaluation | None:
        """The result of a molecule that this run has scored, else None."""
        row = self._known.get(smiles)
        return None if row is None else row.evaluation

    def recovered(self, smiles: str) -> Evaluation | None:
        """The result of a molecule that was scored after the checkpoint, before the run was killed."""
        return self._recovered.get(smiles)

    def record(self, evaluation: Evaluation, *, step: int) -> None:
        """Count one oracle call and commit its result."""
        self.calls += 1
        row = LedgerRow(call=self.calls, step=step, evaluation=evaluation, penalised_reward=None)
        self._known[evaluation.smiles] = row
        values = (
            row.call,
            step,
            evaluation.smiles,
            json.dumps(evaluation.raw),
            json.dumps(evaluation.shaped),
            evaluation.reward,
            None,
            evaluation.failure,
        )
        self._write("INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [values])

    def record_penalised(self, rewards: Iterable[tuple[str, float | None]]) -> None:
        """Add the penalised rewards of molecules that were recorded in this step."""
        rows = [(reward, self._known[smiles].call) for smiles, reward in rewards]
        self._write("UPDATE evaluations SET penalised_reward = ? WHERE call = ?", rows)

    def forget(self, *, after: int) -> None:
        """Drop the calls after number `after`: a broken oracle's answers are not worth keeping."""
        self._write("DELETE FROM evaluations WHERE call > ?", [(after,)])
        self._known = {smiles: row for smiles, row in self._known.items() if row.call <= after}
        self._recovered = {}
        self.calls = after

    def flush(self) -> None:
        """Force all rows to disk; a checkpoint may only name calls that are there."""
        try:
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise RunError(f"cannot write ledger {self._path}: {error}") from error

    def finish(self) -> None:
        """Drop what a killed run had scored beyond the point where this run ended."""
        self.forget(after=self.calls)
        self.flush()

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        try:
            with self._database:
                self._database.executemany(statement, rows)
        except sqlite3.Error as error:
            raise RunError(f"cannot write ledger {self._path}: {error}") from error


def read_ledger(path: Path) -> list[LedgerRow]:
    """All rows of a ledger in the order of the calls. Raises `RunError` when it cannot be read."""
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            rows = database.execute("SELECT * FROM evaluations ORDER BY call").fetchall()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise RunError(f"cannot read ledger {path}: {error}") from error
    return [
        LedgerRow(
            call=call,
            step=step,
            evaluation=Evaluation(
                smiles=smiles,
                raw=json.loads(raw),
                shaped=json.loads(shaped),
                reward=reward,
                failure=failure,
            ),
            penalised_reward=penalised,
        )
        for call, step, smiles, raw, shaped, reward, penalised, failure in rows
    ]


def reward_tensor(rows: Iterable[LedgerRow]) -> Tensor:
    """Raw rewards in the order of the calls, (N,), float64; NaN for failures."""
    rewards = [row.evaluation.reward for row in rows]
    return torch.tensor([torch.nan if r is None else r for r in rewards], dtype=torch.float64)
