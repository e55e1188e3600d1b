"""The priors that come with the package."""

from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from allmodes.errors import ConfigError

ShippedPrior = Literal["lstm", "mamba"]
WEIGHTS_FILE = "model.safetensors"  # in a folder, as model hubs name it


def shipped_prior(cell: ShippedPrior = "lstm") -> Path:
    """Path of a prior pretrained on ZINC-250k; its model card is in the same folder."""
    return Path(str(files("allmodes.chem.policies") / "priors" / f"zinc250k-{cell}.safetensors"))


def shipped_by_name(name: str) -> Path | None:
    """The shipped prior called "lstm", "mamba", "zinc250k-lstm" or "zinc250k-mamba"; else None."""
    for cell in get_args(ShippedPrior):
        if name in (cell, f"zinc250k-{cell}"):
            return shipped_prior(cell)
    return None


def prior_path(configured: Path | None, *, key: str = "`prior`") -> Path:
    """The configured prior: a file, a folder, or the name of a shipped one; None is the shipped LSTM.

    A file of such a name comes first. A folder is one that `SmilesModel.save_pretrained` has written, or that
    was downloaded from a model hub. key: what the message calls the setting. Raises `ConfigError` if there
    is no file.
    """
    if configured is None:
        return shipped_prior()
    path = configured / WEIGHTS_FILE if configured.is_dir() else configured
    if not path.is_file():
        path = shipped_by_name(str(configured)) or path
    if not path.is_file():
        names = " or ".join(map(repr, get_args(ShippedPrior)))
        raise ConfigError(f"{key}: expected a policy file, {names}; got {path}, which does not exist")
    return path
