"""The real models of `--scale real`: what installs as a package, prepared as folders."""

from pathlib import Path

from allmodes.errors import ConfigError

SMOLLM2 = "SmolLM2-135M-Instruct"


def smollm2(folder: Path, *, item: str) -> str:
    """SmolLM2 as a folder below `folder`. Raises ConfigError with the pip command where it is missing."""
    from allmodes.text.packaged_models import prepare_model

    out = folder / "smollm2"
    try:
        prepare_model("smollm2", out)
    except ConfigError as error:
        raise ConfigError(f"{item} at --scale real: {error}") from error
    return str(out)
