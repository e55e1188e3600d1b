"""Load Hugging Face language models without executing code or adding random weights."""

import gc
import logging
import platform
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from allmodes.errors import ConfigError, one_line
from allmodes.runs.hub import reach_hub
from allmodes.runs.weights import refuse_pickled_weights
from allmodes.text.gguf_models import as_folder


def quieten() -> None:
    """Silence progress bars and notes of other packages.

    TRL warns of each response without a reward; metrics.jsonl counts them.
    """
    disable_progress_bar()
    set_verbosity_error()
    logging.getLogger("trl").setLevel(logging.ERROR)


def device() -> torch.device:
    """CUDA if available, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(precision: str) -> torch.autocast:
    """bfloat16 arithmetic for "bfloat16", nothing for "float32"."""
    return torch.autocast(device().type, torch.bfloat16, enabled=precision == "bfloat16")


def has_bfloat16() -> bool:
    """Whether the device computes in bfloat16; without, it is emulated and slower than float32."""
    if device().type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:  # not Linux: Apple's processors have it from the second on, and nothing says so
        return platform.machine() == "arm64"
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def free_memory() -> None:
    """Free models without references: reference cycles keep them in memory that the next model needs."""
    gc.collect()
    torch.cuda.empty_cache()  # nothing without a device


def load_tokenizer(model: str, *, needs_template: bool = True) -> Any:
    """The tokenizer of a model by name, folder or GGUF file, padding on the left.

    Without a padding token the end of a sequence pads, as in TRL. Raises ConfigError for what cannot be
    loaded, or lacks a chat template that is needed: a base model's tokenizer may need one beside it.
    """
    folder = as_folder(model)
    reach_hub(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False)
    except Exception as error:  # whatever a hub, a disk or a file raises
        raise _cannot_load("a tokenizer", model, error) from error
    if needs_template and tokenizer.chat_template is None:
        raise ConfigError(
            f"`model`: expected a tokenizer with a chat template; got none with {model!r}: put a "
            "chat_template.jinja into its folder (for a GGUF file: `allmodes text model FILE --out FOLDER`)"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(model: str) -> Any:
    """The language model of a name, folder or GGUF file, float32, on CUDA where there is one, in eval mode.

    Raises ConfigError for what cannot be loaded, weights that are no safetensors, or weights that the files
    lack: they would be random.
    """
    folder = as_folder(model)
    refuse_pickled_weights(folder)
    reach_hub(folder)
    try:
        result: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        loaded, found = result
    except Exception as error:  # as above
        raise _cannot_load("a language model", model, error) from error
    if found["missing_keys"]:
        lacking = ", ".join(sorted(found["missing_keys"])[:3])
        raise ConfigError(f"`model`: expected a language model; the files of {model!r} lack {lacking}")
    return loaded.to(device()).eval()


def _cannot_load(what: str, model: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"`model`: expected {what} by Hugging Face name, folder or .gguf file; got {model!r} "
        f"({one_line(error)})"
    )
