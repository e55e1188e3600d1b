"""LoRA: low-rank adapters that are trained on a model whose own weights stay."""

from typing import Any

from allmodes.errors import ConfigError, one_line
from allmodes.text.config import LoRA


def peft_config(lora: LoRA) -> Any:
    """The adapter's settings as PEFT, and TRL's `peft_config`, have them."""
    import peft  # not at the top: it takes seconds, and most runs need none of it

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    return peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]  any number will do
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def check_adapter(model: Any, lora: LoRA) -> None:
    """Raise ConfigError where the model has none of the layers that the adapter is for; changes the model."""
    import peft

    try:
        peft.get_peft_model(model, peft_config(lora))
    except ValueError as error:
        raise ConfigError(
            f"`lora.targets`: expected names of layers of the model; {one_line(error)}"
        ) from error


def merged(model: Any) -> Any:
    """The model with its adapter's product added to its weights; a model without an adapter as it is.

    log π stays the same up to rounding. The adapter is gone afterwards.
    """
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
