"""Speed of one step of molecular design, as seconds and against this machine's matrix-multiply rate.

The work: LSTM of 5.8M parameters, 64 molecules of at most 64 tokens: sample, score QED, update on 64 + 10
replayed. What bounds it: the matrix products. Sampling costs 2 FLOP a parameter and token, the prior's pass
2, the update 4 for what was just sampled and 6 for what is replayed, which the prior knows already. `ideal`
is that work, on real tokens alone, at the rate of a large float32 product that torch runs in the same minute.
The recurrent layers run through oneDNN, which is faster than that on some processors, and look the first
layer's inputs up, so the ratio may come out below 1. bfloat16's error is that of log p of whole molecules
that the prior sampled. The peak memory is that of this process with both precisions one after the other.

Run: python benchmarks/design_step.py [steps]
"""

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from allmodes.chem.arms import parse_arm
from allmodes.chem.config import MoleculesConfig
from allmodes.chem.design.loop import DesignLoop
from allmodes.chem.oracles.oracle import ComponentOracle
from allmodes.chem.policies.policy import load_policy
from allmodes.chem.policies.prior import shipped_prior
from allmodes.runs.config import build_config
from allmodes.runs.folder import RunFolder

STAGES = ("sample", "score", "update")


def matmul_rate(size: int = 2048, repeats: int = 10) -> float:
    """FLOP/s of a float32 product, best of `repeats`."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    best = min(_timed(lambda: left @ right) for _ in range(repeats))
    return 2 * size**3 / best


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_steps(precision: str, steps: int) -> tuple[dict[str, float], float]:
    """Median seconds of each stage, and the mean number of tokens of a molecule (EOS included)."""
    values = {
        "kind": "molecules",
        "algorithm": "mara",
        "budget": 10**6,
        "hit_threshold": 0.9,
        "max_tokens": 64,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "max_steps": steps,
        "checkpoint_every": 10**6,
        "replay": {"augmentation_rounds": 0},
        "oracle": {"components": [{"kind": "qed"}]},
    }
    config = build_config(MoleculesConfig, values, source="benchmark")
    with (
        tempfile.TemporaryDirectory() as path,
        RunFolder(Path(path)) as folder,
        ComponentOracle(config.oracle) as oracle,
    ):
        DesignLoop(config, arm=parse_arm("mara"), seed=0, folder=folder, oracle=oracle).run(lambda _: None)
        rows = [json.loads(line) for line in (Path(path) / "timing.jsonl").read_text().splitlines()][2:]
    generator = torch.Generator().manual_seed(0)
    samples = load_policy(shipped_prior())[0].sample(256, max_length=64, generator=generator)
    medians = {stage: statistics.median(row[stage] for row in rows) for stage in STAGES}
    return medians, float((samples.tokens != 0).sum(1).float().mean())


def bfloat16_error() -> tuple[float, float]:
    """Mean and largest |Δ log p| in nats over 256 molecules sampled from the shipped prior."""
    exact, _ = load_policy(shipped_prior())
    rounded, _ = load_policy(shipped_prior(), precision="bfloat16")
    samples = exact.sample(256, max_length=64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        errors = (exact.logprobs(samples.tokens) - rounded.logprobs(samples.tokens)).abs()
    return float(errors.mean()), float(errors.max())


def main() -> None:
    """Print the table."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 14
    rate = matmul_rate()
    parameters = sum(p.numel() for p in load_policy(shipped_prior())[0].parameters())
    print(f"threads {torch.get_num_threads()}, float32 matrix product {rate / 1e9:.0f} GFLOP/s")
    print(f"policy with {parameters / 1e6:.2f}M parameters, {steps - 2} steps each, medians")
    print("precision  sample   score  update   total   ideal  total/ideal")
    for precision in ("float32", "bfloat16"):
        medians, tokens = time_steps(precision, steps)
        total = sum(medians.values())
        work = parameters * tokens * (64 * (2 + 2 + 4) + 10 * 6)
        columns = "  ".join(f"{medians[stage]:6.3f}" for stage in STAGES)
        print(f"{precision:9}  {columns}  {total:6.3f}  {work / rate:6.3f}  {total * rate / work:8.2f}")
    mean, largest = bfloat16_error()
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    print(f"bfloat16's error of log p: mean {mean:.3f}, largest {largest:.3f} nats a molecule")


if __name__ == "__main__":
    main()
