"""Sentence embedders that are an encoder, the mean over tokens, and a length of 1: transformers is enough."""

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from allmodes.errors import InputError, one_line
from allmodes.runs.weights import refuse_pickled_weights

_BATCH = 32
_PLAIN = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])


def is_plain(folder: Path) -> bool:
    """Whether a sentence-transformers folder is an encoder with a mean over tokens, as MiniLM is."""
    modules = _json(folder / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        return False
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds not in _PLAIN or modules[0].get("path") != "":
        return False
    pooling = _json(folder / str(modules[1].get("path")) / "config.json")
    if not isinstance(pooling, dict):
        return False
    modes = {key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True}
    return modes == {"pooling_mode_mean_tokens"} and not (folder / "config_sentence_prompts.json").exists()


def load_plain_embedder(folder: Path) -> Callable[[Sequence[str]], Tensor]:
    """Embeddings (N, D), float32, of texts by the model in a folder that `is_plain`.

    e = m/|m|,   m = Σ_t h_t / T over the tokens of a text, special ones included

    Texts are cut off at the model's limit of tokens; lengths are 1 where its modules say so. Raises
    InputError for what cannot be loaded, or weights that the files lack.
    """
    refuse_pickled_weights(folder)
    transformers: Any = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        loaded, found = transformers.AutoModel.from_pretrained(
            str(folder),
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a disk or a file raises
        raise InputError(f"cannot load the embedder {str(folder)!r}: {one_line(error)}") from error
    lacking = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))  # is not used
    if lacking:
        raise InputError(f"cannot load the embedder {str(folder)!r}: its files lack {', '.join(lacking[:3])}")
    model = loaded.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    settings = _json(folder / "sentence_bert_config.json")
    limit = settings.get("max_seq_length") if isinstance(settings, dict) else None
    positions = model.config.max_position_embeddings
    longest = min(limit, positions) if isinstance(limit, int) and limit > 0 else positions
    is_normalised = len(_json(folder / "modules.json")) == len(_PLAIN[1])

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> Tensor:
        result = torch.zeros(len(texts), model.config.hidden_size)
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # padding costs as tokens do
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            inputs = tokenizer(
                [texts[number] for number in batch],
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            ).to(model.device)
            mask = inputs["attention_mask"].unsqueeze(-1).float()
            states = model(**inputs).last_hidden_state
            means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            if is_normalised:
                means = torch.nn.functional.normalize(means, dim=1)
            result[batch] = means.cpu()
        return result

    return embed


def _json(path: Path) -> Any:
    """What a file of JSON holds; None if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
