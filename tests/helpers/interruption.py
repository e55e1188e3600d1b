"""A run that is interrupted after a row of its metrics."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from allmodes.runs.folder import RunFolder


@contextmanager
def interrupted_after(monkeypatch: pytest.MonkeyPatch, **row: Any) -> Iterator[None]:
    """Ctrl-C once a row with this key and value is in metrics.jsonl; fails if the block ends without it."""
    ((key, value),) = row.items()
    append = RunFolder.append_metrics

    def interrupted(folder: RunFolder, written: dict[str, Any]) -> None:
        append(folder, written)
        if written[key] == value:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "append_metrics", interrupted)
        yield
