"""Plain TRL on a made-up base model, its samples in two logs, and what `allmodes audit` says of them.

    python examples/audit_trl.py --trainer grpo --out runs/audit-trl
    allmodes audit runs/audit-trl/log --good 0.85                 # by AuditLog, with its settings beside it
    allmodes audit runs/audit-trl/trainer/completions --good 0.85 --trainer trl --beta 0.05 \
        --kl k3-in-loss-corrected --transform none --columns.outcome completion   # TRL's own Parquet files

The base model is a stand-in of half a million parameters that says a digit. Rewards do not rank the digits as
the model does, so that the optimum at β = 0.05 is neither its reference nor the best digit alone.
"""

import argparse
import random
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from allmodes.integrations.trl_audit import AuditLog
from allmodes.text.stand_ins.tiny import tiny_language_model, tiny_tokenizer, train_on_responses

PROMPT = "Say a digit."
SHARES = {"1": 0.35, "2": 0.20, "3": 0.15, "4": 0.10, "5": 0.10, "none": 0.10}
REWARDS = {"1": 0.90, "2": 1.00, "3": 1.00, "4": 0.95, "5": 0.50}
BETA = 0.05


def make_base(out: Path, *, steps: int) -> str:
    """Train the stand-in on digits with these shares, and save it."""
    tokenizer = tiny_tokenizer([PROMPT, "system user assistant\n", *SHARES], vocabulary_size=300)
    model = tiny_language_model(tokenizer, seed=0)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPT}], add_generation_prompt=True, return_dict=False
    )
    draw = random.Random(0)  # noqa: S311  # no secret
    digits, shares = list(SHARES), list(SHARES.values())
    train_on_responses(
        model,
        tokenizer,
        lambda: [(prompt, d) for d in draw.choices(digits, shares, k=64)],
        steps=steps,
        rate=2e-3,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return str(out)


def reward(completions: list[Any], **_: Any) -> list[float]:
    """What each digit is worth; 0 for anything else."""
    return [REWARDS.get(completion[-1]["content"], 0.0) for completion in completions]


def main() -> None:
    """Train, and leave both logs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainer", choices=("rloo", "grpo"), default="rloo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--base-steps", type=int, default=300)
    parser.add_argument("--group", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("runs/audit-trl"))
    arguments = parser.parse_args()
    is_rloo = arguments.trainer == "rloo"
    settings = {
        "output_dir": str(arguments.out / "trainer"), "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "beta": BETA, "num_generations": arguments.group,
        "per_device_train_batch_size": arguments.group, "max_completion_length": 4,
        "max_steps": arguments.steps, "learning_rate": 3e-4, "lr_scheduler_type": "linear",
        "logging_steps": 1, "log_completions": True, "num_completions_to_print": 0, "report_to": [],
        "save_strategy": "no", "seed": arguments.seed, "disable_tqdm": True,
        "model_init_kwargs": {"dtype": "float32"}, **({} if is_rloo else {"scale_rewards": "none"}),
    }  # fmt: skip
    trainer_class, config = (RLOOTrainer, RLOOConfig) if is_rloo else (GRPOTrainer, GRPOConfig)
    trainer = trainer_class(
        model=make_base(arguments.out / "base", steps=arguments.base_steps),
        reward_funcs=reward,
        args=config(**settings),
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": PROMPT}]}] * arguments.group
        ),
    )
    trainer.add_callback(AuditLog(trainer, arguments.out / "log", outcome_key=str.strip, warn_every=100))
    trainer.train()
    trainer.save_model(str(arguments.out / "model"))


if __name__ == "__main__":
    main()
