"""Load Hugging Face sequence-classification models without executing code or adding random weights."""

import importlib
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from allmodes.errors import ConfigError, one_line
from allmodes.extras import require
from allmodes.runs.hub import reach_hub
from allmodes.runs.weights import refuse_pickled_weights


@final
@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model in eval mode with its tokenizer. max_length: tokens that both can read; None for any number."""

    model: Any
    tokenizer: Any
    device: torch.device
    max_length: int | None

    @property
    def text_config(self) -> Any:
        """The part of the model's configuration that tells of tokens."""
        return self.model.config.get_text_config()


def load_classifier(
    name: str | Path, *, tokenizer: str | Path | None, outputs: int | None, device: str | None
) -> Classifier:
    """A model by name or folder, float32 on a processor and bfloat16 on CUDA.

    tokenizer: where it is not beside the model. outputs: how many the model must have; None for two or more.
    device: None takes CUDA where there is one. Weights are safetensors; code that comes with a model is not
    run. Raises ConfigError without the package `transformers`, for what cannot be loaded, weights that the
    files lack (they would be random), another number of outputs, or a tokenizer that knows no words.
    """
    require(f"the model {str(name)!r} needs", "transformers", extras="text")
    refuse_pickled_weights(name)
    reach_hub(name)
    if tokenizer is not None:
        reach_hub(tokenizer)
    transformers: Any = importlib.import_module("transformers")
    expected = (
        "two outputs or more" if outputs is None else "one output" if outputs == 1 else f"{outputs} outputs"
    )
    try:
        model, found = transformers.AutoModelForSequenceClassification.from_pretrained(
            str(name),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to be refused below, with a message
            **({} if outputs is None else {"num_labels": outputs}),
        )
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model = model.to(device=where, dtype=torch.bfloat16 if where.type == "cuda" else torch.float32).eval()
    except Exception as error:  # whatever a hub, a disk, a file or a driver raises
        raise ConfigError(f"cannot load the model {str(name)!r}: {one_line(error)}") from error
    for key, got, _ in sorted(found["mismatched_keys"], key=str):
        raise ConfigError(f"the model {str(name)!r} must have {expected}; got {key} of shape {tuple(got)}")
    if found["missing_keys"]:
        lacking = ", ".join(sorted(found["missing_keys"])[:3])
        raise ConfigError(f"the model {str(name)!r} must be a sequence classifier; its files lack {lacking}")
    if outputs is None and model.config.num_labels < 2:
        raise ConfigError(f"the model {str(name)!r} must have {expected}; got {model.config.num_labels}")
    source = name if tokenizer is None else tokenizer
    try:
        words = transformers.AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
    except Exception as error:  # as above
        raise ConfigError(f"cannot load the tokenizer of {str(source)!r}: {one_line(error)}") from error
    if set(words.get_vocab()) <= set(words.all_special_tokens):  # made up where the folder has none
        raise ConfigError(f"{str(source)!r} must hold a tokenizer; got one without words")
    model.config.get_text_config().use_cache = False  # nothing is generated
    longest = min(
        words.model_max_length,
        getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf,
    )
    return Classifier(
        model=model, tokenizer=words, device=where, max_length=int(longest) if longest < 2**31 else None
    )


def whole(text: str) -> str:
    """Replace halves of surrogate pairs, which no tokenizer can read, by question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
