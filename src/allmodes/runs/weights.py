"""Weights of models are safetensors: reading any other format can run whatever its author put in."""

from pathlib import Path

from allmodes.errors import ConfigError

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def refuse_pickled_weights(model: str | Path) -> None:
    """Raise ConfigError for a folder whose weights are pickled; a name of a model hub passes.

    Loading by name asks for safetensors, too, and fails without.
    """
    folder = Path(model)
    if not folder.is_dir():
        return
    pickled = sorted(path for pattern in _PICKLED for path in folder.glob(pattern))
    is_adapter = (folder / "adapter_config.json").is_file()
    if pickled and not any(folder.glob("adapter_model.safetensors" if is_adapter else "*.safetensors")):
        raise ConfigError(
            f"{folder}: expected weights in .safetensors; got {pickled[0].name}, which can run code when it "
            "is read. If you trust it, convert it once: from_pretrained(FOLDER).save_pretrained(OTHER) "
            "of transformers writes safetensors"
        )
