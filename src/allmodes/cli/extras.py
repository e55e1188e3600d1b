"""Packages that a command needs beyond the core."""

import importlib.util

from allmodes.errors import InputError


def require(module: str, what: str, extras: str) -> None:
    """Raise InputError where a module is not installed, with the extras that bring it."""
    if importlib.util.find_spec(module) is None:
        raise InputError(f"{what} need `pip install allmodes[{extras}]`; {module} is not installed")
