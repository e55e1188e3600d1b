"""The priors that come with the package."""

from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from allmodes.errors import ConfigError

ShippedPrior = Literal["lstm", "mamba"]


def shipped_prior(cell: ShippedPrior = "lstm") -> Path:
    """Path of a prior pretrained on ZINC-250k; its model card lies beside it."""
    return Path(str(files("allmodes.chem.policies") / "priors" / f"zinc250k-{cell}.safetensors"))


def prior_path(configured: Path | None) -> Path:
    """The configured prior; for None the shipped LSTM, for "lstm" or "mamba" the shipped one of that name.

    A file of such a name comes first. Raises `ConfigError` when there is no file.
    """
    if configured is None:
        path = shipped_prior()
    elif str(configured) in get_args(ShippedPrior) and not configured.is_file():
        path = shipped_prior("mamba" if str(configured) == "mamba" else "lstm")
    else:
        path = configured
    if not path.is_file():
        names = " or ".join(map(repr, get_args(ShippedPrior)))
        raise ConfigError(f"`prior`: expected a policy file, {names}; got {path}, which does not exist")
    return path
