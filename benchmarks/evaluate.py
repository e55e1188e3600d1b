"""What `evaluate` costs on 100,000 generations, against reading the file as JSON and against its size.

1,000 prompts with 100 made-up generations each, in random order, of two methods; and 250 prompts, to see what
grows. Wall time as a multiple of one pass of json.loads over the lines; peak resident memory above that of
the imports, as a multiple of the file's size. Each is measured in a process of its own. What bounds the time:
the n-grams for EAD; the memory: the bootstrap's resamples, whatever the size of the file.

Run: OMP_NUM_THREADS=1 python benchmarks/evaluate.py
"""

import json
import random
import tempfile
from pathlib import Path

from fresh_process import PASS, measure

GENERATIONS, WORDS = 100, 120

EVALUATE = """
import io, json, resource, sys, time
from pathlib import Path
from rich.console import Console
from allmodes.text.evaluation.evaluate import evaluate_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
evaluate_file(
    Path(sys.argv[1]), out=None, ks=None, tokenizer=None, embedder=None, vocabulary_size=50257,
    console=Console(file=io.StringIO()),
)
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


def write_generations(path: Path, prompts: int) -> None:
    """Made-up generations: Zipf-like words, correct one time in four, the methods half and half."""
    draw = random.Random(0)
    vocabulary = [f"word{i}" for i in range(5000)]
    weights = [1 / (i + 1) for i in range(5000)]
    rows = [(prompt, i) for prompt in range(prompts) for i in range(GENERATIONS)]
    draw.shuffle(rows)
    with open(path, "w", encoding="utf-8") as file:
        for prompt, i in rows:
            response = " ".join(draw.choices(vocabulary, weights, k=WORDS))
            row = {
                "prompt": f"prompt {prompt}",
                "response": response,
                "reward": draw.random(),
                "score": draw.randint(1, 10),
                "answer": str(draw.randint(1, 20)),
                "correct": draw.random() < 0.25,
                "method": "one" if i % 2 else "other",
            }
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Print the ratios."""
    for prompts in (250, 1000):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "generations.jsonl"
            write_generations(path, prompts)
            size = path.stat().st_size
            (reading,) = measure(PASS, path)
            seconds, memory = measure(EVALUATE, path)
        print(
            f"{prompts * GENERATIONS:,} generations, {size / 1e6:.0f} MB; one pass of json: {reading:.2f} s"
        )
        print(f"  evaluate: {seconds:.1f} s, {seconds / reading:.1f} times one pass of json")
        print(
            f"  peak memory above the imports: {memory / 1e6:.0f} MB, {memory / size:.2f} of the file's size"
        )


if __name__ == "__main__":
    main()
