"""GRPO with MARA in TRL: seven colours are right answers, and at the optimum all are equally likely.

    python examples/trl_colours.py --model Qwen/Qwen2.5-0.5B-Instruct --out runs/colours
    allmodes audit runs/colours/log

`--model` is a name on the Hugging Face hub or a folder. `--plain` trains without MARA, for comparison.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig

from allmodes.integrations import MARA
from allmodes.integrations.trl import GRPOTrainer
from allmodes.integrations.trl_audit import AuditLog

PROMPT = "Name a colour of the rainbow. Answer with one word."
COLOURS = ("red", "orange", "yellow", "green", "blue", "indigo", "violet")


def answer(response: str) -> str | None:
    """The outcome of a response: a colour, or None for anything else."""
    word = response.strip().rstrip(".").lower()
    return word if word in COLOURS else None


def reward(completions: list[Any], **_: Any) -> list[float]:
    """1 for any of the colours, else 0."""
    return [float(answer(completion[-1]["content"]) is not None) for completion in completions]


def main() -> None:
    """Train, and log every sample for the audit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/colours"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    trainer = GRPOTrainer(
        model=arguments.model,
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(arguments.out / "trainer"),
            beta=0.05,  # strength of the KL; MARA needs it above 0
            scale_rewards="none",  # advantages are not divided by a standard deviation
            num_generations=16,  # the group: samples of one prompt
            per_device_train_batch_size=16,
            max_completion_length=8,
            max_steps=arguments.steps,
            learning_rate=1e-5,
            logging_steps=1,
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available(),
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": PROMPT}]}] * 16),
        # The two lines that are not TRL's:
        transform=None if arguments.plain else MARA(threshold=1.0, level="outcomes"),
        outcome_key=answer,
    )
    trainer.add_callback(AuditLog(trainer, arguments.out / "log", outcome_key=answer))
    trainer.train()
    trainer.save_model(str(arguments.out / "model"))


if __name__ == "__main__":
    main()
