"""A parent watchdog: child processes that end with their parent, however that ends.

`python -m allmodes.chem.oracles.watchdog PROGRAM ARGUMENT ...` runs a program that knows nothing of this, or
that cannot look after itself: while Vina docks, no other thread of its process gets a turn.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_LOOK = 0.5  # seconds between two looks at the parent
_ROUNDS = 100  # of ending processes that start others meanwhile
_SET_CHILD_SUBREAPER = 36  # of Linux's prctl


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, a daemon's too. Linux alone can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants(ancestor: int) -> None:
    """Kill what a process has started, directly or not, in whatever session or group it runs by now.

    Needs /proc; without it nothing happens.
    """
    for _ in range(_ROUNDS):
        found = _descendants(ancestor)
        if not found:
            return
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.002)


def _descendants(ancestor: int) -> set[int]:
    """Those that still run: a process that has ended counts no more, waited for or not."""
    children: dict[int, list[tuple[int, bool]]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):  # it ended meanwhile
            continue
        children.setdefault(int(parent), []).append((int(stat.parent.name), state not in "ZX"))
    found, waiting = set[int](), [ancestor]
    while waiting:
        for process, runs in children.get(waiting.pop(), ()):
            waiting.append(process)
            if runs:
                found.add(process)
    return found


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    end_descendants(os.getpid())
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> None:
    """Run the program on this process's own input and output; end as it ends, with all that it started."""
    adopt_orphans()
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    child = subprocess.Popen(sys.argv[1:])
    for stream in (0, 1):  # only the program holds them now, so that its end is seen as theirs
        os.close(stream)
    code = child.wait()
    end_descendants(os.getpid())
    if code < 0:  # Python itself handles SIGINT alone; every other signal ends this process, too
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
