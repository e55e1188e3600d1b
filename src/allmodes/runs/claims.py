"""Claims on output folders: a command only overwrites files that it wrote for the same input."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from allmodes.errors import RunError
from allmodes.runs.files import write_text


@contextlib.contextmanager
def claimed_folder(
    out: Path | None, default: Path, *, command: str, inputs: Sequence[str | Path], files: Sequence[str]
) -> Iterator[Path]:
    """Yield the folder that a command may write `files` to, and mark it as the command's once they exist.

    out: the requested folder; None for `default`, or `default-2`, `default-3`, ... if that holds other
    results. inputs: what the results depend on: paths, or settings. Raises RunError if `out` has one of
    `files` that this command did not write for the same inputs.
    """
    named = [str(one.resolve()) if isinstance(one, Path) else one for one in inputs]
    if out is not None:
        found = _foreign_file(out, command, named, files)
        if found is not None:
            raise RunError(
                f"{out}: expected a folder without results of another command or input; got {found}: choose "
                "another --out"
            )
        folder = out
    else:
        names = (default if n == 1 else default.with_name(f"{default.name}-{n}") for n in count(1))
        folder = next(name for name in names if _foreign_file(name, command, named, files) is None)
    try:
        yield folder
    finally:
        if any((folder / file).exists() for file in files):
            write_text(_mark(folder, command), json.dumps({"inputs": named}, indent=1) + "\n")


def _mark(folder: Path, command: str) -> Path:
    return folder / f".allmodes-{command}.json"


def _foreign_file(folder: Path, command: str, inputs: Sequence[str], files: Sequence[str]) -> Path | None:
    """A file that would be overwritten but does not belong to this command and these inputs."""
    found = next((folder / file for file in files if (folder / file).exists()), None)
    if found is None:
        return None
    try:
        mark = json.loads(_mark(folder, command).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return found
    return None if mark == {"inputs": list(inputs)} else found
