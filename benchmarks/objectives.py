"""How long each objective takes on a million samples in 125,000 groups, in units of one sort.

Prints, for each objective, the median time of five runs divided by the median time of `torch.sort` on a
million float32 in the same run, so that the number means the same on any machine. The limit is 10.

What bounds it: grouping and counting. Group ids from 0 without large gaps need no sort, and then a statistic
of each group is a few passes over the samples. A quantile sorts twice (by value, then by group), IPS sorts
twice to count outcomes within groups, and ids that are far apart (hashes, say) cost one more sort each.
Outcome matching sorts three times, in float64, and copies the table of what it remembers. The
elementwise objectives are bounded by memory traffic.

Run it with `python benchmarks/objectives.py`; no arguments. `OMP_NUM_THREADS=1` on a busy machine.
"""

import statistics
import time
from collections.abc import Callable

import torch

from allmodes import objectives as o
from allmodes.methods import Batch, OutcomeMatching

SAMPLES, GROUPS, RUNS, LIMIT = 1_000_000, 125_000, 5, 10.0
OUTCOMES_PER_GROUP = 20


def median_seconds(function: Callable[[], object]) -> float:
    """Median time of RUNS calls, after one that does not count."""
    function()  # allocator and caches
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def cases() -> dict[str, Callable[[], object]]:
    """Each objective as a call without arguments."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(SAMPLES, generator=generator)
    logprobs = -50 * torch.rand(SAMPLES, generator=generator)
    ref_logprobs = -50 * torch.rand(SAMPLES, generator=generator)
    rows = torch.arange(SAMPLES) // (SAMPLES // GROUPS)  # consecutive samples, as trainers lay them out
    shuffled = rows[torch.randperm(SAMPLES, generator=generator)]
    spacing = 777_777_777_777  # far apart: these need a sort
    choices = torch.randint(OUTCOMES_PER_GROUP, (SAMPLES,), generator=generator)
    outcomes = rows * OUTCOMES_PER_GROUP + choices
    far_groups, far_outcomes = shuffled * spacing, (shuffled * OUTCOMES_PER_GROUP + choices) * spacing
    beta, sigma, tau = 0.01, 100.0, 0.5
    matching = OutcomeMatching(threshold=tau)
    batch = Batch(rewards=rewards, group_ids=rows, outcome_ids=far_outcomes, prompt_ids=far_groups)
    remembered = matching(batch, beta=beta).state
    return {
        "MARA, group anchor": lambda: o.mara_rewards(
            rewards, ref_logprobs, beta=beta, threshold=tau, group_ids=rows
        ),
        "MARA, group anchor, shuffled groups": lambda: o.mara_rewards(
            rewards, ref_logprobs, beta=beta, threshold=tau, group_ids=shuffled
        ),
        "MARA, group anchor, ids far apart": lambda: o.mara_rewards(
            rewards, ref_logprobs, beta=beta, threshold=tau, group_ids=far_groups
        ),
        "MARA, leave-one-out anchor": lambda: o.mara_rewards(
            rewards, ref_logprobs, beta=beta, threshold=tau, group_ids=rows, anchor="leave_one_out"
        ),
        "MARA, one group": lambda: o.mara_rewards(rewards, ref_logprobs, beta=beta, threshold=tau),
        "threshold, group quantile": lambda: o.GroupQuantile(0.9)(rewards, rows),
        "threshold, batch quantile": lambda: o.BatchQuantile(0.9)(rewards, rows),
        "IPS": lambda: o.ips_rewards(rewards, outcomes, group_ids=rows),
        "IPS, ids far apart": lambda: o.ips_rewards(rewards, far_outcomes, group_ids=far_groups),
        "outcome matching, first batch": lambda: matching(batch, beta=beta),
        "outcome matching, with its memory": lambda: matching(batch, beta=beta, state=remembered),
        "target rewards": lambda: o.target_rewards(logprobs, ref_logprobs, beta=beta),
        "advantages, group mean": lambda: o.group_advantages(rewards, rows, scale="none"),
        "advantages, group scale": lambda: o.group_advantages(rewards, rows, scale="group"),
        "advantages, batch scale": lambda: o.group_advantages(rewards, rows, scale="batch"),
        "advantages, leave-one-out": lambda: o.leave_one_out_advantages(rewards, rows),
        "KL in rewards": lambda: o.kl_in_rewards(rewards, logprobs, ref_logprobs, beta=beta),
        "reverse KL loss (k2)": lambda: o.reverse_kl_loss(logprobs, ref_logprobs),
        "forward KL loss (k3)": lambda: o.forward_kl_loss(logprobs, ref_logprobs),
        "reverse KL loss, weighted k3": lambda: o.reverse_kl_weighted_loss(logprobs, ref_logprobs),
        "policy gradient loss": lambda: o.policy_gradient_loss(
            logprobs, ref_logprobs, rewards, clip_low=0.2, clip_high=0.2
        ),
        "REINVENT loss": lambda: o.reinvent_loss(logprobs, ref_logprobs, rewards, sigma=sigma),
    }


def main() -> None:
    """Time them all and print the table."""
    unsorted = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(1))
    sort = median_seconds(lambda: torch.sort(unsorted))
    print(f"{SAMPLES:,} samples in {GROUPS:,} groups, {torch.get_num_threads()} threads, median of {RUNS}")
    print(f"one torch.sort of {SAMPLES:,} float32: {1000 * sort:.1f} ms\n")
    print(f"{'objective':<38}{'ms':>9}{'sorts':>8}   limit {LIMIT:g}")
    over = 0
    for name, function in cases().items():
        seconds = median_seconds(function)
        ratio = seconds / sort
        over += ratio > LIMIT
        print(f"{name:<38}{1000 * seconds:>9.1f}{ratio:>8.2f}   {'OVER' if ratio > LIMIT else 'ok'}")
    print(f"\n{over} over the limit" if over else "\nall within the limit")


if __name__ == "__main__":
    main()
