"""What an item needs beyond the core."""

import importlib.util

from allmodes.errors import ConfigError


def require_text_extra(item: str) -> None:
    """Raise ConfigError where the packages for language models are not installed."""
    for package in ("transformers", "trl"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"{item} needs `pip install allmodes[text]`; {package} is not installed")
