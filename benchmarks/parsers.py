"""How many responses a second each parser of HypoSpace reads.

Every hypothesis of the space in the task's own format, and as many near misses, of which half are broken
formats. No response is remembered. Beside it, in the same run, how long `str.split` takes on the same texts:
the ratio means the same on any machine. Limits: 50,000 responses a second, and 40 times `str.split`.

What bounds it: the Python interpreter. A graph is one set of strings and one look-up. A structure is one
split and a string for each layer. A Boolean expression is read token by token, and each operator is one
look-up once it was applied to the same operands.

Run it with `python benchmarks/parsers.py`; no arguments.
"""

import statistics
import time
from collections.abc import Callable, Sequence

from allmodes.tasks.hypospace import Boolean, Causal, Voxels
from allmodes.tasks.hypospace.hypotheses import Hypotheses

RESPONSES, RUNS, FEWEST, MOST = 20_000, 5, 50_000, 40.0


def responses(task: Hypotheses) -> list[str]:
    """So many responses, right and broken formats mixed."""
    written = [task.write(task.prompts[0], key) for key in task.hypotheses]
    broken = [text for prompt in task.prompts[::5] for text in task.near_misses(prompt)]
    texts = written * (RESPONSES // 2 // len(written) + 1) + broken * (RESPONSES // 2 // len(broken) + 1)
    return texts[:: len(texts) // RESPONSES][:RESPONSES]


def median_seconds(function: Callable[[str], object], texts: Sequence[str]) -> float:
    """Median time of RUNS passes over the texts, after one that does not count."""
    seconds = []
    for run in range(RUNS + 1):
        start = time.perf_counter()
        for text in texts:
            function(text)
        if run:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    """Time all three and print the table."""
    print(
        f"{RESPONSES:,} responses, median of {RUNS}; limits {FEWEST:,} responses a second, ratio {MOST:g}\n"
    )
    print(f"{'parser':<20}{'characters':>12}{'responses/s':>14}{'ratio':>8}")
    over = 0
    for task in (Causal(), Voxels(), Boolean()):
        texts = responses(task)
        seconds, split = median_seconds(task.parse, texts), median_seconds(str.split, texts)
        rate, ratio = len(texts) / seconds, seconds / split
        late = rate < FEWEST or ratio > MOST
        over += late
        length = statistics.mean(map(len, texts))
        print(f"{task.name:<20}{length:>12.0f}{rate:>14,.0f}{ratio:>8.1f}   {'OVER' if late else 'ok'}")
    print(f"\n{over} over the limit" if over else "\nall within the limit")


if __name__ == "__main__":
    main()
