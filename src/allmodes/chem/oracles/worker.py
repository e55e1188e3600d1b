"""The oracle's worker process: a line of JSON in for each molecule, a line of JSON out.

Its own process, so that a component that hangs or crashes costs one molecule and not the run. The first line
out says that it is ready, or what is wrong with the configuration.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from rdkit import rdBase

from allmodes.chem.oracles.components import Scorer, read_component
from allmodes.chem.oracles.results import Scored, UnscorableError
from allmodes.errors import ConfigError

_GROWTH = 1 << 30  # bytes; libraries in C++ leak: Vina keeps about half a megabyte of each ligand


def main() -> None:
    """Read the components' configurations from the first argument, then answer until stdin ends."""
    # What a user's function prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    rdBase.DisableLog("rdApp.*")
    try:
        scorers = [read_component(values).make_scorer() for values in json.loads(sys.argv[1])]
    except ConfigError as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return
    most = _memory() + _GROWTH
    notes = [note for scorer in scorers for note in getattr(scorer, "notes", ())]
    print(json.dumps({"ready": True, "notes": notes}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        found = [_answer(scorer, request["smiles"]) for scorer in scorers]
        print(json.dumps({"id": request["id"], "answers": found}), file=answers, flush=True)
        if _memory() > most:
            return  # in peace: another process takes its place when the next molecule comes


def _memory() -> int:
    """Bytes that this process holds; 0 where the system does not say (Linux does)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _answer(scorer: Scorer, smiles: str) -> float | dict[str, Any]:
    try:
        answer = scorer(smiles)
    except UnscorableError as error:
        return {"error": str(error), "kind": error.kind}
    except Exception as error:  # noqa: BLE001 - a typed failure in the ledger, whatever a component raises
        return {"error": f"{type(error).__name__}: {error}"}
    return {"value": answer.value, "details": answer.details} if isinstance(answer, Scored) else answer


if __name__ == "__main__":
    main()
