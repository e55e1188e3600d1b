"""The ledger: every oracle call of a run, one row each, in SQLite."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, final

import torch
from torch import Tensor

from allmodes.chem.oracles.results import Evaluation
from allmodes.errors import RunError
from allmodes.runs.seals import REMEDY, restoring

_Made = TypeVar("_Made")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS evaluations (
    call INTEGER PRIMARY KEY,       -- 1 for the first oracle call of the run
    step INTEGER NOT NULL,          -- training step, from 1
    smiles TEXT NOT NULL,           -- canonical isomeric SMILES
    raw TEXT NOT NULL,              -- JSON: raw value by component
    shaped TEXT NOT NULL,           -- JSON: score by component
    reward REAL,                    -- NULL when a component failed
    penalised_reward REAL,          -- after the scaffold filter, as first used for training
    failure TEXT,                   -- what failed, or NULL
    details TEXT NOT NULL,          -- JSON: what components have to show, such as a pose or a route
    digest TEXT                     -- checksum of all but the penalised reward, and of that; NULL of old
)
"""
_PUT = "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PENALISE = """
UPDATE evaluations SET penalised_reward = ?, digest = substr(digest, 1, 16) || ? WHERE call = ?
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
class _StoredDetails(Mapping[str, dict[str, Any]]):
    """The details of a call, read whenever they are asked for: the poses of all calls fill no memory."""

    def __init__(self, path: Path, call: int) -> None:
        self._path, self._call = path, call

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __bool__(self) -> bool:
        return True  # made for calls that have some, so that asking whether reads nothing

    def _read(self) -> dict[str, dict[str, Any]]:
        query = "SELECT details FROM evaluations WHERE call = ?"
        (details,) = _select(self._path, query, lambda _, row: row[0], self._call) or ["{}"]
        with restoring(self._path):
            return json.loads(details)


