"""A reward model: a sequence classifier with one output, fed a chat of one prompt and one response.

Source: MARA, appendix C.3 (Skywork-Reward-V2-Qwen3-4B in training, Skywork-Reward-Gemma-2-27B-v0.2 outside).
"""

import math
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import final

import torch

from allmodes.errors import ConfigError
from allmodes.tasks.classifiers import load_classifier, whole
from allmodes.tasks.task import check_same_length


@final
class RewardModel:
    """Scores of responses by a Hugging Face model, by name or folder.

    name: of a sequence-classification model with one output, safetensors, and a tokenizer with a chat
    template. batch_size: chats that are read at once. device: None takes CUDA (in bfloat16) where there is
    one, else the processor (in float32).

    Raises ConfigError for a model that cannot be loaded, has several outputs, or no chat template.
    """

    def __init__(self, name: str | Path, *, batch_size: int = 16, device: str | None = None) -> None:
        if batch_size < 1:
            raise ConfigError(f"`batch_size` must be at least 1; got {batch_size}")
        self._batch_size = batch_size
        self._classifier = load_classifier(name, tokenizer=None, outputs=1, device=device)
        if not self._classifier.tokenizer.chat_template:
            raise ConfigError(f"the tokenizer of {str(name)!r} must have a chat template; got none")

    def scores(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float | None]:
        """The model's output for each prompt and its response, in its own units.

        None for a response that is empty or white space, and for an output that is not finite. What goes
        beyond the model's length is cut off at the end. Batches hold chats of like length; padding changes no
        score. Raises InputError for lengths that disagree.
        """
        check_same_length(prompts, responses)
        rows = {
            index: self._tokens(prompt, response)
            for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
            if response.strip()
        }
        scores: list[float | None] = [None] * len(responses)
        order = sorted(rows, key=lambda index: len(rows[index]))
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            for index, score in zip(batch, self._forward([rows[index] for index in batch]), strict=True):
                scores[index] = score if math.isfinite(score) else None
        return scores

    def _tokens(self, prompt: str, response: str) -> list[int]:
        tokenizer, limit = self._classifier.tokenizer, self._classifier.max_length
        chat = [
            {"role": "user", "content": whole(prompt)},
            {"role": "assistant", "content": whole(response)},
        ]
        text: str = tokenizer.apply_chat_template(chat, tokenize=False)
        ids: list[int] = tokenizer(text, truncation=limit is not None, max_length=limit)["input_ids"]
        start = tokenizer.bos_token_id
        # Some templates write the token that the tokenizer adds by itself.
        return ids[1:] if start is not None and ids[:2] == [start, start] else ids

    @torch.inference_mode()
    def _forward(self, rows: list[list[int]]) -> list[float]:
        model, config = self._classifier.model, self._classifier.text_config
        # A head reads the last token that is not padding. A model without padding reads the last of all,
        # often the end of text, which then may not be what pads it; any token will do with which no row ends.
        own, ends = config.pad_token_id, {row[-1] for row in rows}
        pad = next(token for token in count() if token not in ends) if own is None else own
        width = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self._classifier.device)
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        mask = (torch.arange(width, device=ids.device) < lengths[:, None]).long()
        config.pad_token_id = pad
        try:
            return model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
        finally:
            config.pad_token_id = own
