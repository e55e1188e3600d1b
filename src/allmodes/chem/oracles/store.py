"""The store of results shared between runs, so that no molecule is docked or analysed twice."""

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Double,
    MetaData,
    Table,
    Text,
    bindparam,
    create_engine,
    event,
    inspect,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from allmodes.chem.oracles.components import KINDS
from allmodes.chem.oracles.results import Answer, Failure, FailureKind, Scored
from allmodes.errors import ConfigError, RunError, one_line
from allmodes.extras import how_to_install
from allmodes.runs.provenance import file_sha256

# A user's function or program has no engine and is not stored: it may change behind our back.
STORED_KINDS = tuple(kind for kind, component in KINDS.items() if component.engines)
# To be raised whenever allmodes itself computes something else for the same settings.
_REVISION = 2
_WITHOUT_EFFECT = ("name", "shaping", "weight", "time_limit", "start_limit")

# What would happen again. Time and crashes depend on the machine and its load, anything may be "raised" (a
# full disk), and "out_of_range" depends on the shaping, which is no part of the key; an engine that says NaN
# once is better asked again.
_KEPT: tuple[FailureKind, ...] = ("unsuitable", "not_embedded")

_TABLE = "allmodes_results"
_RESULTS = Table(
    _TABLE,
    MetaData(),
    Column(
        "key", Text, primary_key=True
    ),  # of the two below: an index of PostgreSQL has no room for long SMILES
    Column("component_key", Text, nullable=False),
    Column("smiles", Text, nullable=False),  # canonical isomeric SMILES
    Column("value", Double),  # NULL when the component failed
    Column("failure", Text),  # the kind of failure, or NULL
    Column("content", Text, nullable=False),  # JSON: the details of a value, the message of a failure
    CheckConstraint("(value IS NULL) <> (failure IS NULL)"),
)
_GET = select(_RESULTS.c.value, _RESULTS.c.failure, _RESULTS.c.content).where(
    _RESULTS.c.key == bindparam("key")
)
_PUT = {
    "sqlite": sqlite.insert(_RESULTS).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(_RESULTS).on_conflict_do_nothing(),
}
# Begins a transaction in which no other process creates the table.
_BEGIN_ALONE = {
    "sqlite": ("BEGIN IMMEDIATE",),
    "postgresql": ("BEGIN", "SELECT pg_advisory_xact_lock(8241507319)"),
}
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_SCHEME = re.compile(r"[A-Za-z][\w+.-]+:")  # two letters at least: a drive of Windows is no scheme

_PATIENCE = 60  # seconds until a database that others write to counts as locked for good
_CONNECT_LIMIT = 10  # seconds for a server to answer the first time


