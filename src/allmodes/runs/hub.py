"""Models by name: whether their hub answers is asked once, instead of for a minute for each file."""

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from allmodes.errors import ConfigError, one_line

_SECONDS = 10
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")  # all else can only be a path


def reach_hub(name: str | Path) -> None:
    """Nothing for a folder, or for a hub that answers; without one only cached models are looked for.

    Raises ConfigError where the hub does not answer and the model is not in the cache.
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
    """Why the hub cannot be asked; None where it answers, whatever it says, or is not to be asked."""
    hub: Any = importlib.import_module("huggingface_hub")
    constants = _constants()
    if constants.HF_HUB_OFFLINE:  # so the library asks nobody, and says so
        return None
    try:
        hub.get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception as error:  # noqa: BLE001  whatever the network or its library raises
        return one_line(error, width=200)
    return None


def _constants() -> Any:
    return importlib.import_module("huggingface_hub.constants")
