"""What a method adds to a step of TRL's trainers, against TRL's own trainer in the same minute.

The work: a Qwen2 of a million parameters built at run time, one step on 64 completions of at most 24 tokens
for 8 prompts, on the processor and with one thread: the smallest step that anybody trains with, so that any
overhead shows. Seconds are the processor's own, so that other programs matter little. The learning rate is 0
and each block of steps starts from the same seed, so that all trainers sample the same completions. Every
method of METHODS is measured, by two figures:

- paired: blocks of steps of TRL's trainer and of ours take turns; the median over rounds of the ratio of
  their median steps, with its standard error. It holds everything, and the noise of two measurements.
- own work: seconds inside the methods that ours overrides less those inside TRL's own methods that they
  call, as a share of the step. What is recorded during generation is own work, and so is a pass of the
  policy that TRL does not make.

What bounds it: a method is a few dozen operations on 64 numbers, and the log. Where GRPO needs log π_θ, as
for outcomes, generation's is recorded: a sum over the vocabulary for each token, and no pass.

Run: OMP_NUM_THREADS=1 python benchmarks/trl_step.py [rounds] [label ...]
"""

import inspect
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import trl
from datasets import Dataset
from transformers import TrainerCallback
from transformers.utils.logging import disable_progress_bar

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from allmodes.integrations.trl import GRPOTrainer, RLOOTrainer
from allmodes.integrations.trl_sampling import Recorder
from allmodes.methods import MARA, METHODS, Method
from method_cases import build as make
from tiny_lm import make_tokenizer, save_tiny_lm

STEPS, WARM, MOST = 4, 1, 0.01  # steps of a block, how many of them are left out, largest share of a method
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["<pad>", "<eos>", "<unk>", *(first + second for first in LETTERS for second in LETTERS)][:512]
PAIRS = {"RLOO": (trl.RLOOTrainer, RLOOTrainer), "GRPO": (trl.GRPOTrainer, GRPOTrainer)}


class Clock:
    """Seconds in our methods alone, without TRL's that they call; `whole` counts TRL's calls too."""

    def __init__(self) -> None:
        self.own = 0.0
        self._inside: list[float] = []  # of each open call, the seconds of the calls within it
        self._is_whole = False

    def watch(self, owner: type, name: str, *, ours: bool, whole: bool = False) -> None:
        """Replace the method of a class by itself, timed."""
        method = vars(owner)[name]

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._is_whole:
                return method(*args, **kwargs)
            self._inside.append(0.0)
            self._is_whole = whole
            start = time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                seconds = time.process_time() - start
                self._is_whole = False
                if ours:
                    self.own += seconds - self._inside[-1]
                self._inside.pop()
                if self._inside:
                    self._inside[-1] += seconds

        setattr(owner, name, timed)


def watch_overridden(clock: Clock, ours: type, theirs: type) -> None:
    """Time each method of TRL's that ours override, on both sides; what is shared is timed once."""
    for owner in ours.__mro__:
        if not owner.__module__.startswith("allmodes"):
            continue
        for name in [name for name, member in vars(owner).items() if inspect.isfunction(member)]:
            if name.startswith("__") or not (hasattr(theirs, name) or name == "_policy_logps"):
                continue
            if vars(owner)[name].__name__ != "timed":
                clock.watch(owner, name, ours=True, whole=name == "_policy_logps")
            if hasattr(theirs, name):
                clock.watch(next(c for c in theirs.__mro__ if name in vars(c)), name, ours=False)


class StepTimes(TrainerCallback):
    """Seconds of every step: generation, rewards, loss, backward, optimiser."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._start = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Read it."""
        self.seconds.append(time.process_time() - self._start)


def make_model(folder: Path) -> int:
    """A Qwen2 with random weights; returns its number of parameters."""
    sizes = {"hidden_size": 128, "intermediate_size": 448, "layers": 4, "heads": 4}
    model = save_tiny_lm(folder, WORDS, initializer_range=0.02, **sizes)
    return sum(parameter.numel() for parameter in model.parameters())


def reward(completions: list[str], **_: Any) -> list[float]:
    """Whether an a comes up among the first three letters."""
    return [float("a" in text[:3]) for text in completions]