@final
class ResultStore:
    """Results by component and molecule, in a SQLite file or a PostgreSQL database. A context manager.

    url_or_path: a file, which is made where there is none, or a URL: `sqlite:///results.sqlite`,
    `postgresql+psycopg://user:password@host/database`. Any number of threads and processes may use one store,
    each process with an object of its own, opened after it was forked; SQLite's only on one machine. Every
    result is committed at once; what a killed process had not yet committed is as if never put.

    Raises `ConfigError` for what cannot be opened, for a driver that is missing, and for a database that
    holds something else; `RunError` if a store that was opened fails later.
    """

    def __init__(self, url_or_path: str) -> None:
        url = _parse(url_or_path)
        backend = url.get_backend_name()
        # For messages: a password may also be in the URL's query.
        shown = url.set(query={}).render_as_string(hide_password=True)
        self._shown = str(url.database) if backend == "sqlite" else shown
        self._process = os.getpid()
        self._put = _PUT[backend]
        try:
            self._engine = _engine(url)
        except ImportError as error:
            raise ConfigError(
                f"`oracle.store`: expected the driver for PostgreSQL, `{how_to_install('postgresql')}`; "
                f"got {one_line(error)}"
            ) from error
        except (SQLAlchemyError, ValueError, TypeError) as error:
            raise self._cannot_open(error) from error
        try:
            with self._engine.connect() as connection:
                self._prepare(connection)
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise self._cannot_open(error) from error
        except ConfigError:
            self._engine.dispose()
            raise

    def __enter__(self) -> "ResultStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    def get(self, component_key: str, smiles: str) -> Answer | None:
        """A component's stored result for a molecule, from any run; None if there is none."""
        with self._connection("read") as connection:
            row = connection.execute(_GET, {"key": _key(component_key, smiles)}).one_or_none()
        return None if row is None else self._answer(*row)

    def put(self, component_key: str, smiles: str, answer: Answer) -> None:
        """Keep an answer for all runs, unless there is one: the first stays.

        Not kept, and so asked for again: values or details with a number that is not finite, and failures
        that another try may not have: "timed_out", "died", "malformed", "not_finite", "out_of_range".
        """
        columns = _columns(answer)
        if columns is None:
            return
        key = _key(component_key, smiles)
        with self._connection("write") as connection:
            connection.execute(
                self._put, {"key": key, "component_key": component_key, "smiles": smiles, **columns}
            )

    @contextmanager
    def _connection(self, verb: str) -> Iterator[Connection]:
        # SQLite's locks and a server's socket belong to the process that opened them.
        if os.getpid() != self._process:
            raise RunError(
                f"store of results {self._shown}: expected to be opened by this process; "
                f"got one of process {self._process}"
            )
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise RunError(f"cannot {verb} store of results {self._shown}: {_reason(error)}") from error

    def _answer(self, value: float | None, failure: str | None, content: str) -> Answer:
        try:
            said = json.loads(content)
        except ValueError:
            said = None
        if isinstance(said, str) and failure in _KEPT:
            return Failure(failure, said)
        if isinstance(said, dict) and failure is None and value is not None and math.isfinite(value):
            return Scored(value, said)
        raise RunError(
            f"cannot read store of results {self._shown}: expected a value with details or a failure with "
            f"its message; got {value}, {failure}, {content[:100]!r}"
        )

    def _prepare(self, connection: Connection) -> None:
        """Make the table in an empty database; raises `ConfigError` for one with other things in it."""
        for statement in _BEGIN_ALONE[connection.dialect.name]:
            connection.exec_driver_sql(statement)
        inspector = inspect(connection)
        tables = inspector.get_table_names()
        if not tables:
            _RESULTS.create(connection)
        elif _TABLE not in tables:
            raise self._not_ours(f"the table {tables[0]}")
        else:
            columns = [column["name"] for column in inspector.get_columns(_TABLE)]
            if columns != _RESULTS.c.keys():
                raise self._not_ours(f"the columns {', '.join(columns)}")
        connection.exec_driver_sql("COMMIT")
        if connection.dialect.name == "sqlite":
            _write_ahead(connection)

    def _cannot_open(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"`oracle.store`: expected a file or a database that can be opened; "
            f"got {self._shown!r} ({_reason(error)})"
        )

    def _not_ours(self, found: str) -> ConfigError:
        return ConfigError(
            f"`oracle.store`: expected an empty database or a store of results of this version; "
            f"got {self._shown!r} with {found}"
        )


def refuse_password(url_or_path: str) -> None:
    """Raise `ConfigError` for a store's URL with a password, which would be saved with the run."""
    url = _parse(url_or_path)
    if url.password is not None or {"password", "sslpassword"} & set(url.query):
        raise ConfigError(
            "`oracle.store`: expected a URL without a password, since config.json keeps it; got one with a "
            "password: give it by the variable PGPASSWORD, or by a file, ~/.pgpass or that of PGPASSFILE"
        )


def component_key(component: dict[str, Any]) -> str:
    """A key of everything that a component's results depend on: 64 hexadecimal digits.

    component: `model_dump(mode="json")` of its configuration. SHA-256 over the JSON of that without name,
    shaping, weight and time limits; files count by their content, wherever they lie, and the engines by their
    versions. Of an external program the command's words count: one that is exchanged under the same name,
    or a file that only the command names, is not noticed.

    Raises `ConfigError` for a kind that is not stored, and for a file or a package that is missing.
    """
    where = f"component {component['name']!r}:"
    record = KINDS.get(component["kind"])
    if record is None or not record.engines:
        raise ConfigError(f"{where} `kind`: expected one of {STORED_KINDS}; got {component['kind']!r}")
    settings = json.loads(json.dumps({k: v for k, v in component.items() if k not in _WITHOUT_EFFECT}))
    shipped = record.shipped_files()
    for key in record.files:
        *parents, last = key.split(".")
        table = settings
        for parent in parents:
            table = table.get(parent) or {}
        if last not in table or (table[last] is None and key not in shipped):
            continue
        path = shipped[key] if table[last] is None else Path(table[last])
        try:
            table[last] = _digest(path) if last == "checkpoint" else file_sha256(path)
        except OSError as error:
            raise ConfigError(
                f"{where} `{key}`: expected a file that can be read; "
                f"got {str(path)!r} ({error.strerror or one_line(error)})"
            ) from error
    try:
        versions = {package: version(package) for package in record.engines}
    except PackageNotFoundError as error:
        raise ConfigError(
            f"{where} `kind`: expected the package {error.name}, `{how_to_install(record.extra)}`; got none"
        ) from error
    return _hash_json({"settings": settings, "versions": versions, "revision": _REVISION})


