"""Three steps of a trainer on completions that do not depend on the number of processes; run by torchrun.

Usage: two_processes.py MODEL FOLDER. With GRPO and with RLOO, MARA, IPS and each method that remembers
something train one after the other, for GRPO the trajectory-balance loss too. The first process writes the
results of each trainer as FOLDER/grpo.json and FOLDER/rloo.json, and MARA's audit logs into FOLDER/grpo
and FOLDER/rloo.
"""

import gc
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from trl import GRPOConfig, RLOOConfig

from allmodes.integrations.trl import GRPOTrainer, RLOOTrainer
from allmodes.integrations.trl_audit import AuditLog
from allmodes.integrations.trl_flow import FlowRLTrainer
from allmodes.integrations.trl_state import TransformState
from allmodes.methods import IPS, MARA, METHODS, Method, state_to_json
from allmodes.objectives import GroupQuantile
from method_cases import build

ROWS, GROUP, STEPS = 12, 4, 3


def reward(completion_ids: list[list[int]], **_: object) -> list[float]:
    """Share of even tokens."""
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in completion_ids]


def set_of_letters(text: str) -> str | None:
    """One outcome for all orders and repetitions, none with a j."""
    return None if "j" in text else "".join(sorted(set(text)))


def methods(name: str) -> dict[str, Method]:
    """What is trained. For RLOO on outcomes too, whose ids must agree between the processes."""
    stateful = {other: build(other) for other in METHODS if build(other).has_state}
    key = None if name == "grpo" else set_of_letters
    return {"mara": MARA(threshold=GroupQuantile(0.4), outcome_key=key), "ips": IPS(), **stateful}


def train(name: str, model: str, folder: Path, method: Method, *, with_flow: bool = False) -> dict[str, Any]:
    """Figures of every step, the parameters at the end, and what each process remembers."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 7, (STEPS, ROWS), generator=generator)
    tokens = torch.randint(6, 16, (STEPS, ROWS, 6), generator=generator)
    kind, config = (GRPOTrainer, GRPOConfig) if name == "grpo" else (RLOOTrainer, RLOOConfig)
    kind = FlowRLTrainer if with_flow else kind
    extra = {"scale_rewards": "none"} if name == "grpo" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args = config(
            output_dir=str(folder / "run"),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            num_generations=GROUP,
            max_completion_length=8,
            max_steps=STEPS,
            logging_steps=1,
            learning_rate=1e-2,
            # Adam's first steps are signs of gradients, and would blow up rounding.
            optim="sgd",
            max_grad_norm=0.0,
            beta=0.1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            shuffle_dataset=False,
            generation_batch_size=ROWS,
            per_device_train_batch_size=ROWS // int(os.environ.get("WORLD_SIZE", "1")),
            **extra,
        )
        trainer = kind(
            model=model,
            reward_funcs=reward,
            args=args,
            train_dataset=Dataset.from_dict({"prompt": ["a b", "c d e", "f"] * 4}),
            transform=method,
            outcome_key=set_of_letters if name == "grpo" or method.key is None else None,
        )
        rank = trainer.accelerator.process_index

        def rollout(prompt_ids: list[list[int]], *_: object) -> object:
            step, first = trainer.state.global_step, rank * len(prompt_ids)
            rows = range(first, first + len(prompt_ids))
            ids = [[*tokens[step, row, : lengths[step, row]].tolist(), 1] for row in rows]
            return (ids, None) if name == "grpo" else ids

        trainer._generate_single_turn = rollout
        advantages = []
        scored = trainer._generate_and_score_completions

        def keep(inputs: list[dict]) -> dict:
            batch = scored(inputs)
            advantages.append(trainer.accelerator.gather(batch["advantages"]).tolist())
            return batch

        trainer._generate_and_score_completions = keep
        if method.name == "mara":
            trainer.add_callback(AuditLog(trainer, folder / name))
        trainer.train()
    kept = ("loss", "grad_norm", "reward", "reward_std", "frac_reward_zero_std", "kl")
    log = [
        {k: v for k, v in entry.items() if k in kept or k.startswith(("transform/", "answers/", "flow/"))}
        for entry in trainer.state.log_history[:STEPS]
    ]
    memories = [c for c in trainer.callback_handler.callbacks if isinstance(c, TransformState)]
    trained = [*trainer.accelerator.unwrap_model(trainer.model).parameters()]
    trained += [*trainer.head.parameters()] if with_flow else []
    return {
        "log": log,
        "advantages": advantages,
        "parameters": torch.cat([p.detach().flatten() for p in trained]).tolist(),
        "states": gather_object([state_to_json(memory.value) for memory in memories]),
    }


def main(model: str, folder: Path) -> None:
    """Train with every method, and write what came of it."""
    gc.freeze()  # each trainer collects garbage, and would look at all that the imports have left
    state = PartialState()
    for name in ("grpo", "rloo"):
        results = {label: train(name, model, folder, method) for label, method in methods(name).items()}
        if name == "grpo":
            results["flowrl"] = train(name, model, folder, IPS(), with_flow=True)
        if state.is_main_process:
            (folder / f"{name}.json").write_text(json.dumps(results))
    state.wait_for_everyone()
    sys.stdout.flush()
    os._exit(0)  # all is written; gloo's threads now and then abort the interpreter's own way out


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
