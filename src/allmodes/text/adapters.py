"""LoRA: low-rank adapters, trained while the model's own weights stay fixed."""

from typing import Any

import torch
from torch import nn

from allmodes.errors import ConfigError, one_line
from allmodes.text.config import ALL_LINEAR, LoRA
from allmodes.text.models import load_model


def peft_config(lora: LoRA) -> Any:
    """The adapter's settings for PEFT, and for TRL's `peft_config`."""
    import peft  # not at the top: it takes seconds, and most runs need none of it

    return peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]  any number will do
        lora_dropout=lora.dropout,
        target_modules=ALL_LINEAR if lora.targets == (ALL_LINEAR,) else list(lora.targets),
        task_type="CAUSAL_LM",
    )


def check_adapter(model: Any, lora: LoRA) -> None:
    """Raise ConfigError if the model has none of the adapter's layers; this changes the model."""
    import peft

    try:
        peft.get_peft_model(model, peft_config(lora))
    except ValueError as error:
        raise ConfigError(
            f"`lora.targets`: expected names of layers of the model; {one_line(error)}"
        ) from error


def round_frozen(model: Any) -> None:
    """Round the frozen matrices of a model with an adapter to bfloat16 once, instead of in every pass.

    For bfloat16 autocast, which rounds all linear layers: values and gradients stay the same to the bit. The
    output layer is left out: the embeddings, which are not rounded, may share its weights.
    """
    output = model.get_output_embeddings()
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer is not output and not layer.weight.requires_grad:
            layer.to(torch.bfloat16)


def merged(model: Any, *, source: str) -> Any:
    """Merge a model's adapter into its weights; a model without an adapter is returned unchanged.

    source: the origin of the model, for weights that `round_frozen` has rounded. log π stays the same
    up to rounding. The adapter is removed.
    """
    if not hasattr(model, "merge_and_unload"):
        return model
    rounded = {
        name: layer
        for name, layer in model.get_base_model().named_modules()
        if isinstance(layer, nn.Linear) and layer.weight.dtype == torch.bfloat16
    }
    if rounded:
        exact = load_model(source)
        for name, layer in rounded.items():
            layer.to(torch.float32)
            layer.load_state_dict(exact.get_submodule(name.removesuffix(".base_layer")).state_dict())
    return model.merge_and_unload()
