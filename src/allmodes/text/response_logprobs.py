"""Log-probabilities of logged responses under a language model."""

from collections.abc import Sequence
from typing import Any, final

from allmodes.audit.logs.backfill import Request, ResponseLogprob
from allmodes.errors import ConfigError
from allmodes.text.likelihood import paired_logprobs
from allmodes.text.logged_prompts import PromptReader, Prompts, PromptTokens

_BATCH = 64


@final
class ResponseScorer:
    """Log π of whole responses after their prompts, nats, for `backfill`.

    Tokens of a response are those that the tokenizer gives its text, and the end of text, unless it was cut
    off: where the log says so, or says nothing and there are `max_tokens` or more. prompts: what a text as a
    prompt is, as `PromptReader` has it. There is no result for a response without tokens, with tokens that
    tokenizer or model do not know, or beyond the model's positions, and for a prompt that cannot be read.

    Raises ConfigError for a tokenizer without an end of text, or without a chat template that is needed.
    """

    def __init__(self, model: Any, tokenizer: Any, *, prompts: Prompts, max_tokens: int | None) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigError("`model`: expected a tokenizer with an end of text; got one without")
        self._model, self._tokenizer, self._max_tokens = model, tokenizer, max_tokens
        self._read_prompt = PromptReader(tokenizer, prompts=prompts)

    def __call__(self, requests: Sequence[Request]) -> list[ResponseLogprob | None]:
        """A result for each request."""
        encoded = self._tokenizer([request.response for request in requests], add_special_tokens=False)
        results: list[ResponseLogprob | None] = [None] * len(requests)
        found: list[tuple[int, PromptTokens, list[int]]] = []
        for number, (request, ids) in enumerate(zip(requests, encoded["input_ids"], strict=True)):
            prompt = self._read_prompt(request.prompt)
            row = self._with_end(ids, truncated=request.truncated)
            if prompt is not None and self._is_possible(prompt.ids, row):
                found.append((number, prompt, row))
        logprobs = paired_logprobs(
            self._model,
            [prompt.ids for _, prompt, _ in found],
            [row for _, _, row in found],
            batch_size=_BATCH,
        )
        for (number, prompt, row), logprob in zip(found, logprobs.tolist(), strict=True):
            results[number] = ResponseLogprob(
                logprob=logprob, num_tokens=len(row), as_it_stands=prompt.as_it_stands
            )
        return results

    def _with_end(self, ids: list[int], *, truncated: bool | None) -> list[int]:
        end = self._tokenizer.eos_token_id
        if truncated is None:
            truncated = self._max_tokens is not None and len(ids) >= self._max_tokens
        return ids if truncated or ids[-1:] == [end] else [*ids, end]

    def _is_possible(self, prompt: Sequence[int], row: Sequence[int]) -> bool:
        config, unknown = self._model.config.get_text_config(), self._tokenizer.unk_token_id
        positions = getattr(config, "max_position_embeddings", None)
        return (
            len(prompt) > 0
            and len(row) > 0
            and max(row) < config.vocab_size
            and (unknown == self._tokenizer.eos_token_id or unknown not in row)
            and (positions is None or len(prompt) + len(row) <= positions)
        )
