"""A training step of a real model on this processor, as a share of the rate of its matrix products.

The work: SmolLM2-135M-Instruct, one prompt of about 70 tokens, 32 responses of at most 16, GRPO by MARA with
the KL of whole responses, LoRA of rank 16 on all linear layers; in float32, and in bfloat16 where the
processor has it, with one pass over the prompt for all responses (shared) and without.

- training pass: the pass with a gradient, and the gradient. Its floating-point operations are those of the
  matrix products that it cannot do without: two for each weight and token forward, and two for the gradient
  of what flows through. LoRA has no gradient of the model's own weights; its own products are left out, and
  so is attention. Logits are of the responses alone. A shared prompt counts once.
- rate of matrix products: products of 2048 × 2048 in the same precision, the best of several.
- step: generation, the reference's pass, rewards, training pass, optimiser.

Seconds are the processor's own, with one thread, so that other programs matter little.

Run: OMP_NUM_THREADS=1 python benchmarks/real_model_step.py [FOLDER of the model] [steps]
"""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from allmodes.text.config import TextConfig
from allmodes.text.gguf_models import as_folder
from allmodes.text.models import has_bfloat16, load_tokenizer, quieten
from allmodes.text.packaged_models import is_packaged, packaged_file
from allmodes.text.reporting.results import Arm
from allmodes.text.sampling import chat_prompt
from allmodes.text.training import make_trainer

GOAL = 0.4  # of the rate of matrix products, in the training pass
RESPONSES, TOKENS, RANK = 32, 16, 16


def matrix_rate(dtype: torch.dtype, *, size: int = 2048, rounds: int = 5) -> float:
    """Floating-point operations a second of the fastest product."""
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        left @ right
        seconds.append(time.process_time() - start)
    return 2 * size**3 / min(seconds)


class Seconds:
    """The processor's seconds inside calls of a method, and what it was called with last."""

    def __init__(self, owner: Any, name: str) -> None:
        self.total, self.result, self.arguments = 0.0, None, ()
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            self.result = method(*args, **kwargs)
            self.arguments = args
            self.total += time.process_time() - start
            return self.result

        setattr(owner, name, timed)


def measure(model: str, *, precision: str, shared: bool, steps: int) -> None:
    """Train for some steps after one that warms up; print the figures of the rest."""
    config = TextConfig.model_validate(
        {
            "kind": "text", "task": "one_two", "model": model, "trainer": ["grpo"], "kl": ["reverse"],
            "method": ["mara"], "beta": [0.01], "steps": 1 + steps, "group_size": RESPONSES,
            "learning_rate": 1e-4, "max_tokens": TOKENS, "precision": precision, "lora": {"r": RANK},
            "share_prompts": shared, "threads": 1, "checkpoint_every": 1000,
        }
    )  # fmt: skip
    task, tokenizer = config.task.make(), load_tokenizer(model)
    arm = Arm(trainer="grpo", kl="reverse", method="mara", beta=0.01)
    with tempfile.TemporaryDirectory() as out, warnings.catch_warnings(action="ignore"):
        trainer = make_trainer(
            config, task, arm, seed=0, model=model, tokenizer=tokenizer,
            reward=lambda prompts, completions, **_: [float(n % 2) for n in range(len(completions))],
            out=Path(out), keep_checkpoints=False, callbacks=[],
        )  # fmt: skip
        whole, scoring = (
            Seconds(trainer, name) for name in ("training_step", "_generate_and_score_completions")
        )
        generation = Seconds(trainer, "_generate")
        first: list[float] = []
        scoring_step = trainer.training_step

        def step(*args: Any, **kwargs: Any) -> Any:
            result = scoring_step(*args, **kwargs)
            if not first:
                first.extend(one.total for one in (whole, scoring, generation))
            return result

        trainer.training_step = step
        trainer.train()
    found = [one.total - start for one, start in zip((whole, scoring, generation), first, strict=True)]
    seconds, scored, generated = (value / steps for value in found)
    batch: Any = scoring.result
    prompt = len(tokenizer.encode(chat_prompt(tokenizer, task.prompts[0]), add_special_tokens=False))
    width = batch["completion_ids"].shape[1]
    unwrapped = trainer.accelerator.unwrap_model(trainer.model).get_base_model()
    head = unwrapped.get_output_embeddings().weight.numel()
    matrices = [
        weight.numel()
        for name, weight in unwrapped.named_parameters()
        if weight.dim() == 2 and "lora_" not in name
    ]
    blocks = sum(matrices) - head  # which the embeddings share, and cost nothing
    through = (prompt if shared else RESPONSES * prompt) + RESPONSES * width
    flops = 2 * 2 * (blocks * through + head * RESPONSES * width)
    rate = matrix_rate(torch.bfloat16 if precision == "bfloat16" else torch.float32)
    training = seconds - scored
    share = flops / training / rate
    print(
        f"{precision}, {'shared prompt' if shared else 'a prompt each'}: step {seconds:.1f} s (generation "
        f"{generated:.1f}, reference and rewards {scored - generated:.1f}, training pass {training:.1f})\n"
        f"  training pass {flops / training / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s of matrix products: "
        f"{share:.0%}, goal at least {GOAL:.0%}; prompt of {prompt} tokens, {RESPONSES} responses of {width}",
        flush=True,
    )


def main() -> None:
    """Measure in every precision that the processor has."""
    given = sys.argv[1] if len(sys.argv) > 1 else None
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    if given is None and not is_packaged("smollm2"):
        print("real model: skipped; `allmodes text model smollm2 --out FOLDER` says what to install")
        return
    quieten()
    torch.set_num_threads(1)
    model = as_folder(str(packaged_file("smollm2")) if given is None else given)
    for precision in ("float32", *(["bfloat16"] if has_bfloat16() else [])):
        for shared in (False, True):
            measure(model, precision=precision, shared=shared, steps=steps)


if __name__ == "__main__":
    main()
