"""The command that starts this program again."""

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


def program() -> str:
    """`allmodes` if the shell finds this program under that name, else a path or module."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m allmodes.cli"
    found = shutil.which("allmodes")
    if found is not None and called.exists() and os.path.samefile(found, called):
        return "allmodes"
    return shlex.quote(sys.argv[0]) if called.exists() else "allmodes"


@contextlib.contextmanager
def say_how_to_continue(advice: Callable[[], str]) -> Iterator[None]:
    """Add a note on how to resume to KeyboardInterrupt, which `main` prints."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(advice())
        raise


def same_command() -> str:
    """How to resume commands that resume from their output folder."""
    return "run the same command again to resume"


def how_to_resume(folder: Path) -> str:
    """The command that resumes the run in a folder, or a note that there is no run yet."""
    if not (folder / "config.json").exists():
        return "no run was started"
    return f"resume with `{program()} run --resume {shlex.quote(str(folder))}`"
