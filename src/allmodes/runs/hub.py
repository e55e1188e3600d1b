"""Models by name: ask once whether the model hub answers, instead of retrying for a minute per file."""

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from allmodes.errors import ConfigError, one_line

_SECONDS = 10
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")  # anything else can only be a path


def reach_hub(name: str | Path) -> None:
    """Check that a model is a folder, in the cache, or on a hub that answers.

    Raises ConfigError if the hub does not answer and the model is not in the cache.
    """
    if not _NAME.fullmatch(str(name)) or Path(name).exists() or (reason := _unreachable()) is None:
        return
    hub: Any = importlib.import_module("huggingface_hub")
    constants = _constants()
    constants.HF_HUB_OFFLINE = True
    if not isinstance(hub.try_to_load_from_cache(str(name), "config.json"), str):
        raise ConfigError(
            f"the model {str(name)!r}: expected a folder, a cached model, or a model hub that answers; "
            f"got none from {constants.ENDPOINT} ({reason})"
        )


@cache
def _unreachable() -> str | None:
    """The reason why the hub cannot be reached; None if it answers or must not be asked."""
    hub: Any = importlib.import_module("huggingface_hub")
    constants = _constants()
    if constants.HF_HUB_OFFLINE:  # the library then asks no hub, and says so
        return None
    try:
        hub.get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception as error:  # noqa: BLE001  whatever the network or its library raises
        return one_line(error, width=200)
    return None


def _constants() -> Any:
    return importlib.import_module("huggingface_hub.constants")
