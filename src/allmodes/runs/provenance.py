"""Record where a run's numbers come from: date, command, versions, machine."""

import hashlib
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import allmodes
from allmodes.errors import printable

PROVENANCE = "provenance.json"  # of a run's folder: what `provenance` said when it began


def origin() -> dict[str, Any]:
    """Date in UTC, command, version and git commit of this process, ready for JSON."""
    return {
        "date": utc_now(),
        "command": sys.argv,
        "allmodes": allmodes.__version__,
        "git_commit": _git_commit(),
    }


def utc_now() -> str:
    """The time as `2026-11-30 16:15:35 UTC`."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def shown_command(arguments: Sequence[str]) -> str:
    """A command as it was typed, on one line, without the folder that its program lies in.

    Of absolute paths the last name is shown: pages are shared, and home folders are private.
    """
    called, *rest = arguments
    path = Path(called)
    if path.name == "ipykernel_launcher.py":  # its arguments name files of the machine, not the user's
        return "a notebook"
    name = "allmodes" if path.parts[-3:] == ("allmodes", "cli", "__main__.py") else path.name
    return printable(shlex.join(["python" if name == "-c" else name, *map(_without_folder, rest)]))


def _without_folder(argument: str) -> str:
    flag, equals, value = argument.rpartition("=") if argument.startswith("--") else ("", "", argument)
    return f"{flag}{equals}.../{Path(value).name}" if value.startswith("/") else argument


def provenance() -> dict[str, Any]:
    """`origin`, versions of packages, processor and threads of this process, ready for JSON."""
    versions = {}
    for name in ("torch", "numpy", "rdkit", "transformers", "trl", "reasoning_gym"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        **origin(),
        "python": platform.python_version(),
        "versions": versions,
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "torch_threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _git_commit() -> str | None:
    """The commit of a source checkout; None for an installed package."""
    root = Path(allmodes.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return result.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
