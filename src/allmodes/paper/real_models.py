"""The real models of `--scale real`: what installs as a package, prepared as folders."""

from pathlib import Path

from allmodes.errors import ConfigError

SMOLLM2 = "SmolLM2-135M-Instruct"


def smollm2(folder: Path, *, item: str) -> str:
    """SmolLM2 as a folder below `folder`. Raises ConfigError with the pip command where it is missing."""
    return prepared("smollm2", folder, item=item)


def prepared(name: str, folder: Path, *, item: str) -> str:
    """A packaged model, "smollm2" or "minilm", as a folder below `folder`; any other name as it is.

    Raises ConfigError with the pip command where its package is missing.
    """
    from allmodes.text.packaged_models import PACKAGED, prepare_model

    if name not in PACKAGED:
        return name
    out = folder / name
    try:
        prepare_model(name, out)
    except ConfigError as error:
        raise ConfigError(f"{item} at --scale real: {error}") from error
    return str(out)
