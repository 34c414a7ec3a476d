"""PostgreSQL: waiting ends, and a server that is away is told apart from a bug of ours."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from smi_desktop.domain.errors import TransientError
from smi_desktop.store import clicks, orders
from smi_desktop.store.database import Database
from tests.integration.store import rows
from tests.integration.store.rows import NOW


@pytest.fixture
def impatient(postgres_database: Database) -> Iterator[Database]:
    """The same database, waiting for others for three tenths of a second."""
    url = postgres_database.engine.url.render_as_string(hide_password=False)
    database = Database(url, busy_seconds=0.3)
    yield database
    database.close()


def lock_order(database: Database, order_id: str) -> None:
    with database.write() as session:
        orders.get_locked(session, order_id)


def test_a_row_that_another_holds_is_waited_for_within_the_busy_time(
    postgres_database: Database, impatient: Database
) -> None:
    with postgres_database.write() as session:
        session.add(rows.order())
    with postgres_database.write() as session:
        orders.get_locked(session, "order-1")
        began = time.monotonic()
        with pytest.raises(TransientError):
            lock_order(impatient, "order-1")
        assert time.monotonic() - began < 1.5
    lock_order(impatient, "order-1")


def test_two_units_of_work_that_wait_for_each_other_are_transient(
    postgres_database: Database,
) -> None:
    """PostgreSQL ends one of them; it may simply be done again, so it is no bug of ours."""
    with postgres_database.write() as session:
        session.add_all([rows.order("order-1"), rows.order("order-2")])
    both_hold_one = threading.Barrier(2)
    outcomes: list[str] = []

    def work(first: str, second: str) -> None:
        try:
            with postgres_database.write() as session:
                orders.get_locked(session, first)
                both_hold_one.wait()
                orders.get_locked(session, second)
            outcomes.append("done")
        except Exception as error:
            outcomes.append(type(error).__name__)

    threads = [
        threading.Thread(target=work, args=words)
        for words in (("order-1", "order-2"), ("order-2", "order-1"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["TransientError", "done"]


def test_a_server_that_takes_no_writes_is_transient(postgres_database: Database) -> None:
    def write() -> None:
        with postgres_database.write() as session:
            session.execute(text("SET TRANSACTION READ ONLY"))
            clicks.add(session, at=NOW, attachment_id=1, post_id=None, bot=False)

    with pytest.raises(TransientError):
        write()


def test_connections_that_the_server_has_cut_are_made_anew(
    postgres_database: Database, impatient: Database
) -> None:
    with impatient.read() as session:
        assert clicks.count(session) == 0
    cut = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with postgres_database.read() as session:
        assert session.execute(cut).all()
    with impatient.write() as session:
        clicks.add(session, at=NOW, attachment_id=1, post_id=None, bot=False)
    with impatient.read() as session:
        assert clicks.count(session) == 1


def test_a_connection_cut_in_the_middle_of_a_unit_of_work_is_transient(
    postgres_database: Database, impatient: Database
) -> None:
    def be_cut() -> None:
        with impatient.write() as session:
            clicks.add(session, at=NOW, attachment_id=1, post_id=None, bot=False)
            session.flush()
            pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with postgres_database.read() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    with pytest.raises(TransientError):
        be_cut()
    with postgres_database.read() as session:
        assert clicks.count(session) == 0


def test_a_server_that_is_not_there_is_transient() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        database = Database(f"postgresql://shop@127.0.0.1:{reserved.getsockname()[1]}/shop")
        with pytest.raises(TransientError):
            database.migrate()
        database.close()


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        port = silent.getsockname()[1]
        database = Database(f"postgresql://shop@127.0.0.1:{port}/shop", busy_seconds=0.3)
        began = time.monotonic()
        with pytest.raises(TransientError):
            database.migrate()
        # The driver rounds every time limit up to two seconds.
        assert time.monotonic() - began < 6
        database.close()


def test_a_bug_of_ours_is_not_taken_for_a_server_that_is_away(
    postgres_database: Database,
) -> None:
    with postgres_database.read() as session, pytest.raises(ProgrammingError):
        session.execute(text("SELECT * FROM missing"))
