"""A judge: a sequence classifier that decides whether two responses say the same."""

import inspect
from pathlib import Path
from typing import Any, final

import torch

from allmodes.checks import check_fraction
from allmodes.errors import ConfigError
from allmodes.tasks.classifiers import load_classifier, whole


@final
class Judge:
    """Whether two responses say the same, by a Hugging Face model, by name or folder.

    name: of a sequence-classification model of text pairs whose last class means "the same". threshold: the
    probability of that class above which they are; it is the judge's own business and comes with the judge
    (NoveltyBench publishes deberta-v3-large-generation-similarity, whose folder has no tokenizer, and reads
    it at 0.102). tokenizer: where it is not beside the model. max_tokens: of each response that are read, 128
    in NoveltyBench. device: as for a reward model.

    Raises ConfigError for a model that cannot be loaded, has one output, or reads fewer tokens; InputError
    for a threshold outside [0, 1]. Source: Zhang et al. 2025.
    """

    def __init__(
        self,
        name: str | Path,
        *,
        threshold: float,
        tokenizer: str | Path | None = None,
        max_tokens: int = 128,
        device: str | None = None,
    ) -> None:
        check_fraction("threshold", threshold)
        if max_tokens < 1:
            raise ConfigError(f"`max_tokens` must be at least 1; got {max_tokens}")
        self._threshold, self._max_tokens = threshold, max_tokens
        self._classifier = load_classifier(name, tokenizer=tokenizer, outputs=None, device=device)
        backend: Any = getattr(self._classifier.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ConfigError(f"the tokenizer of {str(name)!r} must be a fast one; got a slow one")
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._inputs = set(inspect.signature(self._classifier.model.forward).parameters)
        longest, limit = 2 * max_tokens + backend.num_special_tokens_to_add(True), self._classifier.max_length
        if limit is not None and longest > limit:
            raise ConfigError(
                f"`max_tokens` must leave room for two responses in the {limit} tokens that {str(name)!r} "
                f"reads; got {max_tokens}"
            )

    @torch.inference_mode()
    def probability(self, first: str, second: str) -> float:
        """The probability of the model's last class for a pair of responses, in this order."""
        encoded = [self._backend.encode(whole(text), add_special_tokens=False) for text in (first, second)]
        for tokens in encoded:
            tokens.truncate(self._max_tokens)
        pair = self._backend.post_process(encoded[0], encoded[1], True)
        inputs = {
            "input_ids": pair.ids,
            "attention_mask": [1] * len(pair.ids),
            "token_type_ids": pair.type_ids,
        }
        device = self._classifier.device
        tensors = {
            key: torch.tensor([row], device=device) for key, row in inputs.items() if key in self._inputs
        }
        logits = self._classifier.model(**tensors).logits
        return float(logits[0].float().softmax(-1)[-1])

    def same(self, first: str, second: str) -> bool:
        """Whether the probability is above the threshold; `partition` takes this as it is."""
        return self.probability(first, second) > self._threshold
