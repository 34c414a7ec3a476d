"""Opening the database and running units of work on it.

This module alone decides how transactions begin and what durability means: SQLite runs with WAL,
`synchronous=FULL` and foreign keys on; writers begin with BEGIN IMMEDIATE behind one lock a process, which
keeps eight writing threads' p99 under half of what SQLite's own busy waiting gives.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from smi_desktop.domain.errors import ConfigurationError, NewerDataError, TransientError

# A webhook's sender waits some ten seconds for its answer; better a clear "later" before that.
BUSY_SECONDS: Final = 8.0
# Who starts while another process migrates waits for it.
_MIGRATION_SECONDS: Final = 120.0
# The name of a writer's execution option: until when it may wait, on the monotonic clock.
_DEADLINE: Final = "smi_deadline"
_MIGRATION_LOCK: Final = 0x534D49
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# https://www.sqlite.org/rescode.html: what may be over later, and what never is.
_SQLITE_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_SQLITE_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# https://www.postgresql.org/docs/current/errcodes-appendix.html: a server that takes no writes.
_POSTGRES_READ_ONLY: Final = "25006"


class Database:
    """A pool of connections to one shop's database; usable from many threads.

    Args:
        url: SQLAlchemy address; `sqlite:///path` or `postgresql+psycopg://…`.
        busy_seconds: How long a unit of work waits in all for others to let it begin.
        migrations: Alembic's folder of this version.

    Raises:
        ConfigurationError: The address cannot be used.
    """

    def __init__(
        self, url: str, *, busy_seconds: float = BUSY_SECONDS, migrations: Path = _MIGRATIONS
    ) -> None:
        self._migrations = migrations
        self._busy_seconds = busy_seconds
        self._engine = _create_engine(url, busy_seconds)
        self._write_lock: threading.Lock | None = threading.Lock() if self.is_sqlite else None

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self._engine.dialect.name == "sqlite"

    @property
    def engine(self) -> Engine:
        """The pool itself, for migrations and checks."""
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session for looking; what it read stays usable after it is closed."""
        with _told_apart(), Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session whose work is committed durably at the end, or not at all.

        Raises:
            TransientError: The database is locked, full or away. Nothing was written, unless a server
                was lost in the very moment of the commit: then nobody knows, and unique keys decide.
        """
        deadline = time.monotonic() + self._busy_seconds
        with (
            _told_apart(),
            self._turn(deadline),
            Session(self._engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            # Begin at once: work must be decided on what is read behind the lock.
            connection = session.connection(execution_options={_DEADLINE: deadline})
            if not self.is_sqlite:
                # Rows that another holds are waited for as long as SQLite's one lock, not for ever.
                connection.exec_driver_sql(
                    f"SET LOCAL lock_timeout = {int(self._busy_seconds * 1000)}"
                )
            yield session

    def migrate(self) -> None:
        """Bring the tables up to this version.

        Raises:
            NewerDataError: The tables were made by a newer version; nothing was changed.
        """
        config = _alembic_config(self._migrations)
        with _told_apart(), self._engine.connect() as connection:
            # The usual start: nothing to do, so it need not wait for any writer.
            if _revision(connection) == ScriptDirectory.from_config(config).get_current_head():
                return
        with _told_apart(), self._migration_connection() as connection:
            config.attributes["connection"] = connection
            self._refuse_newer(connection, config)
            command.upgrade(config, "head")
            if self.is_sqlite:
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise ConfigurationError(
                        f"The database has {len(broken)} rows whose parent is missing; "
                        "it was left as it was."
                    )

    def check_version(self) -> None:
        """Refuse a database that this version cannot work on.

        Raises:
            NewerDataError: The tables were made by a newer version.
            ConfigurationError: The tables are older, or missing.
        """
        config = _alembic_config(self._migrations)
        with _told_apart(), self._engine.connect() as connection:
            self._refuse_newer(connection, config)
            if _revision(connection) != ScriptDirectory.from_config(config).get_current_head():
                raise ConfigurationError(
                    "The database has not been brought up to this version yet."
                )

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _refuse_newer(self, connection: Connection, config: Config) -> None:
        revision = _revision(connection)
        if revision is None:
            return
        try:
            ScriptDirectory.from_config(config).get_revision(revision)
        except CommandError as error:
            raise NewerDataError(
                f"This data was written by a newer version of the program (revision {revision}). "
                "Install that version again; nothing was changed."
            ) from error

    @contextmanager
    def _turn(self, deadline: float) -> Iterator[None]:
        """Wait for this process's other writers, until `deadline` of the monotonic clock."""
        if self._write_lock is None:
            yield
            return
        if not self._write_lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TransientError("The database is busy: other work has not finished writing yet.")
        try:
            yield
        finally:
            self._write_lock.release()

    @contextmanager
    def _migration_connection(self) -> Iterator[Connection]:
        """Give a connection whose one transaction holds the whole migration.

        Batch migrations of SQLite rebuild tables; with foreign keys on, dropping the old table would
        delete the children of its rows. The pragma does nothing inside a transaction, so it goes first.
        """
        deadline = time.monotonic() + _MIGRATION_SECONDS
        patient = self._engine.execution_options(**{_DEADLINE: deadline})
        with self._turn(deadline), patient.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            if self.is_sqlite:
                raw.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    if not self.is_sqlite:
                        # Processes that start together migrate one after another.
                        connection.exec_driver_sql(
                            f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"
                        )
                    yield connection
            finally:
                if self.is_sqlite:
                    raw.execute("PRAGMA foreign_keys=ON")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _create_engine(url: str, busy_seconds: float) -> Engine:
    try:
        parsed = make_url(url)
    except SQLAlchemyError as error:
        raise ConfigurationError(
            "The database's address cannot be read; it looks like 'sqlite:///shop.db' or "
            "'postgresql+psycopg://user@host/name'."
        ) from error
    if parsed.get_backend_name() == "sqlite":
        return _create_sqlite_engine(url, parsed.database, busy_seconds)
    if parsed.get_backend_name() != "postgresql":
        raise ConfigurationError(
            "The database is SQLite or PostgreSQL; other kinds are not supported."
        )
    try:
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=12,
            pool_timeout=busy_seconds,
            pool_pre_ping=True,
            hide_parameters=True,
            # A server that does not even refuse would be waited for some two minutes.
            connect_args={"connect_timeout": max(2, int(busy_seconds))},
        )
    except ImportError as error:
        raise ConfigurationError(
            "PostgreSQL needs its driver: pip install 'smi-desktop[postgres]'."
        ) from error


