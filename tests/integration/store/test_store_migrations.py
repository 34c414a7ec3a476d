"""Migrations on both databases: from nothing, from old data, half way, backwards, and at once."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, event, inspect, text
from sqlalchemy.exc import IntegrityError

import smi_desktop.store
from smi_desktop.domain.errors import ConfigurationError, NewerDataError
from smi_desktop.domain.holds import HoldKind, remedies
from smi_desktop.store.database import Database
from smi_desktop.store.models import Base, Order, Refund, Task
from tests.integration.store import rows
from tests.integration.store.waiting import finish_together, start_child, wait_until

OWN = Path(smi_desktop.store.__file__).parent / "migrations"
HEAD = "0002"
NEXT, AFTER_NEXT = "0003", "0004"

# As the first release wrote rows.NOW down, on both databases.
WHEN = "2026-01-15 12:00:00.123456"

# PostgreSQL changes a column in place; SQLite cannot, so Alembic makes the table anew and drops the old one.
REBUILD_ORDERS = """
    with op.batch_alter_table("orders") as batch:
        batch.add_column(sa.Column("mood", sa.String(), nullable=True))
        batch.alter_column("title", existing_type=sa.String(), type_=sa.Text())
"""
ADD_NOTES = """
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("order_id", sa.String(64), sa.ForeignKey("orders.id", ondelete="CASCADE")),
    )
    op.execute("INSERT INTO notes (id, order_id) SELECT 1, id FROM orders")
"""
FAIL_HALF_WAY = """
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute("DELETE FROM clicks")
    with op.batch_alter_table("clicks") as batch:
        batch.add_column(sa.Column("mood", sa.String(), nullable=True))
    raise RuntimeError("the power went off")
"""
ORPHAN = """
    op.execute("DELETE FROM orders")
