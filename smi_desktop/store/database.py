"""Opening the database and running units of work on it.

This module alone decides how transactions begin and what durability means: SQLite runs with WAL,
`synchronous=FULL` and foreign keys on; writers begin with BEGIN IMMEDIATE behind one lock a process, which
keeps eight writing threads' p99 under half of what SQLite's own busy waiting gives.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from smi_desktop.domain.errors import ConfigurationError, NewerDataError, TransientError

# A webhook's sender waits some ten seconds for its answer; better a clear "later" before that.
BUSY_SECONDS: Final = 8
_WRITES: Final = "smi_writes"
_MIGRATION_LOCK: Final = 0x534D49


class Database:
    """A pool of connections to one shop's database; usable from many threads.

    Args:
        url: SQLAlchemy address; `sqlite:///path` or `postgresql+psycopg://…`.

    Raises:
        ConfigurationError: The address cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._engine = _create_engine(url)
        self._writing_engine = self._engine.execution_options(**{_WRITES: True})
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
            TransientError: The database is locked, full or away; nothing was written.
        """
        with (
            _told_apart(),
            self._write_lock or nullcontext(),
            Session(self._writing_engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            # Begin at once: work must be decided on what is read behind the lock.
            session.connection()
            yield session

    def migrate(self) -> None:
        """Bring the tables up to this version.

        Raises:
            NewerDataError: The tables were made by a newer version; nothing was changed.
        """
        config = _alembic_config()
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
        config = _alembic_config()
        with _told_apart(), self._engine.connect() as connection:
            self._refuse_newer(connection, config)
            revision = MigrationContext.configure(connection).get_current_revision()
            if revision != ScriptDirectory.from_config(config).get_current_head():
                raise ConfigurationError(
                    "The database has not been brought up to this version yet."
                )

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _refuse_newer(self, connection: Connection, config: Config) -> None:
        revision = MigrationContext.configure(connection).get_current_revision()
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
    def _migration_connection(self) -> Iterator[Connection]:
        """Give a connection whose one transaction holds the whole migration.

        Batch migrations of SQLite rebuild tables; with foreign keys on, dropping the old table would
        delete the children of its rows. The pragma does nothing inside a transaction, so it goes first.
        """
        with self._write_lock or nullcontext(), self._writing_engine.connect() as connection:
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


def _create_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except SQLAlchemyError as error:
        raise ConfigurationError(
            "The database's address cannot be read; it looks like 'sqlite:///shop.db' or "
            "'postgresql+psycopg://user@host/name'."
        ) from error
    if parsed.get_backend_name() == "sqlite":
        return _create_sqlite_engine(url, parsed.database)
    if parsed.get_backend_name() != "postgresql":
        raise ConfigurationError(
            "The database is SQLite or PostgreSQL; other kinds are not supported."
        )
    try:
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"), pool_size=12, pool_pre_ping=True
        )
    except ImportError as error:
        raise ConfigurationError(
            "PostgreSQL needs its driver: pip install 'smi-desktop[postgres]'."
        ) from error


def _create_sqlite_engine(url: str, path: str | None) -> Engine:
    if not path or path == ":memory:":
        raise ConfigurationError(
            "The SQLite database must be a file, so that every process sees it."
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not Path(path).exists():
        # From birth readable by its owner alone; SQLite gives -wal and -shm the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(
        url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, pool_size=12
    )

    @event.listens_for(engine, "connect")
    def _prepare(dbapi_connection: sqlite3.Connection, _record: object) -> None:
        # The driver would begin transactions by its own rules and leave DDL outside of them.
        dbapi_connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _told_apart() -> Iterator[None]:
    """Turn "the database is away" into TransientError; a broken rule stays what it is."""
    try:
        yield
    except DBAPIError as error:
        words = str(error.orig).lower()
        away = ("locked", "disk is full", "disk i/o", "readonly", "unable to open", "busy")
        if error.connection_invalidated or any(word in words for word in away):
            raise TransientError(
                f"The database cannot be written at the moment: {error.orig}"
            ) from error
        if error.orig is not None and type(error.orig).__name__ in {
            "OperationalError",
            "AdminShutdown",
        }:
            raise TransientError(f"The database is not reachable: {error.orig}") from error
        raise


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
