"""What a user types to start this program again."""

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


def program() -> str:
    """`allmodes` where the shell finds this very program under that name, else a path or module."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m allmodes.cli"
    found = shutil.which("allmodes")
    if found is not None and called.exists() and os.path.samefile(found, called):
        return "allmodes"
    return shlex.quote(sys.argv[0]) if called.exists() else "allmodes"


@contextlib.contextmanager
def say_how_to_continue(advice: Callable[[], str]) -> Iterator[None]:
    """Add to Ctrl-C, as a note that `main` prints, how to resume from here."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(advice())
        raise


def same_command() -> str:
    """Of commands that find in their folder what an earlier call has done."""
    return "the same command continues"


def how_to_resume(folder: Path) -> str:
    """The command that continues the run in a folder; where there is none yet, that nothing was begun."""
    if not (folder / "config.json").exists():
        return "nothing was begun"
    return f"continue with `{program()} run --resume {shlex.quote(str(folder))}`"