"""


def migrations(folder: Path, *steps: str) -> Path:
    """Make a folder of this version's migrations with further ones behind them."""
    shutil.copytree(OWN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for number, step in enumerate(steps, int(HEAD) + 1):
        head = dedent(
            f"""
            import sqlalchemy as sa
            from alembic import op

            revision = "{number:04}"
            down_revision = "{number - 1:04}"
            branch_labels = None
            depends_on = None


            def upgrade():
            """
        )
        (folder / "versions" / f"{number:04}_test.py").write_text(head.rstrip() + step)
    return folder


@contextmanager
def version(database: Database, folder: Path) -> Iterator[Database]:
    """Open the same data as another version of the program would."""
    url = database.engine.url.render_as_string(hide_password=False)
    other = Database(url, migrations=folder)
    yield other
    other.close()


def content(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.read() as session:
        return rows.dump(session)


def schema(database: Database) -> dict[str, list[str]]:
    """Return the columns of every table."""
    look = inspect(database.engine)
    return {
        name: sorted(column["name"] for column in look.get_columns(name))
        for name in look.get_table_names()
    }


def revision(database: Database) -> str | None:
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def fill(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.write() as session:
        rows.fill_every_table(session)
    return content(database)


@pytest.fixture
def empty_sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def empty_postgres(postgres_database: Database) -> str:
    with postgres_database.engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    return postgres_database.engine.url.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind in turn."""
    kind = "empty_sqlite" if request.param == "sqlite" else "empty_postgres"
    url: str = request.getfixturevalue(kind)
    return url


def test_the_migrations_make_exactly_the_tables_of_the_models(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []
    assert revision(database) == HEAD
    assert set(schema(database)) == {*Base.metadata.tables, "alembic_version"}
    database.check_version()


def test_migrating_again_changes_nothing(database: Database) -> None:
    before = fill(database)
    database.migrate()
    assert content(database) == before


def test_tables_that_are_missing_are_not_taken_for_this_version(empty_url: str) -> None:
    database = Database(empty_url)
    with pytest.raises(ConfigurationError):
        database.check_version()
    database.close()


def test_old_data_survives_the_rebuild_of_a_table_that_others_hang_on(
    database: Database, tmp_path: Path
) -> None:
    before = fill(database)
    folder = migrations(tmp_path / "migrations", ADD_NOTES, REBUILD_ORDERS)
    with version(database, folder) as newer:
        newer.migrate()
        assert revision(newer) == AFTER_NEXT
        assert "mood" in schema(newer)["orders"]
        with newer.read() as session:
            assert session.execute(text("SELECT id, order_id FROM notes")).all() == [(1, "order-1")]
            assert session.execute(text("SELECT title FROM orders")).scalar_one() == rows.TEXT
        assert content(newer) == before
        with newer.read() as session:
            session.add(rows.upscale("nobody"))
            with pytest.raises(IntegrityError):
                session.flush()


FIRST_RELEASE: dict[str, dict[str, Any]] = {
    "orders": {
        "status": "completed", "payment_status": "paid", "livemode": 0, "created_at": WHEN,
        "updated_at": WHEN, "attachment_id": 1, "title": rows.TEXT, "source_key": "s",
        "source_sha256": "a", "source_format": "png", "source_width": 400, "source_height": 300,
        "resolution": "4x", "factor": 4, "output_width": 1600, "output_height": 1200,
        "upscaler_route": "upsampler", "amount_minor": 1200, "currency": "usd", "credits": 4,
        "cost_micro_usd": 160_000, "price_rule": "{}", "checkout_expires_at": WHEN,
        "paid_minor": 1200, "paid_currency": "usd",
    },
    "upscales": {
        "order_id": "held", "attempt": 1, "provider": "upsampler", "state": "running",
        "callback_sha256": "c", "created_at": WHEN, "deadline_at": WHEN, "polls": 2,
    },
    "refunds": {
        "order_id": "held", "cause": "requested", "amount_minor": 1200, "currency": "usd",
        "state": "succeeded", "created_at": WHEN, "updated_at": WHEN,
    },
    "tasks": {
        "kind": "send_mail", "key": "mail:1", "payload": "{}", "state": "ready", "run_at": WHEN,
        "attempts": 3, "failures": 2, "created_at": WHEN,
    },
    "timeline": {
        "order_id": "held", "at": WHEN, "kind": "held", "actor": "system", "text": rows.TEXT,
        "facts": "{}",
    },
}  # fmt: skip


def write_as_the_first_release(connection: Connection) -> None:
    """Write rows as the first release did: an order that is held with all that hangs on it, and one that is not."""

    def insert(table: str, **more: Any) -> None:
        values = {**FIRST_RELEASE[table], **more}
        if connection.dialect.name == "postgresql":
            values = {
                name: f"{WHEN}+00:00" if value == WHEN else value for name, value in values.items()
            }
            values.update({"livemode": False} if "livemode" in values else {})
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)

    insert("orders", id="held", number="SMI-1", held_at=WHEN, held_reason="A person looks.")
    insert("orders", id="free", number="SMI-2")
    for table in ("upscales", "refunds", "tasks", "timeline"):
        insert(table)


def test_what_the_first_release_wrote_can_be_worked_on(empty_url: str, tmp_path: Path) -> None:
    old = shutil.copytree(OWN, tmp_path / "old", ignore=shutil.ignore_patterns("__pycache__"))
    (old / "versions" / "0002_refunds_holds_alerts.py").unlink()
    database = Database(empty_url)
    with version(database, old) as first_release:
        first_release.migrate()
        with first_release.engine.begin() as connection:
            write_as_the_first_release(connection)
    with pytest.raises(ConfigurationError):
        database.check_version()
    database.migrate()
    database.check_version()
    with database.read() as session:
        held, free = session.get_one(Order, "held"), session.get_one(Order, "free")
        counts = {name: len(found) for name, found in rows.dump(session).items() if found}
        task, refund = session.query(Task).one(), session.query(Refund).one()
    # Whoever held it did not say why in a word, so everything may be done about it.
    assert (held.held_kind, held.held_reason) == ("given_up", "A person looks.")
    assert remedies(held.held_kind) == remedies(HoldKind.GIVEN_UP) != ()
    assert (free.held_kind, free.held_at) == (None, None)
    for order in (held, free):
        assert (order.title, order.paid_minor, order.created_at) == (rows.TEXT, 1200, rows.NOW)
        assert (order.refunded_minor, order.renewals, order.capture_when_ready) == (0, 0, False)
        assert (order.authorized_at, order.fee_minor, order.failure_reason) == (None, None, None)
    assert (task.failures, task.deaths, refund.failure_reason) == (2, 0, None)
    assert counts == {"orders": 2, "upscales": 1, "refunds": 1, "tasks": 1, "timeline": 1}
    with database.write() as session:
        session.add(rows.upscale("nobody"))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
    database.close()


def test_control_with_foreign_keys_left_on_the_rebuild_deletes_the_children(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """Shows the trap that the test above would fall into: nothing complains, the rows are gone."""
    with sqlite_database.write() as session:
        session.add(rows.order())
    engine = create_engine(sqlite_database.engine.url)

    @event.listens_for(engine, "connect")
    def _prepare(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None
        raw.execute("PRAGMA foreign_keys=ON")

    def upgrade(connection: Connection) -> int:
        config = Config()
        folder = migrations(tmp_path / "migrations", ADD_NOTES, REBUILD_ORDERS)
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = connection
        command.upgrade(config, NEXT)
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar_one() == 1
        command.upgrade(config, AFTER_NEXT)
        left: int = connection.execute(text("SELECT count(*) FROM notes")).scalar_one()
        return left

    with engine.begin() as connection:
        assert upgrade(connection) == 0
    engine.dispose()


def test_a_migration_that_fails_half_way_leaves_everything_as_it_was(
    database: Database, tmp_path: Path
) -> None:
    data, tables = fill(database), schema(database)
    folder = migrations(tmp_path / "migrations", REBUILD_ORDERS, FAIL_HALF_WAY)
    with version(database, folder) as newer, pytest.raises(RuntimeError, match="power"):
        newer.migrate()
    assert (content(database), schema(database), revision(database)) == (data, tables, HEAD)
    database.check_version()


def test_a_migration_that_would_orphan_rows_is_undone(database: Database, tmp_path: Path) -> None:
    data = fill(database)
    folder = migrations(tmp_path / "migrations", ORPHAN)
    with (
        version(database, folder) as newer,
        pytest.raises((ConfigurationError, IntegrityError)),
    ):
        newer.migrate()
    assert content(database) == data
    assert revision(database) == HEAD


def test_data_of_a_newer_version_is_refused_and_not_touched(
    database: Database, tmp_path: Path
) -> None:
    fill(database)
    with version(database, migrations(tmp_path / "migrations", REBUILD_ORDERS)) as newer:
        newer.migrate()
        data, tables = content(newer), schema(newer)
    for step in (database.migrate, database.check_version):
        with pytest.raises(NewerDataError, match=NEXT):
            step()
    assert (content(database), schema(database), revision(database)) == (data, tables, NEXT)


def test_not_a_byte_of_a_newer_files_changes(sqlite_database: Database, tmp_path: Path) -> None:
    folder = migrations(tmp_path / "migrations", REBUILD_ORDERS)
    with version(sqlite_database, folder) as newer:
        newer.migrate()
    sqlite_database.close()
    before = (tmp_path / "shop.db").read_bytes()
    with pytest.raises(NewerDataError):
        sqlite_database.migrate()
    sqlite_database.close()
    assert (tmp_path / "shop.db").read_bytes() == before


def test_two_processes_may_migrate_at_once(empty_url: str) -> None:
    children = [start_child("store.store_child", "migrate", empty_url) for _ in range(2)]
    finish_together(children)
    database = Database(empty_url)
    database.check_version()
    assert fill(database)["orders"]
    database.close()


def test_many_threads_may_open_a_new_shop_at_once(empty_sqlite: str) -> None:
    """Each with a pool of its own, as processes have: also the change to WAL happens at once."""
    failures: list[Exception] = []
    begin = threading.Barrier(8)

    def open_new() -> None:
        database = Database(empty_sqlite)
        begin.wait()
        try:
            with database.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA user_version")
        except Exception as error:
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=open_new) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_who_starts_while_another_migrates_waits_for_it(empty_sqlite: str, tmp_path: Path) -> None:
    """A migration of a large shop takes longer than a unit of work may wait."""
    database = Database(empty_sqlite, busy_seconds=0.2)
    other = sqlite3.connect(tmp_path / "empty.db", isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=database.migrate)
    thread.start()
    # Five times the busy time: whoever gives up has given up by then.
    thread.join(1.0)
    assert thread.is_alive()
    other.rollback()
    other.close()
    thread.join()
    assert wait_until(lambda: revision(database) == HEAD)
    database.close()


def test_a_folder_with_a_percent_sign_in_its_name_is_no_problem(tmp_path: Path) -> None:
    folder = migrations(tmp_path / "100% %(here)s")
    database = Database(f"sqlite:///{tmp_path / 'percent.db'}", migrations=folder)
    database.migrate()
    assert revision(database) == HEAD
    database.close()
