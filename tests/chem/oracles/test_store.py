import hashlib
import itertools
import json
import math
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy import make_url

from allmodes.chem.design.ledger import Ledger
from allmodes.chem.oracles import store as store_module
from allmodes.chem.oracles.components import (
    DockingComponent,
    ExternalDockingComponent,
    RetrosynthesisComponent,
)
from allmodes.chem.oracles.results import Failure, FailureKind, Scored
from allmodes.chem.oracles.store import STORED_KINDS, ResultStore, component_key
from allmodes.errors import ConfigError, RunError

KEY, OTHER_KEY = "a" * 64, "b" * 64
# Nothing that a compressor of a database could make short.
HARD = "".join(chr(33 + hashlib.sha256(str(i).encode()).digest()[0] % 90) for i in range(6000))
POSES = Scored(-8.1234567890123456, {"poses": HARD * 2, "torsions": 4})


def _psycopg_address(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


_SCHEMAS = itertools.count()


@pytest.fixture
def new_postgresql(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Each call makes a new, empty schema, which is to a store what a database is, and gives its URL."""
    server = request.getfixturevalue("postgresql_server")

    def make() -> str:
        name = f"store{next(_SCHEMAS)}"
        with psycopg.connect(_psycopg_address(server), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        url = make_url(server).update_query_dict({"options": f"-csearch_path={name}"})
        return url.render_as_string(hide_password=False)

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where no store is yet."""
    if request.param == "sqlite":
        return str(tmp_path / "store.sqlite")
    return request.getfixturevalue("new_postgresql")()


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """What the last of some SQL statements gives, past the store."""
    if "://" in url:
        with psycopg.connect(_psycopg_address(url), autocommit=True) as connection:
            cursors = [connection.execute(statement) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description else []
    with closing(sqlite3.connect(url, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


# The contract, on both databases.


def test_an_answer_comes_back_as_it_was_put_and_only_for_its_key_and_molecule(url: str) -> None:
    answers = {
        (KEY, "CCO"): Scored(0.1 + 0.2, {"solved": True, "route": {"smiles": "CCO", "reaction": None}}),
        (KEY, "CCN"): Scored(-7.0),
        (OTHER_KEY, "CCO"): Scored(5e-324, {"classes": ["β", "\x00", "\ud800"]}),
        (KEY, "c1ccccc1"): Failure("unsuitable", "22 torsions; at most 15"),
        (KEY, "C"): Failure("not_embedded", '‘no’ \x00 "structure"\''),
        (KEY, "N"): Failure("unsuitable", ""),
        (KEY, "P"): POSES,
        (KEY, HARD): Scored(1.0),
        (KEY, HARD + "C"): Scored(2.0),
    }
    with ResultStore(url) as store:
        for (key, smiles), answer in answers.items():
            assert store.get(key, smiles) is None
            store.put(key, smiles, answer)
            assert store.get(key, smiles) == answer
        assert store.get(OTHER_KEY, "CCN") is None
        assert store.get(KEY, "CC") is None
    with ResultStore(url) as store:
        for (key, smiles), answer in answers.items():
            assert store.get(key, smiles) == answer


def test_one_writer_does_not_change_what_another_was_given(url: str) -> None:
    with ResultStore(url) as store:
        store.put(KEY, "CCO", Scored(-7.0, {"poses": "given"}))
        found = store.get(KEY, "CCO")
        assert isinstance(found, Scored)
        found.details["poses"] = "changed"
        assert store.get(KEY, "CCO") == Scored(-7.0, {"poses": "given"})


def test_the_first_writer_wins_and_no_later_one_fails(url: str) -> None:
    with ResultStore(url) as first, ResultStore(url) as second:
        first.put(KEY, "CCO", Scored(-7.0))
        for later in (Scored(-7.0), Scored(-9.0), Failure("unsuitable", "no")):
            second.put(KEY, "CCO", later)
            first.put(KEY, "CCO", later)
        assert first.get(KEY, "CCO") == second.get(KEY, "CCO") == Scored(-7.0)
        second.put(KEY, "CCN", Failure("unsuitable", "no"))
        first.put(KEY, "CCN", Scored(-7.0))
        assert first.get(KEY, "CCN") == Failure("unsuitable", "no")


def test_only_what_would_happen_again_is_kept(url: str) -> None:
    again = {"unsuitable", "not_embedded"}
    with ResultStore(url) as store:
        for kind in get_args(FailureKind):
            store.put(KEY, kind, Failure(kind, "so"))
            assert store.get(KEY, kind) == (Failure(kind, "so") if kind in again else None)
        for number in (math.nan, math.inf, -math.inf):
            store.put(KEY, "CCO", Scored(number))
            store.put(KEY, "CCO", Scored(1.0, {"scores": [number]}))
            assert store.get(KEY, "CCO") is None
        # What is not kept leaves the place to what is.
        store.put(KEY, "timed_out", Scored(-7.0))
        assert store.get(KEY, "timed_out") == Scored(-7.0)
    assert execute(url, "SELECT count(*) FROM allmodes_results") == [(3,)]


@pytest.mark.parametrize(
    "columns",
    [
        "1.0, NULL, '{'",  # no JSON
        "1.0, NULL, '[]'",  # no details
        "NULL, 'unsuitable', '{}'",  # no message
        "NULL, 'tired', '\"so\"'",  # no kind of failure
    ],
)
def test_a_row_that_is_none_of_ours_is_an_error_and_never_a_score(url: str, columns: str) -> None:
    with ResultStore(url) as store:
        store.put(KEY, "CCO", Scored(1.0))
        value, failure, content = columns.split(", ")
        execute(
            url,
            f"UPDATE allmodes_results SET value = {value}, failure = {failure}, content = {content}",
        )
        with pytest.raises(RunError, match=r"cannot read store of results .*expected a value with details"):
            store.get(KEY, "CCO")


def test_the_database_itself_refuses_a_row_that_is_both_score_and_failure(url: str) -> None:
    with ResultStore(url) as store:
        store.put(KEY, "CCO", Scored(1.0))
        with pytest.raises((sqlite3.IntegrityError, psycopg.errors.CheckViolation)):
            execute(url, "UPDATE allmodes_results SET failure = 'unsuitable'")


def test_a_store_that_fails_later_is_a_run_error_of_one_line(url: str) -> None:
    with ResultStore(url) as store:
        execute(url, "DROP TABLE allmodes_results")
        with pytest.raises(RunError, match=r"^cannot read store of results ") as reading:
            store.get(KEY, "CCO")
        with pytest.raises(RunError, match=r"^cannot write store of results ") as writing:
            store.put(KEY, "CCO", POSES)
    for message in (str(reading.value), str(writing.value)):
        assert "allmodes_results" in message
        assert "\n" not in message
        assert "geheim" not in message
        assert len(message) < 300  # without the statement and its 12 kB of parameters


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["CREATE TABLE evaluations (call INTEGER)"], "with the table evaluations"),
        (["CREATE TABLE allmodes_results (component_key TEXT)"], "with the columns component_key"),
    ],
)
def test_a_database_of_others_is_refused_and_left_alone(url: str, statements: list[str], found: str) -> None:
    execute(url, *statements)
    with pytest.raises(ConfigError, match=f"^`oracle.store`: expected an empty database .*{found}$") as error:
        ResultStore(url)
    assert "geheim" not in str(error.value)
    if "://" in url:
        assert len(execute(url, "SELECT * FROM pg_tables WHERE schemaname = current_schema()")) == 1
    else:
        assert len(execute(url, "SELECT * FROM sqlite_master")) == 1
        assert execute(url, "PRAGMA journal_mode") == [("delete",)]


# Many at once. Each script is told of the store, imports once and forks before it opens anything.

_AT_ONCE = """
import os, sys
from allmodes.chem.oracles.results import Failure, Scored
from allmodes.chem.oracles.store import ResultStore

def answer(i):
    return Failure("unsuitable", str(i)) if i % 7 == 0 else Scored(i / 3, {"poses": "x" * 10_000})

def work(number):
    with ResultStore(sys.argv[1]) as store:
        for i in range(200):
            # Half of the molecules are everybody's, half are its own.
            smiles = f"C{i}" if i % 2 else f"{number}C{i}"
            store.put("key", smiles, answer(i))
            if store.get("key", smiles) != answer(i):
                raise SystemExit(f"lost {smiles}")

children = []
for number in range(4):
    child = os.fork()
    if child == 0:
        work(number)
        sys.exit()
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=200
    )


def test_four_processes_lose_nothing_and_never_fail(url: str) -> None:
    done = run_script(_AT_ONCE, url)  # the store is not there yet: they also make it at once
    assert (done.returncode, done.stderr) == (0, "")
    with ResultStore(url) as store:
        assert [store.get("key", f"C{i}") for i in (1, 7)] == [
            Scored(1 / 3, {"poses": "x" * 10_000}),
            Failure("unsuitable", "7"),
        ]
    assert execute(url, "SELECT count(*) FROM allmodes_results") == [(100 + 4 * 100,)]


def test_twenty_threads_share_one_store(url: str) -> None:
    failures: list[Exception] = []

    def work(store: ResultStore, number: int) -> None:
        try:
            for i in range(20):
                store.put(KEY, f"{number} {i}", Scored(number + i / 100))
                store.put(KEY, "shared", Scored(1.0))
                assert store.get(KEY, f"{number} {i}") == Scored(number + i / 100)
        except Exception as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    with ResultStore(url) as store:
        threads = [threading.Thread(target=work, args=(store, number)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
    assert execute(url, "SELECT count(*) FROM allmodes_results") == [(401,)]


_KILLED = """
import itertools, os, signal, sys
from allmodes.chem.oracles.results import Scored
from allmodes.chem.oracles.store import ResultStore

def work(start, told):
    with ResultStore(sys.argv[1]) as store:
        for i in itertools.count(start):
            store.put("key", str(i), Scored(float(i), {"poses": str(i % 10) * 100_000}))
            os.write(told, f"{i}\\n".encode())

for start, lines in ((0, 3), (100_000, 20), (200_000, 57)):
    hears, told = os.pipe()
    child = os.fork()
    if child == 0:
        work(start, told)
    os.close(told)
    with open(hears) as answers:
        print(*itertools.islice(answers, lines), sep="", end="")
        os.kill(child, signal.SIGKILL)
        print(answers.read(), end="")
    os.waitpid(child, 0)
"""


def test_a_killed_writer_leaves_all_that_it_had_put_and_nothing_by_halves(url: str) -> None:
    done = run_script(_KILLED, url)
    assert done.stderr == ""
    put = [int(line) for line in done.stdout.splitlines()]
    assert len(put) >= 3 + 20 + 57
    with ResultStore(url) as store:
        for i in put:
            assert store.get("key", str(i)) == Scored(float(i), {"poses": str(i % 10) * 100_000})
        store.put("key", "after", Scored(1.0))
    # One more a writer: its last put was committed, and it was killed before it could say so.
    (rows,) = execute(url, "SELECT count(*) FROM allmodes_results")[0]
    assert len(put) + 1 <= rows <= len(put) + 1 + 3
    if "://" not in url:
        assert execute(url, "PRAGMA integrity_check") == [("ok",)]


def test_a_forked_process_is_told_to_open_its_own(tmp_path: Path) -> None:
    script = """
import os, sys
from allmodes.chem.oracles.store import ResultStore
from allmodes.errors import RunError

with ResultStore(sys.argv[1]) as store:
    child = os.fork()
    if child == 0:
        try:
            store.get("key", "C")
        except RunError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(store.get("key", "C"))
"""
    done = run_script(script, str(tmp_path / "store.sqlite"))
    first, second = done.stdout.splitlines()
    assert "expected to be opened by this process" in first
    assert second == "None"


# SQLite alone.


def test_a_sqlite_url_and_a_path_are_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ResultStore("sqlite:///store.sqlite") as store:
        store.put(KEY, "CCO", Scored(-7.0))
    for same in ("store.sqlite", str(tmp_path / "store.sqlite"), f"sqlite:///{tmp_path}/store.sqlite"):
        with ResultStore(same) as store:
            assert store.get(KEY, "CCO") == Scored(-7.0)


def test_readers_of_a_sqlite_store_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with ResultStore(str(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store.put(KEY, "CCO", Scored(-7.0))
        other.execute("BEGIN EXCLUSIVE")
        assert store.get(KEY, "CCO") == Scored(-7.0)


def test_a_put_waits_while_somebody_else_writes(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with ResultStore(str(path)) as store:
        with store._engine.connect() as connection:
            settings = ("busy_timeout", "journal_mode", "synchronous")
            found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in settings]
            assert found == [60_000, "wal", 1]
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
        release.start()
        store.put(KEY, "CCO", Scored(-7.0))
        release.join()
        other.close()
        assert store.get(KEY, "CCO") == Scored(-7.0)


def test_the_change_of_the_journal_waits_for_another_who_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.sqlite"
    engine = store_module._engine(store_module._parse(str(path)))
    with closing(sqlite3.connect(path, isolation_level=None)) as other, engine.connect() as connection:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(store_module.time, "sleep", lambda _: other.execute("COMMIT"))
        store_module._write_ahead(connection)
        assert not other.in_transaction
    engine.dispose()
    assert execute(str(path), "PRAGMA journal_mode") == [("wal",)]


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").touch()
    with ResultStore(str(tmp_path / "store.sqlite")) as store:
        store.put(KEY, "CCO", Scored(-7.0))
        assert store.get(KEY, "CCO") == Scored(-7.0)


def test_files_that_are_no_store_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but a text of some length\n" * 100)
    for wrong in (text, tmp_path):
        with pytest.raises(ConfigError, match=r"^`oracle.store`: expected .* can be opened; got .*") as error:
            ResultStore(str(wrong))
        assert str(wrong) in str(error.value)
    assert text.read_text().startswith("not a database")
    with Ledger(tmp_path / "ledger.sqlite"):
        pass
    with pytest.raises(ConfigError, match=r"with the table evaluations"):
        ResultStore(str(tmp_path / "ledger.sqlite"))
    with pytest.raises(ConfigError, match=r"expected a file in a folder that exists; got .*nowhere/store"):
        ResultStore(str(tmp_path / "nowhere" / "store.sqlite"))


@pytest.mark.parametrize("wrong", ["", ":memory:", "sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_store_needs_a_file_that_outlives_it(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"^`oracle.store`: expected a file, sqlite:///FILE or postgresql"):
        ResultStore(wrong)


def test_other_words_for_sqlite_are_refused(tmp_path: Path) -> None:
    for wrong in (f"sqlite:///{tmp_path}/s.sqlite?mode=ro", "sqlite://host/s.sqlite", "sqlite:s.sqlite"):
        with pytest.raises(ConfigError, match=r"^`oracle.store`: expected a file, sqlite:///FILE"):
            ResultStore(wrong)
    assert list(tmp_path.iterdir()) == []


# PostgreSQL alone.


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql+psycopg://me:geheim@127.0.0.1:1/results",  # nobody listens
        "postgresql://me:geheim@127.0.0.1:1/results",
        "postgresql+psycopg://me@127.0.0.1:1/results?password=geheim",
        "postgresql+psycopg://me:geheim@127.0.0.1:1/results?no_such_option=1",
        "postgresql+psycopg://me:geheim@127.0.0.1:99999999/results",
        "postgresql+psycopg://me:geheim@127.0.0.1:1/results?connect_timeout=soon",
        "postgresql+psycopg://me:geheim@host:port/results",
        "postgresql+psycopg://me:geheim",
        "postgresql+psycopg:geheim@host",
        "postgresql+psycopg://me:my@geheim@127.0.0.1/results",
        "postgresql+psycopg2://me:geheim@127.0.0.1/results",
        "postgres://me:geheim@127.0.0.1/results",
        "mysql://me:geheim@127.0.0.1/results",
    ],
)
def test_no_message_tells_the_password(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"^`oracle.store`: expected .*; got ") as error:
        ResultStore(wrong)
    told: BaseException | None = error.value
    assert "\n" not in str(told)
    while told is not None:  # nor does a traceback, which prints what caused it
        assert "geheim" not in str(told)
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)


def test_a_wrong_password_or_database_is_named_without_it(new_postgresql: Callable[[], str]) -> None:
    right = make_url(new_postgresql())
    for wrong, reason in (
        (right.set(password="falsch"), "password authentication failed"),
        (right.set(database="none"), 'database "none" does not exist'),
    ):
        with pytest.raises(ConfigError, match=r"`oracle.store`: expected .* can be opened; got") as error:
            ResultStore(wrong.render_as_string(hide_password=False))
        assert reason in str(error.value)
        assert "allmodes:***@" in str(error.value)
        assert "falsch" not in str(error.value)
        assert "geheim" not in str(error.value)


def test_the_usual_url_of_postgresql_uses_the_same_driver(new_postgresql: Callable[[], str]) -> None:
    url = new_postgresql()
    with ResultStore(url.replace("postgresql+psycopg:", "postgresql:")) as store:
        store.put(KEY, "CCO", Scored(-7.0))
    with ResultStore(url) as store:
        assert store.get(KEY, "CCO") == Scored(-7.0)


def test_a_connection_that_the_server_dropped_is_made_anew(new_postgresql: Callable[[], str]) -> None:
    url = new_postgresql()
    with ResultStore(url) as store:
        store.put(KEY, "CCO", Scored(-7.0))
        (dropped,) = execute(
            url,
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )[0]
        assert dropped >= 1
        assert store.get(KEY, "CCO") == Scored(-7.0)


def test_a_missing_driver_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"^`oracle.store`: .*pip install .*\[postgresql\]'`; got"):
        ResultStore("postgresql+psycopg://me:geheim@127.0.0.1:1/results")


# What a result depends on.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Files with their own names as content, in "allmodes" what is shipped; engines of version 1.2.3."""
    for name in ("receptor.pdbqt", "ligand.pdb", "stock.smi", "templates.toml", "model.ckpt"):
        (tmp_path / name).write_text(name)
    shipped = tmp_path / "allmodes" / "retrosynthesis"
    shipped.mkdir(parents=True)
    (shipped / "stock.smi.gz").write_text("shipped stock")
    (shipped / "templates.toml").write_text("shipped templates")
    shipped_folder = {"allmodes.chem.retrosynthesis": shipped}
    module = "allmodes.chem.oracles.components.retrosynthesis"
    monkeypatch.setattr(f"{module}.resources", shipped_folder.__getitem__)
    monkeypatch.setattr(store_module, "version", lambda package: f"{package} 1.2.3")
    return tmp_path


def docking(folder: Path, **settings: Any) -> dict[str, Any]:
    box = {"reference_ligand": folder / "ligand.pdb"}
    values = {"kind": "docking", "receptor": folder / "receptor.pdbqt", "box": box, **settings}
    return DockingComponent.model_validate(values).model_dump(mode="json")


def external(folder: Path, **settings: Any) -> dict[str, Any]:
    values = {
        "kind": "external_docking",
        "command": ["smina", "-r", "{receptor}"],
        "receptor": folder / "receptor.pdbqt",
        "box": {"center": (1.0, 2.0, 3.0)},
        **settings,
    }
    return ExternalDockingComponent.model_validate(values).model_dump(mode="json")


def retrosynthesis(folder: Path, **settings: Any) -> dict[str, Any]:
    values = {"kind": "retrosynthesis", **settings}
    return RetrosynthesisComponent.model_validate(values).model_dump(mode="json")


MODEL = {"name": "MEGAN", "checkpoint": "model.ckpt"}
MAKERS = (docking, external, retrosynthesis)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_key_is_the_hash_of_all_that_counts(folder: Path) -> None:
    engines = {p: f"{p} 1.2.3" for p in ("meeko", "rdkit", "vina")}
    by_hand = {
        "revision": 2,
        "settings": {
            "box": {"center": None, "reference_ligand": sha256("ligand.pdb"), "size": 22.5},
            "exhaustiveness": 8,
            "kind": "docking",
            "max_torsions": 15,
            "poses": 2,
            "protonation": "ph7.4",
            "receptor": sha256("receptor.pdbqt"),
            "seed": 1,
        },
        "versions": engines,
    }
    component = docking(folder, poses=2, box={"reference_ligand": folder / "ligand.pdb", "size": 22.5})
    before = json.dumps(component)
    assert component_key(component) == sha256(json.dumps(by_hand, separators=(",", ":")))
    assert json.dumps(component) == before

    by_hand = {
        "revision": 2,
        "settings": {
            "kind": "retrosynthesis",
            "max_expansions": 100,
            "max_steps": 5,
            "model": None,
            "reactions": ["amide coupling"],
            "stock": sha256("shipped stock"),
            "templates": sha256("shipped templates"),
        },
        "versions": {p: f"{p} 1.2.3" for p in ("rdkit", "syntheseus")},
    }
    component = retrosynthesis(folder, reactions=["amide coupling"])
    assert component_key(component) == sha256(json.dumps(by_hand, separators=(",", ":")))


@pytest.mark.parametrize("make", MAKERS)
def test_names_shaping_weights_and_time_limits_do_not_count(
    make: Callable[..., dict[str, Any]], folder: Path
) -> None:
    shaping = {"kind": "reverse_sigmoid", "low": -16.0, "high": 0.0, "k": 0.15}
    other = make(folder, name="other", shaping=shaping, weight=2.0, time_limit=7.0, start_limit=8.0)
    assert component_key(other) == component_key(make(folder))


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (docking, {"exhaustiveness": 1}),
        (docking, {"seed": 2}),
        (docking, {"max_torsions": 10}),
        (docking, {"protonation": "as_written"}),
        (docking, {"poses": 1}),
        (docking, {"box": {"center": (1.0, 2.0, 3.0)}}),
        (external, {"box": {"center": (1.0, 2.0, 3.5)}}),
        (external, {"box": {"center": (1.0, 2.0, 3.0), "size": (20.0, 20.0, 25.0)}}),
        (external, {"command": ["gnina", "-r", "{receptor}"]}),
        (retrosynthesis, {"reactions": ["amide coupling"]}),
        (retrosynthesis, {"max_steps": 4}),
        (retrosynthesis, {"max_expansions": 50}),
    ],
)
def test_every_other_setting_counts(
    make: Callable[..., dict[str, Any]], settings: dict[str, Any], folder: Path
) -> None:
    assert component_key(make(folder, **settings)) != component_key(make(folder))