def _create_sqlite_engine(url: str, path: str | None, busy_seconds: float) -> Engine:
    if not path or path == ":memory:":
        raise ConfigurationError(
            "The SQLite database must be a file, so that every process sees it."
        )
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not Path(path).exists():
            # From birth readable by its owner alone; SQLite gives -wal and -shm the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigurationError(
            f"The database {path} cannot be made: {error.strerror}."
        ) from error
    engine = create_engine(
        url,
        connect_args={"timeout": busy_seconds, "check_same_thread": False},
        pool_size=12,
        pool_timeout=busy_seconds,
        # An error's words go to logs and to `last_error`; addresses and names must not.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _prepare(dbapi_connection: sqlite3.Connection, _record: object) -> None:
        # The driver would begin transactions by its own rules and leave DDL outside of them.
        dbapi_connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        deadline = connection.get_execution_options().get(_DEADLINE)
        if deadline is None:
            connection.exec_driver_sql("BEGIN")
            return
        # Some of the time may have gone by in the queue of this process's own writers.
        left = max(0, int((deadline - time.monotonic()) * 1000))
        connection.exec_driver_sql(f"PRAGMA busy_timeout={left}")
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            # The connection goes back to the pool, for readers too.
            connection.exec_driver_sql(f"PRAGMA busy_timeout={int(busy_seconds * 1000)}")

    return engine


@contextmanager
def _told_apart() -> Iterator[None]:
    """Turn "the database is away" into TransientError; a broken rule stays what it is."""
    try:
        yield
    except PoolTimeoutError as error:
        raise TransientError(
            "Too much is going on: no connection to the database is free."
        ) from error
    except DBAPIError as error:
        if _is_damaged(error):
            raise ConfigurationError(
                f"The database is damaged, or its file is something else ({error.orig}). "
                "Put a backup in its place; nothing was changed."
            ) from error
        if _is_away(error):
            raise TransientError(
                f"The database cannot be used at the moment: {error.orig}"
            ) from error
        raise


def _is_damaged(error: DBAPIError) -> bool:
    return _sqlite_code(error) in _SQLITE_DAMAGED


def _is_away(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        # Its OperationalError is also for missing tables and wrong words, which no waiting mends.
        return _sqlite_code(error) in _SQLITE_AWAY
    read_only = getattr(error.orig, "sqlstate", None) == _POSTGRES_READ_ONLY
    return isinstance(error, OperationalError) or read_only


def _sqlite_code(error: DBAPIError) -> int | None:
    """Return the primary code of SQLite's answer; the higher bits tell more than we need."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _alembic_config(migrations: Path) -> Config:
    config = Config()
    # The parser of such files takes a percent sign for its own.
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