@final
class Ledger:
    """Oracle calls in order, each molecule once. Use it as a context manager.

    A call gets its number when it begins, and its result is committed as soon as it is known, in whatever
    order. A resumed run continues from `calls` of its checkpoint; results beyond that are kept and used again
    when their molecule comes up, so none is computed twice. trusted_steps: the last step whose results beyond
    the checkpoint are used again; None for all.
    """

    def __init__(self, path: Path, *, calls: int = 0, trusted_steps: int | None = None) -> None:
        try:
            # Results are recorded in the threads of the oracle's workers.
            self._database = sqlite3.connect(path, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            # A commit then survives the end of this process at once, and the loss of power after `flush`.
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(_SCHEMA)
            columns = self._database.execute("PRAGMA table_info(evaluations)").fetchall()
            if "digest" not in (column[1] for column in columns):  # of an older version
                self._database.execute("ALTER TABLE evaluations ADD COLUMN digest TEXT")
        except sqlite3.Error as error:
            raise RunError(f"cannot open ledger {path}: {error}") from error
        self._path, self._lock = path, threading.RLock()
        self.calls = calls
        self._begun: dict[str, tuple[int, int]] = {}  # call and step
        rows = read_ledger(path)
        self._known = {row.evaluation.smiles: row for row in rows if row.call <= calls}
        self._recovered = {
            row.evaluation.smiles: row.evaluation
            for row in rows
            if row.call > calls and (trusted_steps is None or row.step <= trusted_steps)
        }
        self._recovered_at = {row.call: row.evaluation.smiles for row in rows if row.call > calls}
        if len(self._known) != calls:
            raise RunError(
                f"ledger {path} is damaged: expected {calls} calls up to the checkpoint; "
                f"got {len(self._known)}; {REMEDY}"
            )

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._database.close()

    def knows(self, smiles: str) -> bool:
        """Whether this run has begun to score a molecule."""
        with self._lock:
            return smiles in self._known or smiles in self._begun

    def evaluation(self, smiles: str) -> Evaluation | None:
        """The result of a molecule that this run has scored, else None."""
        row = self._known.get(smiles)
        return None if row is None else row.evaluation

    def recovered(self, smiles: str) -> Evaluation | None:
        """The result of a molecule that was scored after the checkpoint, before the run was killed."""
        return self._recovered.get(smiles)

    def begin(self, smiles: str, *, step: int) -> None:
        """Count one oracle call."""
        with self._lock:
            self.calls += 1
            self._begun[smiles] = (self.calls, step)

    def record(self, evaluation: Evaluation) -> None:
        """Commit the result of a call that has begun."""
        call, step = self._begun[evaluation.smiles]
        values = (
            call,
            step,
            evaluation.smiles,
            json.dumps(evaluation.raw),
            json.dumps(evaluation.shaped),
            None if evaluation.reward is None else float(evaluation.reward),  # as the table gives it back
            None,
            evaluation.failure,
            json.dumps(dict(evaluation.details)),
        )
        if evaluation.details:
            evaluation = replace(evaluation, details=_StoredDetails(self._path, call))
        row = LedgerRow(call=call, step=step, evaluation=evaluation, penalised_reward=None)
        with self._lock:
            self._keep_recovered(call, evaluation.smiles)
            self._write(_PUT, [(*values, _digest(values))])
            self._known[evaluation.smiles] = row
            del self._begun[evaluation.smiles]

    def _keep_recovered(self, call: int, smiles: str) -> None:
        """Take the details of a recovered molecule into memory before its row is written over by another."""
        other = self._recovered_at.pop(call, smiles)
        if other != smiles and other in self._recovered:
            found = self._recovered[other]
            self._recovered[other] = replace(found, details=dict(found.details))

    def record_penalised(self, rewards: Iterable[tuple[str, float | None]]) -> None:
        """Add the penalised rewards of molecules that were recorded in this step."""
        rows = []
        for smiles, reward in rewards:
            call, value = self._known[smiles].call, None if reward is None else float(reward)
            rows.append((value, _hash(call, value), call))
        self._write(_PENALISE, rows)

    def forget(self, *, after: int) -> None:
        """Drop the calls after number `after`: a broken oracle's answers are not worth keeping."""
        with self._lock:
            self._write("DELETE FROM evaluations WHERE call > ?", [(after,)])
            self._known = {smiles: row for smiles, row in self._known.items() if row.call <= after}
            self._begun = {smiles: begun for smiles, begun in self._begun.items() if begun[0] <= after}
            self._recovered = {}
            self.calls = after

    def flush(self) -> None:
        """Force all rows to disk; a checkpoint may only name calls that are there."""
        try:
            with self._lock:
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise RunError(f"cannot write ledger {self._path}: {error}") from error

    def finish(self) -> None:
        """Drop what a killed run had scored beyond the point where this run ended."""
        self.forget(after=self.calls)
        self.flush()

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        try:
            with self._lock, self._database:
                self._database.executemany(statement, rows)
        except sqlite3.Error as error:
            raise RunError(f"cannot write ledger {self._path}: {error}") from error


def _digest(values: Sequence[Any]) -> str:
    """The checksum of a row's columns."""
    call, *_, penalised, _, _ = values
    return _hash(*values[:6], *values[7:]) + _hash(call, penalised)


def _hash(*values: Any) -> str:
    text = json.dumps(values).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def read_ledger(path: Path, *, calls: int | None = None) -> list[LedgerRow]:
    """All rows of a ledger in the order of the calls. Details are read again when they are asked for.

    calls: how many there must be, all from the first one on. Raises `RunError` if the ledger cannot be
    read, and when a row is missing or not as it was written.
    """
    found = _select(path, "SELECT * FROM evaluations ORDER BY call", _make_row)
    if calls is not None and [row.call for row in found] != list(range(1, calls + 1)):
        raise RunError(
            f"ledger {path} is damaged: expected the calls 1 to {calls}; got {len(found)} rows; {REMEDY}"
        )
    return found


def _make_row(path: Path, columns: Sequence[Any]) -> LedgerRow:
    """A row as it is in the table; an older version wrote no checksum."""
    *values, digest = columns if len(columns) == 10 else (*columns, None)
    call, step, smiles, raw, shaped, reward, penalised, failure, details = values
    if digest is not None and digest != _digest(values):
        raise RunError(f"ledger {path} is damaged: call {call} has another checksum than it says; {REMEDY}")
    with restoring(path):
        return LedgerRow(
            call=call,
            step=step,
            evaluation=Evaluation(
                smiles=smiles,
                raw=json.loads(raw),
                shaped=json.loads(shaped),
                reward=reward,
                failure=failure,
                details={} if details == "{}" else _StoredDetails(path, call),
            ),
            penalised_reward=penalised,
        )


def _select(
    path: Path, query: str, make: Callable[[Path, Sequence[Any]], _Made], *values: object
) -> list[_Made]:
    """What `make` makes of each row, one at a time: not all details fit into memory."""
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return [make(path, row) for row in database.execute(query, values)]
        finally:
            database.close()
    except sqlite3.Error as error:
        raise RunError(f"cannot read ledger {path}: {error}; {REMEDY}") from error


def reward_tensor(rows: Iterable[LedgerRow]) -> Tensor:
    """Raw rewards in the order of the calls, (N,), float64; NaN for failures."""
    rewards = [row.evaluation.reward for row in rows]
    return torch.tensor([torch.nan if r is None else r for r in rewards], dtype=torch.float64)