def letters(text: str) -> str:
    """The first letter of each word, sorted: one outcome for all orders."""
    return "".join(sorted(word[0] for word in text.split()))


def build(kind: type, folder: Path, **arguments: Any) -> tuple[Any, StepTimes]:
    """A trainer, and the times of its steps."""
    is_grpo = issubclass(kind, trl.GRPOTrainer)
    args = (trl.GRPOConfig if is_grpo else trl.RLOOConfig)(
        output_dir=str(folder / "run"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=64,
        num_generations=8,
        max_completion_length=24,
        max_steps=STEPS,
        logging_steps=1,
        learning_rate=0.0,
        beta=0.1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **({"scale_rewards": "none"} if is_grpo else {}),
    )
    times = StepTimes()
    trainer = kind(
        model=str(folder / "model"),
        reward_funcs=reward,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": [f"{word} {word}" for word in WORDS[3:11]]}),
        processing_class=make_tokenizer(WORDS),
        callbacks=[times],
        **arguments,
    )
    trainer.log = lambda *_, **__: trainer._metrics["train"].clear()  # nothing on the screen
    return trainer, times


def block(trainer: Any, times: StepTimes, clock: Clock, seed: int) -> tuple[float, float]:
    """Median seconds of a step, and the share of our own work in a step."""
    times.seconds.clear()
    clock.own = 0.0
    torch.manual_seed(seed)
    trainer.train()
    return statistics.median(times.seconds[WARM:]), clock.own / sum(times.seconds)


def median_and_error(values: list[float]) -> tuple[float, float]:
    """Median, and its standard error were the values normal: 1.253 · 1.483 MAD / √n."""
    middle = statistics.median(values)
    spread = 1.483 * statistics.median(abs(value - middle) for value in values)
    return middle, 1.253 * spread / len(values) ** 0.5


def measure(name: str, folder: Path, rounds: int, clock: Clock, only: list[str]) -> None:
    """Print the figures of one kind of trainer, of all methods or `only` some."""
    theirs, ours = PAIRS[name]
    watch_overridden(clock, ours, theirs)
    methods: dict[str, Method] = {name: make(name) for name in METHODS}
    methods["mara on outcomes"] = MARA(threshold=0.5, level="outcomes")
    makers: dict[str, Callable[[], tuple[Any, StepTimes]]] = {
        "TRL": lambda: build(theirs, folder),
        "no method": lambda: build(ours, folder),
        **{
            label: partial(build, ours, folder, transform=method, outcome_key=letters)
            for label, method in methods.items()
        },
    }
    makers = {label: maker for label, maker in makers.items() if label == "TRL" or label in (only or makers)}
    trainers = {label: make() for label, make in makers.items()}
    for trainer, times in trainers.values():
        block(trainer, times, clock, 0)
    steps: dict[str, list[float]] = defaultdict(list)
    shares: dict[str, list[float]] = defaultdict(list)
    order = list(trainers)
    for turn in range(rounds):
        for label in order[turn % len(order) :] + order[: turn % len(order)]:
            seconds, share = block(*trainers[label], clock, turn)
            steps[label].append(seconds)
            shares[label].append(share)
    print(f"{name}: {1e3 * statistics.median(steps['TRL']):.0f} ms a step of TRL's own, {rounds} rounds")
    for label in order[1:]:
        ratios = [mine / base for mine, base in zip(steps[label], steps["TRL"], strict=True)]
        middle, error = median_and_error(ratios)
        share = statistics.median(shares[label])
        held = f"at most {MOST:.0%}: {'held' if share <= MOST else 'MISSED'}"
        print(f"  {label}: paired {middle - 1:+.2%} ± {error:.2%}, own work {share:.3%} of the step; {held}")


def main() -> None:
    """Print the shares."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    warnings.simplefilter("ignore")
    disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as path:
        print(f"{make_model(Path(path) / 'model'):,} parameters, 64 completions of at most 24 tokens")
        clock = Clock()
        for name in ("__call__", "finish"):
            clock.watch(Recorder, name, ours=True)
        for name in PAIRS:
            measure(name, Path(path), rounds, clock, sys.argv[2:])


if __name__ == "__main__":
    main()
