"""Speed of the retrosynthesis component, and the share of molecules that it solves.

The work: molecules sampled from the shipped prior and, where a file of SMILES is given, from that file; each
is asked once, as in a design run, with the default templates, steps and expansions. The limit is a median of
50 ms on the wall. Beside it stands the processor's time, which other work leaves alone. Stocks:
the one that is shipped, an enumerated stand-in, and any file that is given. "amide" is the share solved by
amide couplings alone, as in the ALL-AMIDE task.

Run: python benchmarks/retrosynthesis.py [molecules] [--file FILE.smi] [--stock FILE.smi]
"""

import argparse
import gzip
import random
import statistics
import time
from collections import Counter
from pathlib import Path

from prior_molecules import sampled

from allmodes.chem.molecules import canonical_smiles
from allmodes.chem.oracles.config import RetrosynthesisComponent
from allmodes.chem.retrosynthesis.scorer import make_retrosynthesis_scorer


def from_file(path: Path, count: int) -> list[str]:
    """A random sample of the SMILES in a file's first column, the same every time."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as handle:
        lines = [line.split()[0] for line in handle if line.strip()]
    drawn = random.Random(0).sample(lines, min(count, len(lines)))
    return [smiles for smiles in map(canonical_smiles, drawn) if smiles is not None and "." not in smiles]


def measure(smiles: list[str], stock: Path | None, reactions: tuple[str, ...]) -> dict[str, float]:
    """Milliseconds a molecule, the share solved, and the share solved in 1, 2 ... steps."""
    component = RetrosynthesisComponent(kind="retrosynthesis", stock=stock, reactions=reactions)
    start = time.perf_counter()
    score = make_retrosynthesis_scorer(component.model_dump(mode="json"))
    started = time.perf_counter() - start
    walls, processors, steps = [], [], Counter[int]()
    for line in smiles:
        wall, processor = time.perf_counter(), time.process_time()
        found = score(line)
        walls.append((time.perf_counter() - wall) * 1000)
        processors.append((time.process_time() - processor) * 1000)
        if found.value:
            steps[found.details["steps"]] += 1
    return {
        "start": started,
        "median": statistics.median(walls),
        "p95": statistics.quantiles(walls, n=20)[-1],
        "cpu median": statistics.median(processors),
        "cpu p95": statistics.quantiles(processors, n=20)[-1],
        "solved": 100 * steps.total() / len(smiles),
        "0 steps": 100 * steps[0] / len(smiles),
        "1": 100 * steps[1] / len(smiles),
        "2": 100 * steps[2] / len(smiles),
        "more": 100 * sum(number for step, number in steps.items() if step > 2) / len(smiles),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("molecules", type=int, nargs="?", default=500)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--stock", type=Path)
    options = parser.parse_args()
    sources = {"prior": sampled(options.molecules)}
    if options.file is not None:
        sources[options.file.name] = from_file(options.file, options.molecules)
    stocks: list[Path | None] = [None, *([options.stock] if options.stock is not None else [])]
    print("start in s; median, p95 in ms a molecule; solved, and in how many steps, in % of the molecules")
    print(f"{'molecules':22}{'stock':12}{'reactions':11}", end="")
    header = True
    for name, smiles in sources.items():
        for stock in stocks:
            for reactions in ((), ("amide coupling",)):
                row = measure(smiles, stock, reactions)
                if header:
                    print("".join(f"{key:>11}" for key in row))
                    header = False
                stock_name = "shipped" if stock is None else "given"
                label = f"{len(smiles)} {name[:15]:16} {stock_name:12}{'amide' if reactions else 'all':11}"
                print(label + "".join(f"{value:11.1f}" for value in row.values()), flush=True)


if __name__ == "__main__":
    main()
