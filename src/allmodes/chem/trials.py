"""Try calls that RDKit might never finish in a separate process, so that only the molecule fails.

The number of rings of one size can grow as 2^k with k fused rings, and RDKit lists them all whenever it
reads, compares or draws such a molecule. No limit on atoms or bonds tells these few apart from harmless ones.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Literal, cast, final

from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor, rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold

from allmodes.errors import RunError

Trial = Literal["smiles", "block", "draw"]

_SECONDS = 1.0  # of the processor, for one trial; 500 atoms need 0.2 s
_MEMORY = 8 << 30  # bytes of address space


def passes(trial: Trial, text: str) -> bool:
    """Whether RDKit reads a SMILES or a molfile, or draws a SMILES, within 1 s of the processor's time.

    What it cannot read passes too: it says so soon. Raises `RunError` if no process can be started.
    """
    return _TRIALS.passes(trial, text)


@final
class _Trials:
    """The process that tries, started when it is first needed; it ends when its input does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def passes(self, trial: Trial, text: str) -> bool:
        with self._lock:
            process = self._ready()
            if process is None or process.stdin is None or process.stdout is None:
                return False
            try:
                process.stdin.write(json.dumps([trial, text]).encode() + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = b""
            if answer == b"done\n":
                return True
            self._end(process)
            return False

    def close(self) -> None:
        """End the process if this one has started it; it would end by itself soon after."""
        with self._lock:
            if self._process is not None and self._owner == os.getpid():
                self._end(self._process)

    def _ready(self) -> subprocess.Popen[bytes] | None:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        command = [sys.executable, "-P", "-m", "allmodes.chem.trials"]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise RunError(f"cannot start a process that tries a large molecule: {error}") from error
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            self._end(process)
            raise RunError("cannot start a process that tries a large molecule: it ended at once")
        self._process, self._owner = process, os.getpid()
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # what could not be written
                    stream.close()
        self._process = None


_TRIALS = _Trials()
atexit.register(_TRIALS.close)


def _try(trial: Trial, text: str) -> None:
    molecule = Chem.MolFromMolBlock(text) if trial == "block" else Chem.MolFromSmiles(text)
    if molecule is None:
        return
    if trial == "draw":
        rdDepictor.Compute2DCoords(molecule)
        return
    smiles = Chem.MolToSmiles(molecule)
    again = Chem.MolFromSmiles(smiles)
    if again is not None:
        Chem.MolToSmiles(again)
        MurckoScaffold.MurckoScaffoldSmiles(smiles)
        rdFingerprintGenerator.GetMorganGenerator(radius=2).GetFingerprint(again)


def main() -> None:
    """Answer each trial of standard input with a line; one that takes too long ends this process."""
    import resource

    rdBase.DisableLog("rdApp.*")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    with suppress(ValueError, OSError):  # a system that does not limit it
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", flush=True)
    for line in sys.stdin:
        trial, text = json.loads(line)
        # The signals' default actions end the process wherever it is, in RDKit's code too.
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        signal.setitimer(signal.ITIMER_REAL, 20 * _SECONDS)
        with suppress(ValueError, RuntimeError):  # RDKit's, which come again where the molecule is read
            _try(cast("Trial", trial), text)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("done", flush=True)


if __name__ == "__main__":
    main()