def test_a_model_counts_by_its_name_as_well(folder: Path) -> None:
    checkpoint = folder / "model.ckpt"
    keys = {
        component_key(retrosynthesis(folder)),
        component_key(retrosynthesis(folder, model={"name": "MEGAN", "checkpoint": checkpoint})),
        component_key(retrosynthesis(folder, model={"name": "LocalRetro", "checkpoint": checkpoint})),
    }
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("receptor.pdbqt", lambda path: (docking, {"receptor": path})),
        ("receptor.pdbqt", lambda path: (external, {"receptor": path})),
        ("ligand.pdb", lambda path: (docking, {"box": {"reference_ligand": path}})),
        ("stock.smi", lambda path: (retrosynthesis, {"stock": path})),
        ("templates.toml", lambda path: (retrosynthesis, {"templates": path})),
        ("model.ckpt", lambda path: (retrosynthesis, {"model": {"name": "MEGAN", "checkpoint": path}})),
    ],
)
def test_a_file_counts_by_its_content_and_not_by_its_place(
    name: str, settings: Callable[[Path], tuple[Any, dict[str, Any]]], folder: Path
) -> None:
    def key(path: Path) -> str:
        make, values = settings(path)
        return component_key(make(folder, **values))

    before = key(folder / name)
    (folder / "elsewhere").mkdir()
    moved = shutil.copy(folder / name, folder / "elsewhere" / "another_name")
    assert key(Path(moved)) == before
    Path(moved).write_text("changed")
    assert key(Path(moved)) != before


