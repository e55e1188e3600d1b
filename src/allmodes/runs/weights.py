"""Model weights must be safetensors, since reading other formats can run code of their author."""

from pathlib import Path

from allmodes.errors import ConfigError

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def refuse_pickled_weights(model: str | Path) -> None:
    """Raise ConfigError for a folder with pickled weights; a name on a model hub is accepted.

    Loading by name also requires safetensors.
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
