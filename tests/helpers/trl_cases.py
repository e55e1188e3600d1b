"""Trainers of TRL's and ours on the tiny language model: what tests do with them and compute apart."""

from pathlib import Path
from typing import Any

import torch
import trl
from torch import Tensor
from transformers import AutoTokenizer

from allmodes.integrations.trl import GRPOTrainer, RLOOTrainer

OURS = {"grpo": GRPOTrainer, "rloo": RLOOTrainer}
THEIRS = {"grpo": trl.GRPOTrainer, "rloo": trl.RLOOTrainer}
PROMPTS = ["a b", "c d e", "f"]
Inputs = list[dict[str, Any]]


def even_share(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """A reward with many values and ties: the share of even tokens, in quarters."""
    return [round(4 * sum(t % 2 == 0 for t in ids) / len(ids)) / 4 for ids in completion_ids]


def outcome(text: str) -> str | None:
    """The set of letters; no letters, no outcome."""
    return "".join(sorted(set(text))) or None


def score(trainer: Any, inputs: Inputs, *, drift: float = 0.3) -> dict[str, Any]:
    """A generation of a policy that has moved away from its reference, as in training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter += (
                    drift
                    * parameter.std().nan_to_num(0.1).clamp(min=0.1)
                    * torch.randn(parameter.shape, generator=generator)
                )
    trainer.model.train()
    torch.manual_seed(0)
    return trainer._generate_and_score_completions(inputs)


def sequence_logprobs(model: Any, batch: dict[str, Any], *, temperature: float = 1.0) -> Tensor:
    """log p of every completion, one row at a time and without padding, float64."""
    total = []
    for prompt, prompt_mask, ids, mask in zip(
        batch["prompt_ids"],
        batch["prompt_mask"],
        batch["completion_ids"],
        batch["completion_mask"],
        strict=True,
    ):
        prompt, ids = prompt[prompt_mask.bool()], ids[mask.bool()]
        with torch.no_grad():
            logits = model(torch.cat([prompt, ids]).unsqueeze(0)).logits[0].double() / temperature
        logprobs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        total.append(logprobs.gather(1, ids.unsqueeze(1)).sum())
    return torch.stack(total)


def rewards_of(batch: dict[str, Any]) -> Tensor:
    rows = zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    return torch.tensor(even_share([ids[mask.bool()].tolist() for ids, mask in rows])).double()


def texts_of(model: Path, batch: dict[str, Any]) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    return tokenizer.batch_decode([i[m.bool()].tolist() for i, m in rows], skip_special_tokens=True)


def group_ids(count: int = 12) -> Tensor:
    return torch.arange(count) // 4


def ids_of(outcomes: list[str | None]) -> Tensor:
    names = sorted({o for o in outcomes if o is not None})
    return torch.tensor([-1 if o is None else names.index(o) for o in outcomes])


def by_hand(kind: str, rewards: Tensor, log_ratio: Tensor, *, beta: float = 0.1) -> Tensor:
    """Advantages with the KL in the rewards: less the group's mean, or the mean of the others.

    A log-ratio of zeros leaves the KL out, as GRPO does that has it in the loss.
    """
    grouped = (rewards - beta * log_ratio).view(-1, 4)
    if kind == "grpo":
        return (grouped - grouped.mean(1, keepdim=True)).view(-1)
    return (grouped - (grouped.sum(1, keepdim=True) - grouped) / 3).view(-1)


def last(trainer: Any, name: str) -> float:
    return trainer._metrics["train"][name][-1]


def set_completions(trainer: Any, rows: list[list[int]]) -> None:
    """Let the trainer find these completions instead of samples."""
    is_grpo = isinstance(trainer, trl.GRPOTrainer)
    trainer._generate_single_turn = lambda *_, **__: (rows, None) if is_grpo else rows


def parameters(trainer: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
