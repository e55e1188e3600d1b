"""Optional packages, and the commands that install missing ones."""

import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

from allmodes.errors import ConfigError


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def require(what: str, *modules: str, extras: str) -> None:
    """Raise ConfigError if one of the modules is not installed.

    what: a clause such as "receptors need". extras: extras with the modules, such as "chem,report".
    """
    missing = next((module for module in modules if not is_installed(module)), None)
    if missing is not None:
        raise ConfigError(f"{what} `{how_to_install(extras)}`; {missing} is not installed")


def how_to_install(extras: str) -> str:
    """The command that installs extras such as "chem,report", quoted for the user's shell and installation.

    It installs from the clone or address of this installation of allmodes, else from an index.
    """
    return f"{_pip()} install {_source(extras)}"


def pip_install(*arguments: str) -> str:
    """The command that installs packages by name, quoted for the user's shell."""
    return " ".join([_pip(), "install", *map(shlex.quote, arguments)])


def _pip() -> str:
    """`pip` if it belongs to this Python, else the command that calls this Python's pip."""
    found = shutil.which("pip")
    python = Path(sys.executable)
    if found is not None and Path(found).parent == python.parent:
        return "pip"
    return f"{shlex.quote(_short(python))} -m pip"


def _source(extras: str) -> str:
    try:
        record = importlib.metadata.distribution("allmodes").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        record = None
    origin = {} if record is None else json.loads(record)
    url = origin.get("url", "")
    package = Path(__file__).resolve()
    clone = Path(unquote(urlparse(url).path)) if url.startswith("file:") else package.parents[2]
    if (clone / "pyproject.toml").is_file():
        edited = "-e " if package.is_relative_to(clone) else ""
        return f"{edited}'{_short(clone)}[{extras}]'"
    if "vcs_info" in origin:
        return f"'allmodes[{extras}] @ {origin['vcs_info']['vcs']}+{url}'"
    return f"'allmodes[{extras}]'"


def _short(path: Path) -> str:
    """A path inside the current folder, relative to it."""
    here = Path(os.path.abspath(os.curdir))
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
