"""How likely a language model finds its own responses, and how skewed an optimum that makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from allmodes.checks import check_fraction, check_same_shape
from allmodes.errors import InputError
from allmodes.targets import predicted_ratios
from allmodes.text.sampling import chat_prompt, draw_tokens


@final
@dataclass(frozen=True, kw_only=True)
class Samples:
    """Responses to one prompt. ids: tokens as they were drawn, the end of text included where it came.

    logprobs: (N,), log π of all these tokens, nats, at temperature 1. is_finished: (N,), whether the end came
    before the limit; the others are beginnings of responses.
    """

    texts: list[str]
    ids: list[list[int]]
    logprobs: Tensor
    is_finished: Tensor


@torch.no_grad()
def sample_with_logprobs(
    model: Any,
    tokenizer: Any,
    prompt: str,
    *,
    count: int,
    max_tokens: int,
    seed: int,
    batch_size: int = 256,
    chat_template: Mapping[str, Any] | None = None,
) -> Samples:
    """`count` responses at temperature 1 with their log-probabilities, of the tokens that were drawn.

    A text may have other tokens when it is read again than when it was written, so both come from the same
    ids. The state of torch's generators is left as it was.
    """
    start = _prompt_ids(tokenizer, prompt, chat_template)
    ends = _ends(model, tokenizer)
    rows: list[list[int]] = []
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while len(rows) < count:
            ids = torch.tensor([start], device=device).expand(min(batch_size, count - len(rows)), -1)
            new = draw_tokens(
                model,
                ids,
                torch.ones_like(ids),
                max_tokens=max_tokens,
                temperature=1.0,
                pad=tokenizer.pad_token_id,
            )
            rows += [_until_end(row, ends) for row in new.tolist()]
    model.train(was_training)
    return Samples(
        texts=tokenizer.batch_decode(rows, skip_special_tokens=True),
        ids=rows,
        logprobs=ids_logprobs(model, start, rows, batch_size=batch_size),
        is_finished=torch.tensor([row[-1] in ends for row in rows]),
    )


def sequence_logprobs(
    model: Any,
    tokenizer: Any,
    prompt: str,
    responses: Sequence[str],
    *,
    batch_size: int = 64,
    chat_template: Mapping[str, Any] | None = None,
) -> Tensor:
    """Log-probabilities of whole responses, the end of text included, (N,), nats, at temperature 1.

    A text has the tokens that the tokenizer gives it, which need not be those that a model drew: for a
    model's own samples take `sample_with_logprobs`. Raises InputError for no responses.
    """
    if not responses:
        raise InputError("`responses` must hold at least one text; got none")
    rows = [
        [*tokenizer.encode(response, add_special_tokens=False), tokenizer.eos_token_id]
        for response in responses
    ]
    return ids_logprobs(model, _prompt_ids(tokenizer, prompt, chat_template), rows, batch_size=batch_size)


@torch.no_grad()
def ids_logprobs(
    model: Any, prompt: Sequence[int], rows: Sequence[Sequence[int]], *, batch_size: int
) -> Tensor:
    """Σ_t log π(y_t | prompt, y_<t) of rows of tokens, (N,), float64."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums: list[Tensor] = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        width = max(len(row) for row in batch)
        # Padding stands right of everything that is counted, where no token sees it.
        ids = torch.tensor([[*prompt, *row, *[0] * (width - len(row))] for row in batch], device=device)
        own = torch.tensor([len(row) for row in batch], device=device).unsqueeze(1)
        is_counted = torch.arange(width, device=device) < own
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        chosen = -torch.nn.functional.cross_entropy(
            logits[:, len(prompt) - 1 : -1].float().transpose(1, 2), ids[:, len(prompt) :], reduction="none"
        )
        sums.append(torch.where(is_counted, chosen.double(), 0).sum(1).cpu())
    model.train(was_training)
    return torch.cat(sums)


@final
@dataclass(frozen=True, kw_only=True)
class Skew:
    """How unevenly the reverse-KL optimum treats good samples.

    threshold: the quantile of the rewards. good_logprobs: log π_ref of the samples from it on, nats.
    largest_gap: between two of them; the log-ratio of samples of equal reward. log_ratios: of the top
    samples at the optimum against the last of these, nats. indices: which samples they are.
    """

    threshold: float
    good_logprobs: Tensor
    largest_gap: float
    log_ratios: Tensor
    indices: Tensor


def skew_of_samples(ref_logprobs: Tensor, rewards: Tensor, *, beta: float, quantile: float, top: int) -> Skew:
    """What Figure 11 shows of anybody's samples from a reference model.

    ref_logprobs, rewards: (N,), log π_ref in nats of whole responses, with their rewards. Samples that were
    drawn twice count twice. quantile: of the rewards, from which on a sample is good.

    Raises InputError for shapes that disagree, values that are not finite, β ≤ 0, a quantile outside [0, 1],
    or top outside 1 .. N. Source: MARA, appendix C.4 (.95, the top 16, β = .01).
    """
    check_fraction("quantile", quantile)
    check_same_shape("ref_logprobs", ref_logprobs, "rewards", rewards)
    ratios = predicted_ratios(ref_logprobs, rewards, beta=beta, top=top)
    threshold = torch.quantile(rewards.double(), quantile)
    good = ref_logprobs[rewards.double() >= threshold]
    return Skew(
        threshold=float(threshold),
        good_logprobs=good,
        largest_gap=float(good.max() - good.min()),
        log_ratios=ratios.log_ratios,
        indices=ratios.indices,
    )


def _prompt_ids(tokenizer: Any, prompt: str, chat_template: Mapping[str, Any] | None) -> list[int]:
    return tokenizer.encode(chat_prompt(tokenizer, prompt, **(chat_template or {})), add_special_tokens=False)


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """The tokens that end a response."""
    own = model.generation_config.eos_token_id
    found = own if isinstance(own, list) else [own]
    return {token for token in (*found, tokenizer.eos_token_id) if token is not None}


def _until_end(row: list[int], ends: set[int]) -> list[int]:
    end = next((place for place, token in enumerate(row) if token in ends), None)
    return row if end is None else row[: end + 1]
