"""A run's folder: its lock, its metrics, and where everything else lies."""

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from allmodes.errors import RunError
from allmodes.runs.files import remove_temporary_files, write_text


@final
class RunFolder:
    """A folder that one process at a time may write; use it as a context manager.

    The lock is the operating system's, so it goes with its process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.checkpoint_path = path / "checkpoint.safetensors"

    def __enter__(self) -> "RunFolder":
        lock = self.path / ".lock"
        is_ours = lock.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise RunError(f"cannot write to run folder {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise RunError(f"run folder {self.path} is in use by another process") from error
        if is_ours:
            remove_temporary_files(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one JSON line to metrics.jsonl: what a repeated run would repeat."""
        self._append(self.metrics_path, row)

    def append_timing(self, row: Mapping[str, Any]) -> None:
        """Append one JSON line to timing.jsonl: seconds, kept apart since no two runs have the same."""
        self._append(self.path / "timing.jsonl", row)

    def _append(self, path: Path, row: Mapping[str, Any]) -> None:
        try:
            with open(path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(row, allow_nan=False) + "\n")
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line that a kill cut off is left out."""
        if not self.metrics_path.exists():
            return []
        rows = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break  # only the last line can be cut off: lines are appended in order
        return rows

    def keep_metrics(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Rewrite metrics.jsonl with the rows that `keep` accepts: a resumed run repeats the others."""
        kept = [json.dumps(row) + "\n" for row in self.read_metrics() if keep(row)]
        write_text(self.metrics_path, "".join(kept))
