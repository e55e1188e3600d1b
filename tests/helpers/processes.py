"""Commands of allmodes in processes of their own, as copies of one that has imported what they need.

They can be killed. A new interpreter takes three seconds of processor time to import torch and RDKit.
"""

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_IMPORTED = ["allmodes.cli", "allmodes.chem.design.design", "allmodes.chem.policies.pretrain"]


def start_command(*arguments: object, log: Path | None = None, is_copy: bool = True) -> BaseProcess:
    """`allmodes ARGUMENTS` in the present folder.

    log: what it prints; without one it is lost. is_copy: False for a new interpreter, with the present
    environment.
    """
    is_copy = is_copy and sys.platform == "linux"
    context: Any = multiprocessing.get_context("forkserver" if is_copy else "spawn")
    if is_copy:
        context.set_forkserver_preload(_IMPORTED)
    process = context.Process(target=_run, args=([str(argument) for argument in arguments], log))
    process.start()
    return process


def _run(arguments: list[str], log: Path | None) -> None:
    written = os.open(os.devnull if log is None else log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(written, stream)
    sys.argv = ["allmodes", *arguments]
    from allmodes.cli import main

    main()
