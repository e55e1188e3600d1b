"""Sample responses of a language model at a temperature, without other changes of its distribution."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from allmodes.integrations.shared_prompts import shared_generation


def chat_prompt(tokenizer: Any, prompt: str, **template: Any) -> str:
    """The prompt as the user's message in the tokenizer's chat template, with the assistant's turn begun."""
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, **template
    )


def draw_tokens(
    model: Any, ids: Tensor, mask: Tensor, *, max_tokens: int, temperature: float, pad: int
) -> Tensor:
    """What the policy writes after `ids`, (N, T); the model's own generation settings are overruled."""
    with shared_generation(model):
        generated = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            max_new_tokens=max_tokens,
            pad_token_id=pad,
        )
    return generated[:, ids.shape[1] :]


@torch.no_grad()
def sample_responses(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    count: int,
    max_tokens: int,
    temperature: float,
    seed: int,
    batch_size: int = 256,
    chat_template: Mapping[str, Any] | None = None,
    advance: Callable[[int], object] = lambda done: None,
) -> list[list[str]]:
    """`count` responses to each prompt, without special tokens.

    The model's own generation settings (top-k, top-p, penalties) are overruled: samples are of the policy
    at this temperature. advance: given the number of responses of each batch as it is there. The state of
    torch's generators is left as it was.
    """
    texts = [chat_prompt(tokenizer, prompt, **(chat_template or {})) for prompt in prompts]
    rows = [text for text in texts for _ in range(count)]
    responses: list[str] = []
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, len(rows), batch_size):
            batch = tokenizer(
                rows[start : start + batch_size],
                padding=True,
                padding_side="left",
                add_special_tokens=False,
                return_tensors="pt",
            ).to(device)
            new = draw_tokens(
                model,
                batch["input_ids"],
                batch["attention_mask"],
                max_tokens=max_tokens,
                temperature=temperature,
                pad=tokenizer.pad_token_id,
            )
            responses += tokenizer.batch_decode(new, skip_special_tokens=True)
            advance(len(new))
    model.train(was_training)
    return [responses[start : start + count] for start in range(0, len(rows), count)]
