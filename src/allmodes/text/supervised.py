"""Maximum likelihood of responses, used for warm starts and stand-ins."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Pair = tuple[Sequence[int], Sequence[int]]  # tokens of a prompt, and of a response to it with its end
_IGNORED = -100  # the label of what is not learnt
_SMALL = 4096  # of vocabularies


def response_loss(model: Any, pairs: Sequence[Pair], *, pad: int) -> Tensor:
    """−log π of the responses' tokens given what stands before them, nats, mean over all of these tokens."""
    padded = right_padded([[*prompt, *response] for prompt, response in pairs], pad)
    labels = torch.full_like(padded, _IGNORED)
    for row, ids, (prompt, response) in zip(labels, padded, pairs, strict=True):
        learnt = slice(len(prompt) - 1, len(prompt) + len(response) - 1)  # a position's logits are ...
        row[learnt] = ids[len(prompt) : len(prompt) + len(response)]  # ... those of the token after it
    device = next(model.parameters()).device
    # With a small vocabulary the logits of prompts cost less than the trouble.
    first = min(len(prompt) for prompt, _ in pairs) - 1 if model.config.vocab_size > _SMALL else 0
    # Nothing to mask: what stands right of a token is not seen from it.
    output = model(
        input_ids=padded.to(device),
        attention_mask=torch.ones_like(padded, device=device),
        logits_to_keep=padded.shape[1] - first,
    )
    return torch.nn.functional.cross_entropy(
        output.logits.float().flatten(0, 1), labels[:, first:].flatten().to(device), ignore_index=_IGNORED
    )


def right_padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Rows of tokens as one tensor (N, T)."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])


def minimise(
    model: Any,
    loss: Callable[[], Tensor],
    *,
    steps: int,
    rate: float,
    stop: Callable[[int], bool] = lambda done: False,
) -> int:
    """Adam with a warm-up and a cosine to zero; returns the steps done, and the model ends in eval mode.

    stop: given the number of steps after each of them; True ends the training.
    """
    adam = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=rate, total_steps=max(steps, 2))
    done = 0
    for done in range(1, steps + 1):
        model.train()
        value = loss()
        adam.zero_grad()
        value.backward()
        adam.step()
        schedule.step()
        if stop(done):
            break
    model.eval()
    return done
