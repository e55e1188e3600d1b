"""Weight ensembling: a model with weights between an early and a late checkpoint of a training.

Source: Dang et al. 2025; a baseline of MARA's Table 1.
"""

import importlib
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from allmodes.checks import check_fraction
from allmodes.errors import InputError, RunError, one_line
from allmodes.extras import require
from allmodes.runs.files import new_folder

# Settings that may differ between checkpoints of one model without changing what it computes.
_HARMLESS = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}


def ensemble_weights(early: Path, late: Path, out: Path, *, weight: float = 0.5) -> None:
    """Save the weighted mean of two checkpoints of one language model, with the late one's tokenizer.

    θ = (1 − d) θ_early + d θ_late,   d = weight (0.5 in the paper)

    early, late: folders of a model (safetensors, sharded or not) or of a LoRA adapter, which is merged into
    its base first, since the mean of the products BA is wanted, not the product of means. out: a new folder,
    written completely or not at all. The mean is computed in float32 and saved in the late checkpoint's
    precision; tensors that are not floating point must be equal.

    Raises InputError for a weight outside [0, 1], a missing folder, or checkpoints of different models;
    RunError if `out` exists or cannot be written, or a checkpoint cannot be read.
    """
    check_fraction("weight", weight)
    for name, folder in (("early", early), ("late", late)):
        if not folder.is_dir():
            raise InputError(f"`{name}` must be a folder; got {folder}")
    if os.path.lexists(out):
        raise RunError(f"`out` must be a new folder; {out} exists")
    tokenizer = _load_tokenizer(late)
    first, (model, dtype) = _load_model(early)[0], _load_model(late)
    _check_same_model(first, model)
    _average(first.state_dict(), model.state_dict(), weight)
    if model.dtype != dtype:  # an adapter was merged in float32
        model = model.to(dtype)
    with new_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@torch.no_grad()
def _average(early: dict[str, Tensor], late: dict[str, Tensor], weight: float) -> None:
    """Write the mean into the late tensors, each once: tied weights are one tensor under several names."""
    done: set[int] = set()
    for name, tensor in late.items():
        if tensor.data_ptr() in done:
            continue
        done.add(tensor.data_ptr())
        if tensor.is_floating_point():
            tensor.copy_((1 - weight) * early[name].float() + weight * tensor.float())
        elif not torch.equal(early[name], tensor):
            raise InputError(f"{name} holds {tensor.dtype}, which has no mean, and must be equal in both")


def _check_same_model(early: Any, late: Any) -> None:
    """Require the same architecture, the same settings and tensors of the same shapes."""
    if type(early) is not type(late):
        raise InputError(
            f"expected two checkpoints of one model; got {type(early).__name__} and {type(late).__name__}"
        )
    one, other = early.config.to_dict(), late.config.to_dict()
    for key in sorted(one.keys() | other.keys()):
        ignored = key in _HARMLESS or key.endswith("_token_id")
        if not ignored and one.get(key) != other.get(key):
            raise InputError(f"`{key}` must be the same in both; got {one.get(key)} and {other.get(key)}")
    shapes, others = ({k: tuple(v.shape) for k, v in m.state_dict().items()} for m in (early, late))
    for key in sorted(shapes.keys() | others.keys()):
        if shapes.get(key) != others.get(key):
            raise InputError(
                f"{key} must have one shape in both; got {shapes.get(key)} and {others.get(key)}"
            )


def _load_model(folder: Path) -> tuple[Any, torch.dtype]:
    """A language model, an adapter merged into its base; and the precision that its weights came in."""
    adapter = _adapter_config(folder)
    if adapter is None:
        return _load_full(str(folder))
    if not (folder / "adapter_model.safetensors").is_file():  # the other format is a pickle
        raise RunError(f"{folder}: expected adapter_model.safetensors; it has none")
    if adapter.get("peft_type") != "LORA":
        raise InputError(f"{folder}: `peft_type` must be 'LORA'; got {adapter.get('peft_type')!r}")
    model, dtype = _load_full(_base_of(folder, adapter))
    peft, ends = _imported("peft"), (model.get_input_embeddings(), model.get_output_embeddings())
    try:
        adapted = peft.PeftModel.from_pretrained(model.float(), str(folder))
        is_untied = (model.get_input_embeddings(), model.get_output_embeddings()) != ends
        merged = adapted.merge_and_unload()
    except Exception as error:  # whatever the package, a file or a shape raises
        raise RunError(f"cannot merge the adapter {folder}: {one_line(error)}") from error
    if is_untied and merged.config.get_text_config().tie_word_embeddings:
        raise InputError(f"{folder}: the adapter must not change embeddings that are tied in its base")
    return merged, dtype


def _load_full(name: str) -> tuple[Any, torch.dtype]:
    try:
        model, found = _imported("transformers").AutoModelForCausalLM.from_pretrained(
            name, dtype="auto", use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # whatever a hub, a disk or a file raises
        raise RunError(f"cannot load the checkpoint {name}: {one_line(error)}") from error
    wrong = sorted(found["missing_keys"]) + sorted(found["unexpected_keys"])
    if wrong:  # weights that were drawn at random, or that would be lost
        raise RunError(f"{name} must hold the weights of a {type(model).__name__}; at fault: {wrong[:3]}")
    return model, model.dtype


def _load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer; of an adapter without one its base's."""
    adapter = _adapter_config(folder)
    source = str(folder)
    if not (folder / "tokenizer_config.json").is_file():
        if adapter is None:  # the library would make one up
            raise RunError(
                f"{folder}: expected a tokenizer beside the model; it has no tokenizer_config.json"
            )
        source = _base_of(folder, adapter)
    try:
        return _imported("transformers").AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # as above
        raise RunError(f"cannot load the tokenizer of {source}: {one_line(error)}") from error


def _adapter_config(folder: Path) -> dict[str, Any] | None:
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(config, dict):
        raise RunError(f"{path}: expected a JSON object; got {type(config).__name__}")
    return config


def _base_of(folder: Path, adapter: dict[str, Any]) -> str:
    base = adapter.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise RunError(f"{folder}: expected `base_model_name_or_path` of the adapter; got {base!r}")
    return base


def _imported(package: str) -> Any:
    require("weight ensembling needs", package, extras="text")
    return importlib.import_module(package)
