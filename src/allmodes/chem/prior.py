"""The prior that comes with the package."""

from importlib.resources import files
from pathlib import Path

from allmodes.errors import ConfigError


def shipped_prior() -> Path:
    """Path of the LSTM prior pretrained on ZINC-250k; its model card lies beside it."""
    return Path(str(files("allmodes.chem") / "priors" / "zinc250k-lstm.safetensors"))


def prior_path(configured: Path | None) -> Path:
    """The configured prior, or the shipped one for None. Raises `ConfigError` when it is not there."""
    path = shipped_prior() if configured is None else configured
    if not path.is_file():
        raise ConfigError(f"`prior`: expected a policy file; got {path}, which does not exist")
    return path