@pytest.mark.parametrize("name", ["stock.smi.gz", "templates.toml"])
def test_the_shipped_files_count_by_their_content(name: str, folder: Path) -> None:
    shipped = folder / "allmodes" / "retrosynthesis" / name
    before = component_key(retrosynthesis(folder))
    assert component_key(retrosynthesis(folder, **{name.partition(".")[0]: shipped})) == before
    shipped.write_text("those of a later version")
    assert component_key(retrosynthesis(folder)) != before


def test_two_files_that_change_places_change_the_key(folder: Path) -> None:
    stock, templates = folder / "stock.smi", folder / "templates.toml"
    one = component_key(retrosynthesis(folder, stock=stock, templates=templates))
    assert component_key(retrosynthesis(folder, stock=templates, templates=stock)) != one


def test_a_folder_of_a_model_counts_with_every_file_and_its_place(folder: Path) -> None:
    def key(path: Path) -> str:
        return component_key(retrosynthesis(folder, model={"name": "MEGAN", "checkpoint": path}))

    model = folder / "model"
    (model / "inner").mkdir(parents=True)
    (model / "weights").write_text("weights")
    (model / "inner" / "vocabulary").write_text("vocabulary")
    before = key(model)
    moved = shutil.copytree(model, folder / "moved")
    assert key(moved) == before
    (moved / "inner" / "vocabulary").write_text("another")
    changed = key(moved)
    (moved / "inner" / "vocabulary").write_text("vocabulary")
    assert key(moved) == before
    (moved / "inner" / "vocabulary").rename(moved / "vocabulary")
    renamed = key(moved)
    (moved / "more").touch()
    assert len({before, changed, renamed, key(moved)}) == 4
    # A folder that is linked to belongs to it too.
    (model / "linked").symlink_to(moved)
    linked = key(model)
    (moved / "weights").write_text("others")
    assert len({before, linked, key(model)}) == 3


