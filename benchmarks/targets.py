"""What `forward_kl_target` costs at 10 million outcomes in float64, in ratios measured in one run.

Prints its time over that of one `torch.logsumexp` on the same tensor (limit 15), how many copies of the
tensor it holds at its peak beside inputs and result (limit 4), and scipy's brentq on the same equation over
it (at least 5), for three β. The least of three runs each.

What bounds it: memory traffic. Checks, exp and log are a pass each; Newton's four to six steps go over pieces
that stay in the cache. scipy works on one thread, torch on all it is given: on one thread alone the gain over
brentq is 2 to 4. `off` is how far brentq's log-probabilities are from ours; at β = 1e-3 it is brentq that is
off, for Λ − max R drowns in Λ.

Run it with `python benchmarks/targets.py`; no arguments. It needs 1 GB and Linux.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import brentq

from allmodes.targets import forward_kl_target

OUTCOMES, RUNS = 10_000_000, 3
BETAS = (1e-3, 0.1, 1.0)
SLOWEST, MOST_COPIES, LEAST_GAIN = 15.0, 4.0, 5.0


def least_seconds(function: Callable[[], object], runs: int = RUNS) -> float:
    """Least time of some calls, after one that does not count."""
    function()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_copies(function: Callable[[], object], tensor: torch.Tensor) -> float:
    """Resident memory at the peak of a call beyond that before it and its result, in copies of a tensor."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    before = _resident("VmRSS")
    result = function()
    assert result is not None
    return (_resident("VmHWM") - before) / (tensor.numel() * tensor.element_size()) - 1


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def solve_with_brentq(ref_logprobs: np.ndarray, rewards: np.ndarray, beta: float) -> np.ndarray:
    """The same optimum as one would write it with scipy: Σ βq/(Λ − R) = 1 for Λ in its bracket."""
    reference = np.exp(ref_logprobs)
    low, high = (rewards + beta * reference).max(), rewards.max() + beta
    multiplier = brentq(lambda at: (beta * reference / (at - rewards)).sum() - 1, low, high)
    return np.log(beta * reference / (multiplier - rewards))


def main() -> None:
    """Print the table."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(OUTCOMES, generator=generator, dtype=torch.float64)
    ref_logprobs = torch.log_softmax(logits, 0)
    rewards = torch.rand(OUTCOMES, generator=generator, dtype=torch.float64)
    del logits
    unit = least_seconds(lambda: torch.logsumexp(ref_logprobs, 0))
    print(f"{OUTCOMES:,} outcomes, {torch.get_num_threads()} threads; logsumexp {1e3 * unit:.0f} ms")
    print(f"{'beta':>6} {'time / logsumexp':>17} {'copies at peak':>15} {'brentq / ours':>14} {'off':>8}")
    held = True
    for beta in BETAS:
        ours = least_seconds(lambda beta=beta: forward_kl_target(ref_logprobs, rewards, beta=beta))
        copies = peak_copies(
            lambda beta=beta: forward_kl_target(ref_logprobs, rewards, beta=beta), ref_logprobs
        )
        theirs = solve_with_brentq(ref_logprobs.numpy(), rewards.numpy(), beta)
        plain = (ref_logprobs.numpy(), rewards.numpy(), beta)
        gain = least_seconds(lambda plain=plain: solve_with_brentq(*plain), runs=2) / ours
        solved = forward_kl_target(ref_logprobs, rewards, beta=beta).logprobs.numpy()
        off = float(np.abs(solved - theirs).max())
        print(f"{beta:6g} {ours / unit:17.1f} {copies:15.1f} {gain:14.1f} {off:8.1e}")
        held &= ours / unit <= SLOWEST and copies <= MOST_COPIES and gain >= LEAST_GAIN
    print(f"limits {SLOWEST:g}, {MOST_COPIES:g}, at least {LEAST_GAIN:g}: {'held' if held else 'MISSED'}")


if __name__ == "__main__":
    main()
