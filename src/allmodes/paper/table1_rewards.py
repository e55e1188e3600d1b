"""Rewards of responses in Table 1: reward models, or stand-ins where no reward model is available.

No preference model installs as a package. At real scale the reward of training is relevance to the prompt,
and that of the comparison is the likelihood under the untouched base model: neither measures human
preferences.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from allmodes.paper.table1_settings import ALIKE, MOST_WORDS
from allmodes.tasks.task import check_same_length
from allmodes.text.evaluation.measures import Embed
from allmodes.text.likelihood import paired_logprobs
from allmodes.text.models import autocast
from allmodes.text.sampling import chat_prompt

_REMEMBERED = 4096  # embeddings, of a prompt's responses and of prompts


@final
class Relevance:
    """Relevance of a response to its prompt, reduced for long responses.

    R(x, y) = max(cos(e(x), e(y)), 0) · min(1, L/n),   n words in y, L = `most_words`

    e: an embedder. Between 0 and 1; a response that repeats its prompt has the highest reward.
    """

    def __init__(self, embed: Embed, *, most_words: int = MOST_WORDS) -> None:
        self._embed, self._most_words = embed, most_words

    def scores(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """The reward of each response, None of an empty one. Raises InputError for unequal lengths."""
        check_same_length(prompts, responses)
        distinct = list(dict.fromkeys([*prompts, *responses]))
        vectors = normalize(self._embed(distinct).double(), dim=1) if distinct else torch.zeros(0, 1)
        places = {text: place for place, text in enumerate(distinct)}
        return [
            self._score(vectors[places[prompt]], vectors[places[response]], len(response.split()))
            for prompt, response in zip(prompts, responses, strict=True)
        ]

    def _score(self, prompt: Tensor, response: Tensor, words: int) -> float | None:
        if words == 0:
            return None
        return max(float(prompt @ response), 0.0) * min(1.0, self._most_words / words)


@final
class BaseLikelihood:
    """The mean log-likelihood of a response under a model, in nats a token.

    (1/T) log π(y | x), the end included

    T: tokens of y and of its end, as the tokenizer writes them. For a response that was cut off, the end is
    counted although it is missing. precision: of the computation.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, chat_template: dict[str, Any], precision: str, batch_size: int
    ) -> None:
        self._model, self._tokenizer, self._template = model, tokenizer, chat_template
        self._precision, self._batch_size = precision, batch_size

    def scores(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """The mean of each response, None of an empty one. Raises InputError for unequal lengths."""
        check_same_length(prompts, responses)
        kept = [place for place, response in enumerate(responses) if response.strip()]
        starts = [self._encode(chat_prompt(self._tokenizer, prompts[i], **self._template)) for i in kept]
        rows = [[*self._encode(responses[i]), self._tokenizer.eos_token_id] for i in kept]
        scores: list[float | None] = [None] * len(responses)
        if kept:
            with autocast(self._precision):
                sums = paired_logprobs(self._model, starts, rows, batch_size=self._batch_size)
            for place, row, total in zip(kept, rows, sums.tolist(), strict=True):
                scores[place] = total / len(row)
        return scores

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)


@final
class AlikeEmbeddings:
    """A stand-in for NoveltyBench's judge: two responses with a cosine of at least `least` agree."""

    def __init__(self, embed: Embed, *, least: float = ALIKE) -> None:
        self._least = least

        @lru_cache(maxsize=_REMEMBERED)
        def vector(text: str) -> Tensor:
            return normalize(embed([text])[0].double(), dim=0)

        self._vector = vector

    def same(self, first: str, second: str) -> bool:
        """Whether two responses are the same answer."""
        return float(self._vector(first) @ self._vector(second)) >= self._least
