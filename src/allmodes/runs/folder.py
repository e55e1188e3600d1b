"""A run's folder: its lock, its metrics, and the paths of its files."""

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from allmodes.errors import RunError
from allmodes.runs.files import remove_temporary_files, write_text
from allmodes.runs.lines import BadLineError, json_object
from allmodes.runs.seals import REMEDY, GrowingFiles, Mark


@final
class RunFolder:
    """A folder that only one process at a time may write; use it as a context manager.

    The operating system releases the lock when the process ends, for whatever reason.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.checkpoint_path = path / "checkpoint.safetensors"
        self._logs = GrowingFiles(path, ("metrics.jsonl", "timing.jsonl", "samples.jsonl"))
        self._is_ours = False

    def __enter__(self) -> "RunFolder":
        lock = self.path / ".lock"
        self._is_ours = lock.exists()
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
        if self._is_ours:
            remove_temporary_files(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one JSON line to metrics.jsonl, for values that a repeated run would reproduce."""
        self._append(self.metrics_path, row)

    def append_timing(self, row: Mapping[str, Any]) -> None:
        """Append one JSON line to timing.jsonl, for times in seconds, which differ in every run."""
        self._append(self.path / "timing.jsonl", row)

    def _append(self, path: Path, row: Mapping[str, Any]) -> None:
        try:
            with open(path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(row, allow_nan=False) + "\n")
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl without an incomplete last line.

        Raises RunError for any other invalid line.
        """
        if not self.metrics_path.exists():
            return []
        try:
            lines = self.metrics_path.read_bytes().split(b"\n")
        except OSError as error:
            raise RunError(f"cannot read {self.metrics_path}: {error.strerror or error}") from error
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json_object(line, is_first=False))
            except BadLineError as error:
                if number < len(lines):
                    what = f"line {number} is {error}; expected an object of JSON"
                    raise RunError(f"{self.metrics_path} is damaged: {what}; {REMEDY}") from error
                break
        return rows

    def mark_logs(self) -> dict[str, Mark]:
        """Force metrics, timings and samples to disk; return their sizes and checksums for a checkpoint."""
        return self._logs.mark()

    def restore_logs(self, marks: Mapping[str, Mark]) -> None:
        """Check that metrics, timings and samples begin as a checkpoint recorded, and cut off the rest.

        marks: {} for a run without a checkpoint, which starts again. Raises RunError for damage, and for
        files of these names in a folder that no run has used.
        """
        if not self._is_ours and (found := self._logs.existing()):
            raise RunError(f"{found[0]} is not a file of this run: choose another folder")
        self._logs.restore(marks)

    def keep_metrics(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Rewrite metrics.jsonl with the rows that `keep` accepts; a resumed run writes the others again."""
        kept = [json.dumps(row) + "\n" for row in self.read_metrics() if keep(row)]
        write_text(self.metrics_path, "".join(kept))
