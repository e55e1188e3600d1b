"""What `allmodes audit` costs on a million samples, against reading the file as JSON; and on a tenth of them.

Made-up samples of 2,000 prompts in groups of 16 over training, with all columns and responses of 200
characters. Wall time as a multiple of one pass of json.loads over the lines; peak resident memory, in all and
above that of the imports. Each is measured in a process of its own, on one thread. What bounds the time:
Python's work for each row, of which JSON is a fifth; the memory: 13 numbers a sample, and the checks' own.

Run: OMP_NUM_THREADS=1 python benchmarks/audit.py
"""

import json
import random
import tempfile
from pathlib import Path

from fresh_process import PASS, measure

GROUP, PROMPTS_PER_STEP, PROMPTS = 16, 125, 2000

AUDIT = """
import io, json, resource, sys, time
from pathlib import Path
from rich.console import Console
from allmodes.audit.command import Reading, audit_path
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
start = time.perf_counter()
settings = {"beta": 0.01, "kl": "k1-in-reward", "scale_rewards": "none", "transform": "none"}
audit_path(Path(sys.argv[1]), settings, Reading(), out=Path(sys.argv[2]), console=Console(file=io.StringIO()))
print(json.dumps([time.perf_counter() - start, peak(), before]))
"""


def write_samples(path: Path, count: int) -> None:
    """Seven answers, four of them good, and some without any; nothing changes over training."""
    draw = random.Random(0)
    filler = "lorem ipsum dolor sit amet consectetur adipiscing elit sed do " * 3
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            group = number // GROUP
            answer = draw.choices(range(8), (8, 7, 6, 5, 4, 3, 2, 20))[0]
            tokens = draw.randint(20, 200)
            ref_logprob = -1.5 * tokens - 5 * draw.random()
            row = {
                "prompt": f"question {group % PROMPTS}: what is the answer to this?",
                "response": f"answer {answer} {draw.random()} {filler}",
                "outcome": str(answer) if answer < 7 else None,
                "reward": float(answer < 4),
                "ref_logprob": ref_logprob,
                "policy_logprob": ref_logprob,
                "step": group // PROMPTS_PER_STEP,
                "num_tokens": tokens,
                "truncated": False,
            }
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Print the ratios."""
    for count in (100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "samples.jsonl"
            write_samples(path, count)
            size = path.stat().st_size
            (reading,) = measure(PASS, path)
            seconds, peak, imports = measure(AUDIT, path, Path(folder) / "out")
        print(f"{count:,} samples, {size / 1e6:.0f} MB; one pass of json: {reading:.2f} s")
        print(f"  audit: {seconds:.1f} s, {seconds / reading:.1f} times one pass of json")
        print(f"  peak memory: {peak / 1e6:.0f} MB, {(peak - imports) / count:.0f} bytes a sample")


if __name__ == "__main__":
    main()
