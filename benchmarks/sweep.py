"""Figure 2 of MARA, 2 KLs × 8 β × 8 seeds × 3000 steps: one tensor program against one setting at a time.

Prints the time of the sweep, and how many times longer three plain loops with torch's Adam would take for all
128 settings (measured on a few of them): the library's own step for one setting, a loop as textbooks write it
with torch.distributions, and the leanest that we can write. Then, for each setting that the lean loop
trained, the masses of both modes beside those of the sweep, with the standard error of the difference.

What bounds it: of the sweep's step on one core a quarter is the search of 4096 uniform numbers in 128
cumulative distributions, the rest some 150 operations on 4096 to 12,800 numbers; the plain loops are bounded
by the overhead of 30 to 150 operations on 32 to 100 numbers.

Run it with `OMP_NUM_THREADS=1 python benchmarks/sweep.py`; no arguments.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from allmodes.paper.didactic import (
    BATCH_SIZE,
    LEARNING_RATE,
    LEFT,
    RIGHT,
    STEPS,
    half_reference,
    mass,
    plateaus,
)
from allmodes.paper.mara_fig2 import BETAS, METHODS
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.sweep import Setting, train
from allmodes.worlds.training import Training

SEEDS, LEAST = 8, 50.0
FARTHEST = 4.0  # standard errors of a difference; eight of them stay within but once in 2000 runs
TRIED = ((METHODS[0], 0.1), (METHODS[0], 0.3), (METHODS[1], 0.3), (METHODS[1], 1.0))

Loop = Callable[[Tensor, Tensor, Training, float, int], Tensor]


def lean_loop(reference: Tensor, rewards: Tensor, method: Training, beta: float, seed: int) -> Tensor:
    """One setting in as few operations as we can; final probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.zeros(len(rewards), requires_grad=True)
    adam = torch.optim.Adam([logits], lr=LEARNING_RATE)
    for _ in range(STEPS):
        logprobs = torch.log_softmax(logits, 0)
        y = torch.multinomial(logprobs.detach().exp(), BATCH_SIZE, replacement=True, generator=generator)
        logp, ref, reward = logprobs[y], reference[y], rewards[y]
        if method.kl == "reverse":
            reward = reward - beta * (logp.detach() - ref)
        advantage = (reward - reward.mean()) * (BATCH_SIZE / (BATCH_SIZE - 1))
        loss = -(advantage * logp).mean()
        if method.kl == "forward":
            gap = ref - logp
            loss = loss + beta * (gap.exp() - 1 - gap).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return torch.softmax(logits.detach().double(), 0)


def textbook_loop(reference: Tensor, rewards: Tensor, method: Training, beta: float, seed: int) -> Tensor:
    """One setting with torch.distributions, as PyTorch's documentation writes REINFORCE."""
    torch.manual_seed(seed)
    logits = torch.zeros(len(rewards), requires_grad=True)
    adam = torch.optim.Adam([logits], lr=LEARNING_RATE)
    prior = torch.distributions.Categorical(logits=reference)
    for _ in range(STEPS):
        policy = torch.distributions.Categorical(logits=logits)
        y = policy.sample((BATCH_SIZE,))
        logp, ref, reward = policy.log_prob(y), prior.log_prob(y), rewards[y]
        if method.kl == "reverse":
            reward = reward - beta * (logp.detach() - ref)
        advantage = (reward - reward.mean()) * (BATCH_SIZE / (BATCH_SIZE - 1))
        loss = -(advantage * logp).mean()
        if method.kl == "forward":
            loss = loss + beta * (torch.exp(ref - logp) - 1 - (ref - logp)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return torch.softmax(logits.detach().double(), 0)


def own_step(reference: Tensor, rewards: Tensor, method: Training, beta: float, seed: int) -> Tensor:
    """One setting through the library's own training."""
    world = Categorical(reference.double().log_softmax(0), rewards.double())
    settings = [Setting(training=method, beta=beta)]
    sweep = train(world, settings, steps=STEPS, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, seed=seed)
    return sweep.logprobs[0].exp()


def seconds_a_setting(loop: Loop, reference: Tensor, rewards: Tensor) -> float:
    """Mean time of one setting over the two KLs."""
    start = time.perf_counter()
    for method, beta in TRIED[::2]:
        loop(reference, rewards, method, beta, 0)
    return (time.perf_counter() - start) / 2


def main() -> None:
    """Print the ratios, and the trained masses side by side."""
    world = Categorical(half_reference(), plateaus(0.75, 1.0))
    settings = [Setting(training=m, beta=b, seed=s) for m in METHODS for b in BETAS for s in range(SEEDS)]

    def run(steps: int) -> Tensor:
        return train(
            world, settings, steps=steps, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, seed=0
        ).logprobs.exp()

    run(50)
    start = time.perf_counter()
    swept = run(STEPS)
    sweep = time.perf_counter() - start
    print(f"sweep of {len(settings)} settings: {sweep:.2f} s, {1e3 * sweep / STEPS:.2f} ms a step")
    reference, rewards = half_reference().float(), plateaus(0.75, 1.0).float()
    loops = {"library's step": own_step, "textbook loop": textbook_loop, "leanest loop": lean_loop}
    for name, loop in loops.items():
        ratio = seconds_a_setting(loop, reference, rewards) * len(settings) / sweep
        verdict = "held" if ratio >= LEAST else "MISSED"
        print(f"{name}, one setting at a time: {ratio:.0f} times as long; at least {LEAST:g}: {verdict}")
    print(
        "masses of the modes (left, right), mean of 8 seeds: lean loop, sweep, difference in standard errors"
    )
    for method, beta in TRIED:
        alone = torch.stack([lean_loop(reference, rewards, method, beta, seed) for seed in range(SEEDS)])
        rows = [
            i for i, setting in enumerate(settings) if setting.training == method and setting.beta == beta
        ]
        for side, part in (("left", LEFT), ("right", RIGHT)):
            ours, theirs = mass(swept[rows], part), mass(alone, part)
            error = ((ours.var() + theirs.var()) / SEEDS).sqrt()
            off = float((ours.mean() - theirs.mean()) / error)
            verdict = "" if abs(off) < FARTHEST else f" beyond {FARTHEST:g}"
            print(
                f"  {method.name} {beta:g} {side}: {theirs.mean():.4f} {ours.mean():.4f} {off:+.1f}{verdict}"
            )


if __name__ == "__main__":
    main()
