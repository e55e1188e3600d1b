"""What a user's program may print: each line is an answer or a failure, and every table can hold it."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rdkit")

from allmodes.chem.design.ledger import Ledger, read_ledger
from allmodes.chem.oracles.config import OracleConfig
from allmodes.chem.oracles.oracle import assemble
from allmodes.chem.oracles.process import ScorerProcess
from allmodes.chem.oracles.results import Failure, Scored, StrayLineError
from allmodes.chem.reporting.export import evaluation_columns, write_csv
from fuzzing import VALUES, as_json, damage_bytes, damage_tree, fuzz

ANSWERS: list[Any] = [
    0.5, 1, {"value": 0.5}, {"value": 0.5, "details": {"pose": "x", "n": 1}}, {"error": "no"},
    {"error": "no", "kind": "timed_out"}, {"id": 1, "value": 0.25}, {"id": 1, "answers": [0.5]}, [0.5],
    [0.5, 1],
]  # fmt: skip


class Program:
    """A program that has printed one line when it is asked, and perhaps more."""

    def __init__(self, line: bytes, rest: bytes) -> None:
        self._line, self._rest = line, rest
        self.fresh, self.first, self.slowest = True, 0.0, None

    def has_ended(self) -> bool:
        return False

    def has_output(self, wait: float) -> bool:
        return not self.fresh and bool(self._rest)

    def unread(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest

    def write_line(self, text: str) -> bool:
        return True

    def read_line(self, limit: float) -> bytes:
        return self._line

    def note_answer(self) -> None:
        self.fresh = False

    def kill(self) -> None:
        pass


@pytest.mark.parametrize("protocol", ["plain", "json"])
def test_lines_of_a_program(protocol: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    component = {"kind": "process", "command": ["true"], "protocol": protocol}
    oracle = OracleConfig.model_validate({"components": [component]})

    def attempt(rng: random.Random) -> None:
        line, rest = _line(rng), _line(rng) + b"\n" if rng.random() < 0.1 else b""
        program = Program(line, rest)
        monkeypatch.setattr("allmodes.chem.oracles.process.RunningProgram", lambda command: program)
        process = ScorerProcess(["true"], name="process", components=1, time_limit=1.0, start_limit=1.0,
                                handshake=False, protocol=protocol)  # fmt: skip
        try:
            (answer,) = process.ask("CCO")
        except StrayLineError:
            assert rest
            return
        if isinstance(answer, Scored):
            assert math.isfinite(answer.value)
            assert protocol == "plain" or json.loads(line)["id"] == 1
        else:
            assert isinstance(answer, Failure)
            assert len(answer.message) < 1000
        evaluation = assemble(oracle, "CCO", {"process": answer})
        path = tmp_path / f"{rng.random()}"
        path.mkdir()
        with Ledger(path / "ledger.sqlite") as ledger:
            ledger.begin("CCO", step=1)
            ledger.record(evaluation)
            ledger.finish()
        (row,) = read_ledger(path / "ledger.sqlite")
        columns = evaluation_columns(oracle, row.evaluation)
        write_csv(path / "scores.csv", list(columns), [columns])

    fuzz(f"lines of a program, {protocol}", 20, attempt)


def _line(rng: random.Random) -> bytes:
    tree = rng.choice(ANSWERS)
    if rng.random() < 0.6:
        tree = damage_tree(rng, tree)
    if rng.random() < 0.2 and isinstance(tree, dict):
        tree["details"] = {"x": rng.choice(VALUES), str(rng.choice(VALUES)): 1}
    line = as_json(tree).encode()
    return (damage_bytes(rng, line) if rng.random() < 0.5 else line).replace(b"\n", b"")
