"""Log-probabilities of a language model's own responses, and the skew of the optimum they imply."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from allmodes.checks import check_fraction, check_same_shape
from allmodes.errors import InputError
from allmodes.targets import predicted_ratios
from allmodes.text.sampling import chat_prompt, draw_tokens

# Tokens and logits of one forward pass; 2^28 logits are 1 GiB in float32. Measured on one thread of a
# processor: passes of 4,000 tokens are slower than rows alone, those of 2^26 logits half as fast as of 2^24.
# Not measured elsewhere.
_ON_CPU, _ELSEWHERE = (1 << 10, 1 << 24), (1 << 15, 1 << 28)
_LONGEST = 1.25  # times the shortest of a pass: padding costs as much as tokens
_AT_ONCE = 1 << 20  # logits of one softmax, which takes as much memory again


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

    Tokenizing a text again may give other tokens, so texts and log-probabilities come from the same ids. The
    state of torch's generators is not changed.
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

    The tokens of a text are those of the tokenizer, which may differ from those that a model drew: for a
    model's own samples use `sample_with_logprobs`. Raises InputError for no responses.
    """
    if not responses:
        raise InputError("`responses` must hold at least one text; got none")
    rows = [
        [*tokenizer.encode(response, add_special_tokens=False), tokenizer.eos_token_id]
        for response in responses
    ]
    return ids_logprobs(model, _prompt_ids(tokenizer, prompt, chat_template), rows, batch_size=batch_size)


def ids_logprobs(
    model: Any, prompt: Sequence[int], rows: Sequence[Sequence[int]], *, batch_size: int
) -> Tensor:
    """Σ_t log π(y_t | prompt, y_<t) of rows of tokens, (N,), float64."""
    return paired_logprobs(model, [prompt] * len(rows), rows, batch_size=batch_size)


@torch.no_grad()
def paired_logprobs(
    model: Any, prompts: Sequence[Sequence[int]], rows: Sequence[Sequence[int]], *, batch_size: int
) -> Tensor:
    """Σ_t log π(y_t | x, y_<t) of rows of tokens y, each after its own prompt x, (N,), float64.

    Pairs of like lengths go through the model together, at most `batch_size`, and fewer where their logits
    would be more than 2^28, or 2^24 on a processor: those of one pair may be. What a pair gets does not
    depend on the others, up to rounding. A prompt has at least one token.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(len(rows), dtype=torch.float64)
    for batch in _batches(model, prompts, rows, batch_size):
        found = _batch_logprobs(model, [prompts[pair] for pair in batch], [rows[pair] for pair in batch])
        sums[batch] = found.cpu()
    model.train(was_training)
    return sums


def _batches(
    model: Any, prompts: Sequence[Sequence[int]], rows: Sequence[Sequence[int]], batch_size: int
) -> Iterator[list[int]]:
    """Numbers of the pairs, shortest first."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    most_tokens, most_logits = _ON_CPU if on_cpu else _ELSEWHERE
    vocabulary = model.config.get_text_config().vocab_size
    lengths = [len(prompt) + len(row) for prompt, row in zip(prompts, rows, strict=True)]
    batch: list[int] = []
    for pair in sorted(range(len(rows)), key=lengths.__getitem__):
        more = [*batch, pair]
        tokens = len(more) * lengths[pair]
        kept = len(more) * (lengths[pair] - min(len(prompts[one]) for one in more) + 1)
        if batch and (
            len(more) > batch_size
            or tokens > most_tokens
            or kept * vocabulary > most_logits
            or lengths[pair] > _LONGEST * lengths[batch[0]]
        ):
            yield batch
            more = [pair]
        batch = more
    if batch:
        yield batch


def _batch_logprobs(model: Any, prompts: Sequence[Sequence[int]], rows: Sequence[Sequence[int]]) -> Tensor:
    device = next(model.parameters()).device
    starts = torch.tensor([len(prompt) for prompt in prompts], device=device).unsqueeze(1)
    ends = starts + torch.tensor([len(row) for row in rows], device=device).unsqueeze(1)
    first, width = int(starts.min()), int(ends.max())
    # Padding stands right of everything that is counted, where no token sees it.
    padded = [
        [*prompt, *row, *[0] * (width - len(prompt) - len(row))]
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    ids = torch.tensor(padded, device=device)
    # A position's logits are those of the token after it; the last position's are of none that is here.
    kept = width - first + 1
    can_keep = "logits_to_keep" in inspect.signature(model.forward).parameters
    output = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **({"logits_to_keep": kept} if can_keep else {}),
    )
    logits = output.logits[:, -kept:].flatten(0, 1)
    tokens = torch.nn.functional.pad(ids[:, first:], (0, 1)).flatten()
    part = max(1, _AT_ONCE // logits.shape[1])
    losses = [
        torch.nn.functional.cross_entropy(some.float(), chosen, reduction="none")
        for some, chosen in zip(logits.split(part), tokens.split(part), strict=True)
    ]
    logprobs = -torch.cat(losses).view(len(rows), kept)[:, :-1].double()
    positions = torch.arange(first, width, device=device)
    return torch.where((positions >= starts) & (positions < ends), logprobs, 0).sum(1)


@final
@dataclass(frozen=True, kw_only=True)
class Skew:
    """How uneven the reverse-KL optimum is over good samples.

    threshold: the quantile of the rewards. good_logprobs: log π_ref of the samples at or above it, nats.
    largest_gap: between two of them; the log-ratio of samples of equal reward. log_ratios: of the top
    samples at the optimum against the last of these, nats. indices: which samples they are.
    """

    threshold: float
    good_logprobs: Tensor
    largest_gap: float
    log_ratios: Tensor
    indices: Tensor


def skew_of_samples(ref_logprobs: Tensor, rewards: Tensor, *, beta: float, quantile: float, top: int) -> Skew:
    """The quantities of MARA's Figure 11 for samples from any reference model.

    ref_logprobs, rewards: (N,), log π_ref in nats of whole responses, with their rewards. Samples that were
    drawn twice count twice. quantile: of the rewards; samples at or above it are good.

    Raises InputError for shapes that disagree, values that are not finite, β ≤ 0, a quantile outside [0, 1],
    or top outside 1 .. N. Source: MARA, appendix C.4 (0.95, the top 16, β = 0.01).
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
