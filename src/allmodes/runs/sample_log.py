"""A file of samples that grows during training: JSON Lines in the format of `allmodes audit`."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

from allmodes.errors import RunError
from allmodes.runs.files import replacing, write_text
from allmodes.runs.lines import BadLineError, json_object, whole_text


def sample_line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON. Half a surrogate pair becomes a question mark."""
    return whole_text(json.dumps(row, ensure_ascii=False, default=_by_digest)) + "\n"


def _by_digest(value: Any) -> str:
    """A text for a value that JSON cannot hold, such as an image; different values give different texts."""
    data = value.tobytes() if hasattr(value, "tobytes") else repr(value).encode("utf-8", "replace")
    return f"<{type(value).__name__} {hashlib.blake2b(data, digest_size=8).hexdigest()}>"


@final
class SampleLog:
    """The file at `path`; its rows have a `step` that never falls."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, *, step: int, overwrite: bool) -> None:
        """Prepare for a training that resumes from `step` or begins at 0 and writes all later rows again.

        Removes these rows and an incomplete last line. Raises RunError if a new training finds rows that it
        may not overwrite, if rows have no step, or if the disk fails.
        """
        if not self.path.exists():
            return
        if step > 0:
            with (
                replacing(self.path) as temporary,
                open(self.path, "rb") as old,
                open(temporary, "wb") as new,
            ):
                new.writelines(line for line in old if self._is_before(line, step=step))
        elif overwrite:
            write_text(self.path, "")
        elif self.path.stat().st_size > 0:
            raise RunError(
                f"{self.path} holds the log of another run: expected none, or a training that resumes from a "
                "checkpoint; got one that begins at step 0"
            )

    def append(self, lines: Iterable[str]) -> None:
        """Append lines. Raises RunError if they cannot be written."""
        try:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.writelines(lines)
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _is_before(self, line: bytes, *, step: int) -> bool:
        try:
            row = json_object(line, is_first=False)
        except BadLineError:
            return False
        own = row.get("step")
        if not isinstance(own, int):
            raise RunError(f"{self.path}: expected a `step` in each row; got a row of another program")
        return own < step and line.endswith(b"\n")