@pytest.mark.parametrize(("make", "packages"), [(docking, "mrv"), (external, "mr"), (retrosynthesis, "rs")])
def test_another_version_of_an_engine_is_another_key(
    make: Callable[..., dict[str, Any]], packages: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = make(folder)
    before = component_key(component)
    for package in ("meeko", "rdkit", "vina", "syntheseus"):
        monkeypatch.setattr(store_module, "version", lambda p, new=package: f"{p} 1.2.{4 if p == new else 3}")
        assert (component_key(component) != before) == (package[0] in packages)


@pytest.mark.parametrize(
    ("make", "settings", "key"),
    [
        (docking, {"receptor": "gone"}, "receptor"),
        (docking, {"receptor": "."}, "receptor"),  # a folder
        (docking, {"box": {"reference_ligand": "gone"}}, "box.reference_ligand"),
        (retrosynthesis, {"stock": "gone"}, "stock"),
        (retrosynthesis, {"templates": "gone"}, "templates"),
        (retrosynthesis, {"model": {"name": "MEGAN", "checkpoint": "gone"}}, "model.checkpoint"),
    ],
)
def test_a_missing_file_is_an_error_that_names_the_key(
    make: Callable[..., dict[str, Any]], settings: dict[str, Any], key: str, folder: Path
) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"^component 'mine': `{key}`: expected a file that can be read; got '.+' \(",
    ):
        component_key(make(folder, name="mine", **settings))