def _hash_json(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(path: Path) -> str:
    """The digest of a file, or of all files below a folder with their places in it."""
    if not path.is_dir():
        return file_sha256(path)
    content: dict[str, str] = {}
    for folder, _, names in os.walk(path, onerror=_raise, followlinks=True):
        for file in (Path(folder) / name for name in names):
            content[file.relative_to(path).as_posix()] = file_sha256(file)
    return _hash_json(content)


def _raise(error: OSError) -> None:
    raise error


def _parse(text: str) -> URL:
    """The URL of a store with the driver that is used here; raises `ConfigError` without its password."""
    wanted = (
        "`oracle.store`: expected a file, sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME;"
    )
    scheme = _SCHEME.match(text)
    if scheme is None:
        url = URL.create("sqlite", database=text)
    else:
        # From None: the parser's own words may hold the password, and so may the host after a stray @.
        try:
            url = make_url(text)
        except (SQLAlchemyError, ValueError):
            raise ConfigError(f"{wanted} got a malformed URL that starts with {scheme[0]}") from None
        if "@" in (url.host or ""):
            raise ConfigError(f"{wanted} got a password with an @ in it, which is written %40 in a URL")
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ConfigError(f"{wanted} got {url.drivername}:")
    url = url.set(drivername=driver)
    if url.get_backend_name() != "sqlite":
        return url
    if url.host or url.query or not url.database or url.database == ":memory:":
        raise ConfigError(f"{wanted} got {text!r}")
    if not Path(url.database).parent.is_dir():
        raise ConfigError(f"`oracle.store`: expected a file in a folder that exists; got {url.database!r}")
    return url


def _engine(url: URL) -> Engine:
    """Connections on which each statement is a transaction; a server's are tried before they are used."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            pool_timeout=_PATIENCE,
            connect_args={"timeout": _PATIENCE, "check_same_thread": False},
        )
        event.listen(engine, "connect", _sync_rarely)
        return engine
    url = url.set(query={"connect_timeout": str(_CONNECT_LIMIT), **url.query})
    return create_engine(url, isolation_level="AUTOCOMMIT", pool_timeout=_PATIENCE, pool_pre_ping=True)


def _sync_rarely(connection: Any, _: ConnectionPoolEntry) -> None:
    # A commit then survives the end of this process at once; the loss of power may cost the last ones.
    connection.execute("PRAGMA synchronous = NORMAL")


def _write_ahead(connection: Connection) -> None:
    """Readers then never wait. SQLite itself does not wait here for one who is making the same store."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            return
        except OperationalError as error:
            if "locked" not in str(error.orig) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _key(component_key: str, smiles: str) -> str:
    return hashlib.sha256(f"{component_key} {smiles}".encode()).hexdigest()


def _columns(answer: Answer) -> dict[str, object] | None:
    """The columns of an answer that is kept, else None."""
    if isinstance(answer, Failure):
        if answer.kind not in _KEPT:
            return None
        return {"value": None, "failure": answer.kind, "content": json.dumps(answer.message)}
    value = float(answer.value)
    try:
        content = json.dumps(answer.details, allow_nan=False)
    except ValueError:
        return None
    return {"value": value, "failure": None, "content": content} if math.isfinite(value) else None


def _reason(error: Exception) -> str:
    """The driver's own words, without the statement and the parameters that SQLAlchemy adds."""
    original = error.orig if isinstance(error, DBAPIError) else None
    return one_line(original if isinstance(original, Exception) else error)
