"""How long the command line takes to answer, against starting Python itself.

Median wall time of five runs of `allmodes --help` and of `python -c pass`, and their ratio. What bounds it:
the import of tyro. torch, RDKit and pydantic are imported by the commands that use them, when they run.

Run: python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path


def median_seconds(command: list[str]) -> float:
    """Median wall time of five runs after one that does not count."""
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    """Print both times and their ratio."""
    bare = median_seconds([sys.executable, "-c", "pass"])
    answer = median_seconds([str(Path(sys.executable).with_name("allmodes")), "--help"])
    print(f"allmodes --help {answer:.3f} s, python -c pass {bare:.3f} s, ratio {answer / bare:.1f}")


if __name__ == "__main__":
    main()