def test_a_missing_package_and_a_kind_that_is_not_stored_are_errors(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert STORED_KINDS == ("docking", "external_docking", "retrosynthesis")
    for kind in ("function", "process", "qed"):
        with pytest.raises(ConfigError, match=f"^component 'mine': `kind`: expected one of .* got '{kind}'$"):
            component_key({"name": "mine", "kind": kind})
    monkeypatch.undo()
    monkeypatch.setattr(DockingComponent, "engines", ("no-such-package",))
    with pytest.raises(ConfigError, match=r"no-such-package.*pip install .*\[docking\]'"):
        component_key(docking(folder))


def test_every_path_of_a_stored_component_counts_by_its_content() -> None:
    """A path that is added to a configuration must be added to the key, else its content does not count."""

    def paths(kind: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        if kind is Path:
            yield above
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                yield from paths(field.annotation, (*above, name))
        for part in get_args(kind):  # of a union, a tuple, an annotated type
            yield from paths(part, above)

    models = (DockingComponent, ExternalDockingComponent, RetrosynthesisComponent)
    assert {path for model in models for path in paths(model)} == {
        tuple(key.split(".")) for model in models for key in model.files
    }


def test_the_files_that_come_with_allmodes_are_where_the_key_looks() -> None:
    assert len(component_key(RetrosynthesisComponent(kind="retrosynthesis").model_dump(mode="json"))) == 64
