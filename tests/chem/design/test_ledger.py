import math
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from allmodes.chem.design.ledger import Ledger, LedgerRow, read_ledger, reward_tensor
from allmodes.chem.oracles.results import Evaluation
from allmodes.errors import RunError


def scored(smiles: str, reward: float) -> Evaluation:
    return Evaluation(
        smiles=smiles, raw={"logp": -2.5, "qed": reward}, shaped={"qed": reward}, reward=reward, failure=None
    )


def failed(smiles: str) -> Evaluation:
    return Evaluation(
        smiles=smiles, raw={"logp": 1.5}, shaped={}, reward=None, failure="qed: raised: no, sorry"
    )


def record(ledger: Ledger, evaluation: Evaluation, *, step: int) -> None:
    ledger.begin(evaluation.smiles, step=step)
    ledger.record(evaluation)


def test_rows_come_back_as_they_were_recorded(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        assert ledger.calls == 0
        record(ledger, scored("CCO", 0.1 + 0.2), step=1)
        record(ledger, failed("C[C@H](N)O"), step=1)
        record(ledger, scored("CCN", 1e-300), step=2)
        assert ledger.calls == 3
        ledger.record_penalised([("CCO", 0.0), ("CCN", 0.25)])
        assert ledger.evaluation("CCO") == scored("CCO", 0.1 + 0.2)
        assert ledger.evaluation("C[C@H](N)O") == failed("C[C@H](N)O")
        assert ledger.evaluation("C") is None
        # A reader sees each row as soon as it is recorded, while the run goes on.
        assert read_ledger(path) == [
            LedgerRow(call=1, step=1, evaluation=scored("CCO", 0.1 + 0.2), penalised_reward=0.0),
            LedgerRow(call=2, step=1, evaluation=failed("C[C@H](N)O"), penalised_reward=None),
            LedgerRow(call=3, step=2, evaluation=scored("CCN", 1e-300), penalised_reward=0.25),
        ]


def test_calls_are_numbered_as_they_begin_and_kept_as_they_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    details = {"docking": {"poses": "a\nb", "torsions": 3}}
    with Ledger(path) as ledger:
        for smiles in ("C", "CC", "CCC"):
            ledger.begin(smiles, step=1)
        assert ledger.calls == 3
        assert ledger.knows("CC")
        assert not ledger.knows("O")
        assert ledger.evaluation("CC") is None
        ledger.record(replace(scored("CCC", 0.3), details=details))
        ledger.record(scored("C", 0.1))
        # What a process that is killed now has paid for, it has.
        assert [(row.call, row.evaluation.smiles) for row in read_ledger(path)] == [(1, "C"), (3, "CCC")]
        assert read_ledger(path)[1].evaluation.details == details
    with Ledger(path, calls=1) as ledger:
        assert not ledger.knows("CCC")
        assert ledger.recovered("CCC") == replace(scored("CCC", 0.3), details=details)


def test_calls_that_are_taken_back_are_gone(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        record(ledger, scored("C", 0.1), step=1)
        for smiles in ("CC", "CCC"):
            ledger.begin(smiles, step=1)
        ledger.record(scored("CCC", 0.3))
        ledger.forget(after=1)
        assert ledger.calls == 1
        assert not ledger.knows("CC")
        assert not ledger.knows("CCC")
        record(ledger, scored("CCC", 0.3), step=2)
    assert [(row.call, row.evaluation.smiles) for row in read_ledger(tmp_path / "ledger.sqlite")] == [
        (1, "C"), (2, "CCC"),
    ]  # fmt: skip


def test_write_ahead_log_is_on(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite"):
        pass
    database = sqlite3.connect(tmp_path / "ledger.sqlite")
    try:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    finally:
        database.close()


KILLED = """
import os, sys
from pathlib import Path
from allmodes.chem.design.ledger import Ledger
from allmodes.chem.oracles.results import Evaluation

ledger = Ledger(Path(sys.argv[1]))
for index, smiles in enumerate(["C", "CC", "CCC", "CCCC", "CCCCC"]):
    value = {"qed": index / 10}
    ledger.begin(smiles, step=index + 1)
    ledger.record(Evaluation(smiles=smiles, raw=value, shaped=value, reward=index / 10, failure=None))
os._exit(9)
"""


@pytest.fixture(scope="module")
def of_killed_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the ledger of a process that ended without closing it, after five calls."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLED, str(folder / "ledger.sqlite")]
    assert subprocess.run(command, check=False).returncode == 9
    return folder


@pytest.fixture
def killed(of_killed_process: Path, tmp_path: Path) -> Path:
    """A copy of that ledger, its write-ahead log included."""
    shutil.copytree(of_killed_process, tmp_path / "copy")
    return tmp_path / "copy" / "ledger.sqlite"


def test_every_result_survives_the_end_of_its_process(killed: Path) -> None:
    assert [row.evaluation.smiles for row in read_ledger(killed)] == ["C", "CC", "CCC", "CCCC", "CCCCC"]


def test_resumed_run_knows_its_calls_and_recovers_later_ones(killed: Path) -> None:
    with Ledger(killed, calls=3) as ledger:
        assert ledger.calls == 3
        evaluation = ledger.evaluation("CCC")
        assert evaluation is not None
        assert evaluation.reward == 0.2
        assert ledger.evaluation("CCCC") is None  # not yet paid for by this run
        recovered = ledger.recovered("CCCC")
        assert recovered is not None
        assert recovered.reward == 0.3
        assert ledger.recovered("CCC") is None
        assert ledger.recovered("O") is None

        record(ledger, recovered, step=4)
        assert ledger.calls == 4
        assert ledger.evaluation("CCCC") == recovered
        record(ledger, scored("O", 0.9), step=4)  # another molecule takes the place of call 5
        ledger.finish()
    rows = read_ledger(killed)
    assert [(row.call, row.evaluation.smiles) for row in rows] == [
        (1, "C"), (2, "CC"), (3, "CCC"), (4, "CCCC"), (5, "O"),
    ]  # fmt: skip


def docked(smiles: str) -> Evaluation:
    return replace(scored(smiles, 0.5), details={"docking": {"poses": smiles * 3}})


def test_details_stay_in_the_file_and_are_those_of_their_molecule(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        for smiles in ("C", "CC", "CCC"):
            record(ledger, docked(smiles), step=1)
        found = ledger.evaluation("CC")
        assert found == docked("CC")
        assert found is not None
        assert not isinstance(found.details, dict)
    rows = read_ledger(path)
    assert [row.evaluation for row in rows] == [docked(smiles) for smiles in ("C", "CC", "CCC")]
    assert not any(isinstance(row.evaluation.details, dict) for row in rows)


def test_a_recovered_molecule_keeps_its_details_whatever_comes_in_its_place(tmp_path: Path) -> None:
    """The resumed run asks in another order, so that new rows go over old ones."""
    path = tmp_path / "ledger.sqlite"
    order = ["C", "CC", "CCC", "CCCC"]
    with Ledger(path) as ledger:
        for smiles in order:
            record(ledger, docked(smiles), step=1)
    with Ledger(path, calls=0) as ledger:
        for smiles in ("O", *reversed(order)):
            known = ledger.recovered(smiles)
            record(ledger, docked(smiles) if known is None else known, step=1)
        ledger.finish()
    found = [row.evaluation for row in read_ledger(path)]
    assert found == [docked(smiles) for smiles in ("O", *reversed(order))]


def test_finish_drops_what_the_killed_run_had_beyond(killed: Path) -> None:
    with Ledger(killed, calls=2) as ledger:
        record(ledger, scored("N", 0.5), step=3)
        ledger.finish()
    assert [row.evaluation.smiles for row in read_ledger(killed)] == ["C", "CC", "N"]


def test_finish_and_flush_leave_one_file_that_is_whole(killed: Path) -> None:
    with Ledger(killed, calls=5) as ledger:
        ledger.flush()
        # What the checkpoint names is in the main file: the log beside it holds nothing more.
        assert killed.with_name("ledger.sqlite-wal").stat().st_size == 0
        copy = killed.with_name("copy.sqlite")
        copy.write_bytes(killed.read_bytes())
        assert len(read_ledger(copy)) == 5


@pytest.mark.parametrize("calls", [6, 100])
def test_fewer_rows_than_the_checkpoint_names(killed: Path, calls: int) -> None:
    with pytest.raises(RunError, match=rf"expected {calls} calls .* got 5") as caught:
        Ledger(killed, calls=calls)
    assert str(killed) in str(caught.value)


def test_the_same_molecule_twice_is_a_mismatch(killed: Path) -> None:
    database = sqlite3.connect(killed)
    database.execute("UPDATE evaluations SET smiles = 'C', digest = NULL WHERE call = 2")
    database.commit()
    database.close()
    with pytest.raises(RunError, match="expected 5 calls"):
        Ledger(killed, calls=5)


CHANGES = {
    "call": "call + 100",
    "step": "step + 1",
    "smiles": "smiles || 'O'",
    "raw": "'{}'",
    "shaped": "'[]'",
    "reward": "0.25",
    "penalised_reward": "0.25",
    "failure": "'mine: raised: x'",
    "details": "'{'",
    "digest": "'0123456789abcdef'",
}


@pytest.mark.parametrize("column", list(CHANGES))
def test_a_changed_value_in_a_row_is_noticed(killed: Path, column: str) -> None:
    database = sqlite3.connect(killed)
    database.execute(f"UPDATE evaluations SET {column} = {CHANGES[column]} WHERE call = 2")
    database.commit()
    database.close()
    for read in (lambda: read_ledger(killed), lambda: Ledger(killed, calls=5)):
        with pytest.raises(RunError, match=r"is damaged: call (10)?2 has another checksum"):
            read()


def test_a_lost_row_is_noticed_where_their_number_is_known(killed: Path) -> None:
    database = sqlite3.connect(killed)
    database.execute("DELETE FROM evaluations WHERE call = 3")
    database.commit()
    database.close()
    with pytest.raises(RunError, match="expected the calls 1 to 5; got 4 rows"):
        read_ledger(killed, calls=5)


def test_a_ledger_of_an_older_version_is_read_and_gone_on_with(killed: Path) -> None:
    rows = read_ledger(killed)
    database = sqlite3.connect(killed)
    columns = "call, step, smiles, raw, shaped, reward, penalised_reward, failure, details"
    database.executescript(
        f"CREATE TABLE old ({columns.replace('call', 'call INTEGER PRIMARY KEY')});"
        f"INSERT INTO old SELECT {columns} FROM evaluations;"
        "DROP TABLE evaluations; ALTER TABLE old RENAME TO evaluations;"
    )
    database.close()
    assert read_ledger(killed) == rows
    with Ledger(killed, calls=5) as ledger:
        record(ledger, scored("CO", 0.5), step=9)
        ledger.finish()
    assert read_ledger(killed)[:5] == rows
    assert len(read_ledger(killed, calls=6)) == 6


def test_reading_a_missing_ledger_makes_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"ledger\.sqlite"):
        read_ledger(tmp_path / "ledger.sqlite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["text", "cut", "overwritten", "other table"])
def test_a_corrupt_ledger(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.sqlite"
    if damage == "text":
        path.write_text("not a database, but longer than its header of one hundred bytes" * 5)
    elif damage == "other table":
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE other (x)")
        database.commit()
        database.close()
    else:
        with Ledger(path) as ledger:
            for index in range(200):
                record(ledger, scored("C" * (index + 1), 0.5), step=1)
            ledger.finish()
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] if damage == "cut" else whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(RunError) as caught:
        read_ledger(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reading_changes_nothing(killed: Path) -> None:
    with Ledger(killed, calls=5) as ledger:
        ledger.finish()
    before = killed.read_bytes()
    assert len(read_ledger(killed)) == 5
    assert killed.read_bytes() == before


def test_a_ledger_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="ledger"):
        Ledger(tmp_path / "missing" / "ledger.sqlite")
    text = tmp_path / "ledger.sqlite"
    text.write_text("not a database, but longer than its header of one hundred bytes" * 5)
    with pytest.raises(RunError, match="ledger"):
        Ledger(text)


def test_writing_to_a_closed_ledger_is_a_run_error(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        pass
    with pytest.raises(RunError, match="cannot write ledger"):
        record(ledger, scored("C", 0.5), step=1)


@pytest.mark.parametrize("name", ["run#1", "what?", "50%41", "a b", "ünï"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "ledger.sqlite"
    path.parent.mkdir()
    with Ledger(path) as ledger:
        record(ledger, scored("C", 0.5), step=1)
    assert len(read_ledger(path)) == 1


def test_reward_tensor_has_nan_for_failures() -> None:
    evaluations = [scored("C", 0.5), failed("CC"), scored("CCC", 0.0)]
    rows = [
        LedgerRow(call=index + 1, step=1, evaluation=evaluation, penalised_reward=0.7)
        for index, evaluation in enumerate(evaluations)
    ]
    rewards = reward_tensor(rows).tolist()
    assert (rewards[0], rewards[2]) == (0.5, 0.0)
    assert math.isnan(rewards[1])
    assert reward_tensor([]).shape == (0,)
