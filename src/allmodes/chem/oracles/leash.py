"""Child processes that end with their parent, however that ends.

`python -m allmodes.chem.oracles.leash PROGRAM ARGUMENT ...` runs a program that knows nothing of this, or
that cannot look after itself: while Vina docks, no other thread of its process gets a turn.
"""

import os
import signal
import subprocess
import sys
import threading
import time

_LOOK = 0.5  # seconds between two looks at the parent


def end_with_parent() -> None:
    """End this process and its group when the parent is gone, even while something here hangs."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run the program on this process's own input and output, and end as it ends."""
    end_with_parent()
    child = subprocess.Popen(sys.argv[1:])
    for stream in (0, 1):  # only the program holds them now, so that its end is seen as theirs
        os.close(stream)
    code = child.wait()
    if code < 0:  # Python itself handles SIGINT alone; every other signal ends this process, too
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
