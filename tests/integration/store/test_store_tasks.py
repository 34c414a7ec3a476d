"""Tasks on both databases: each is done once, a lease is worth what it says, and open work is found fast."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.orm import Session

from smi_desktop.store import tasks
from smi_desktop.store.database import Database
from smi_desktop.store.models import Task
from tests.integration.store.rows import NOW
from tests.integration.store.store_child import claim_all
from tests.integration.store.waiting import finish_together, start_child

KINDS = ("send_mail",)
LEASE = timedelta(seconds=60)
SECOND = timedelta(seconds=1)


def add(database: Database, *keys: str, **how: Any) -> None:
    with database.write() as session:
        for key in keys:
            tasks.add_once(session, "send_mail", key, now=NOW, **how)


def claim(database: Database, *, owner: str = "one", **how: Any) -> tasks.Claim | None:
    how = {"now": NOW, "lease": LEASE, **how}
    with database.write() as session:
        return tasks.claim(session, KINDS, owner=owner, **how)


def claimed(database: Database, **how: Any) -> tasks.Claim:
    task = claim(database, **how)
    assert task is not None
    return task


def row(database: Database, key: str = "a") -> Task:
    with database.read() as session:
        return session.scalars(select(Task).where(Task.key == key)).one()


def settle(database: Database, how: Callable[..., None], task: tasks.Claim, **what: Any) -> None:
    with database.write() as session:
        how(session, task, **what)


def test_work_is_asked_for_once_for_each_key(database: Database) -> None:
    with database.write() as session:
        assert tasks.add_once(session, "send_mail", "a", now=NOW, payload={"mail_id": 1})
        assert not tasks.add_once(session, "send_mail", "a", now=NOW, payload={"mail_id": 2})
    settle(database, tasks.finish, claimed(database), now=NOW)
    with database.write() as session:
        assert not tasks.add_once(session, "send_mail", "a", now=NOW)
    assert row(database).payload == {"mail_id": 1}
    assert claim(database) is None


def test_a_claim_tells_everything_about_its_task(database: Database) -> None:
    add(database, "a", order_id="order-1", payload={"mail_id": 7})
    settle(database, tasks.postpone, claimed(database), run_at=NOW, error="away")
    task = claimed(database, owner="two")
    assert task == tasks.Claim(
        id=row(database).id,
        kind="send_mail",
        key="a",
        order_id="order-1",
        payload={"mail_id": 7},
        attempts=2,
        failures=1,
        owner="two",
    )
    found = row(database)
    assert (found.state, found.lease_owner, found.lease_until) == ("leased", "two", NOW + LEASE)


def test_what_has_been_due_the_longest_comes_first_and_the_future_does_not(
    database: Database,
) -> None:
    add(database, "later", run_at=NOW + SECOND)
    add(database, "now", run_at=NOW)
    add(database, "overdue", run_at=NOW - SECOND)
    add(database, "now too", run_at=NOW)
    assert [claimed(database).key for _ in range(3)] == ["overdue", "now", "now too"]
    assert claim(database) is None
    assert claimed(database, now=NOW + SECOND).key == "later"


def test_kinds_that_nobody_asks_for_are_left_alone(database: Database) -> None:
    with database.write() as session:
        tasks.add_once(session, "print_poster", "a", now=NOW)
        assert not tasks.is_due(session, KINDS, NOW)
        assert tasks.is_due(session, ["print_poster"], NOW)
    assert claim(database) is None
    assert (row(database).state, row(database).attempts) == ("ready", 0)


def test_a_lease_holds_until_its_end_and_not_longer(database: Database) -> None:
    add(database, "a")
    first = claimed(database)
    for moment in (NOW, NOW + LEASE):
        assert claim(database, owner="two", now=moment) is None
    after = NOW + LEASE + timedelta(microseconds=1)
    with database.read() as session:
        assert tasks.is_due(session, KINDS, after)
    second = claimed(database, owner="two", now=after)
    assert (second.id, second.attempts) == (first.id, 2)


def test_a_renewed_lease_holds_longer_and_only_its_holder_renews(database: Database) -> None:
    add(database, "a", "b")
    first, other = claimed(database), claimed(database, owner="two")
    until = NOW + 3 * LEASE
    with database.write() as session:
        tasks.renew(session, [first.id, other.id], owner="one", until=until)
        tasks.renew(session, [], owner="one", until=until)
    assert claimed(database, owner="three", now=NOW + 2 * LEASE).key == "b"
    assert claim(database, owner="three", now=NOW + 2 * LEASE) is None
    settle(database, tasks.finish, first, now=NOW)
    with database.write() as session:
        tasks.renew(session, [first.id], owner="one", until=until)
    assert row(database).lease_until is None


@pytest.mark.parametrize("how", ["finish", "postpone", "bury"])
def test_who_lost_the_lease_records_nothing(sqlite_database: Database, how: str) -> None:
    add(sqlite_database, "a")
    lost = claimed(sqlite_database)
    holder = claimed(sqlite_database, owner="two", now=NOW + 2 * LEASE)
    settle_as: dict[str, Callable[[Session, tasks.Claim], None]] = {
        "finish": lambda session, task: tasks.finish(session, task, now=NOW),
        "postpone": lambda session, task: tasks.postpone(session, task, run_at=NOW, error="x"),
        "bury": lambda session, task: tasks.bury(session, task, error="x", now=NOW),
    }

    def settle_and_record() -> None:
        with sqlite_database.write() as session:
            tasks.add_once(session, "send_mail", "b", now=NOW)
            settle_as[how](session, lost)

    with pytest.raises(tasks.LeaseLostError):
        settle_and_record()
    found = row(sqlite_database)
    assert (found.state, found.lease_owner, found.failures) == ("leased", "two", 0)
    with sqlite_database.read() as session:
        assert [task.key for task in tasks.list_page(session)] == ["a"]
    settle(sqlite_database, tasks.finish, holder, now=NOW)
    assert row(sqlite_database).state == "done"


def test_settling_twice_is_refused(database: Database) -> None:
    add(database, "a")
    task = claimed(database)
    settle(database, tasks.finish, task, now=NOW)
    with pytest.raises(tasks.LeaseLostError):
        settle(database, tasks.finish, task, now=NOW)
    with pytest.raises(tasks.LeaseLostError):
        settle(database, tasks.postpone, task, run_at=NOW)
    assert row(database).state == "done"


def test_each_way_to_settle_leaves_its_mark(database: Database) -> None:
    add(database, "a")
    settle(database, tasks.postpone, claimed(database), run_at=NOW + SECOND)
    found = row(database)
    assert (found.state, found.run_at, found.failures) == ("ready", NOW + SECOND, 0)
    task = claimed(database, now=NOW + SECOND)
    settle(database, tasks.postpone, task, run_at=NOW, error="away")
    assert (row(database).failures, row(database).last_error) == (1, "away")
    settle(database, tasks.bury, claimed(database), error="given up", now=NOW)
    found = row(database)
    assert (found.state, found.failures, found.last_error) == ("dead", 2, "given up")
    assert (found.lease_owner, found.lease_until, found.finished_at) == (None, None, NOW)
    assert claim(database, now=NOW + 100 * LEASE) is None
    with database.read() as session:
        assert tasks.count_by_state(session) == {"dead": 1}


def test_the_work_of_the_dead_is_given_back_at_once_and_nobody_elses(database: Database) -> None:
    add(database, "a", "b", "c", "done")
    for owner in ("engine-1", "engine-1", "engine-2"):
        claimed(database, owner=owner)
    settle(database, tasks.finish, claimed(database, owner="engine-1"), now=NOW)
    with database.write() as session:
        assert tasks.release_owner(session, "engine-1", NOW + SECOND) == 2
        assert tasks.release_owner(session, "engine-1", NOW + SECOND) == 0
        # A name is not a pattern.
        assert tasks.release_owner(session, "%", NOW) == 0
        assert tasks.release_owner(session, "engine_2", NOW) == 0
    keys = [claimed(database, owner="three", now=NOW + SECOND).key for _ in range(2)]
    assert keys == ["a", "b"]
    assert claim(database, owner="three", now=NOW + SECOND) is None
    assert row(database, "c").lease_owner == "engine-2"


def test_a_waiting_task_is_woken_and_a_working_one_is_not_disturbed(database: Database) -> None:
    add(database, "waiting", run_at=NOW + LEASE)
    add(database, "working", run_at=NOW)
    claimed(database)
    before = row(database, "working").lease_until
    with database.write() as session:
        for key in ("waiting", "working", "unknown"):
            tasks.wake(session, key, NOW + SECOND)
    assert row(database, "waiting").run_at == NOW + SECOND
    assert row(database, "working").lease_until == before
    assert claimed(database, now=NOW + SECOND).key == "waiting"


def test_what_an_engine_works_on_is_not_claimed_by_itself_again(database: Database) -> None:
    """After a sleep of the machine its leases look ended to itself too."""
    add(database, "a")
    task = claimed(database)
    after_sleep = NOW + timedelta(hours=8)
    with database.read() as session:
        assert not tasks.is_due(session, KINDS, after_sleep, [task.id])
        assert tasks.is_due(session, KINDS, after_sleep)
    assert claim(database, now=after_sleep, held=[task.id]) is None
    assert claimed(database, owner="two", now=after_sleep).key == "a"


def test_tasks_are_listed_newest_first_by_state_and_order(database: Database) -> None:
    add(database, "a", order_id="order-1")
    add(database, "b", order_id="order-2")
    add(database, "c", order_id="order-1")
    settle(database, tasks.finish, claimed(database), now=NOW)
    with database.read() as session:
        assert [t.key for t in tasks.list_page(session)] == ["c", "b", "a"]
        assert [t.key for t in tasks.list_page(session, state="ready", limit=1)] == ["c"]
        assert [t.key for t in tasks.list_page(session, order_id="order-1")] == ["c", "a"]
        assert tasks.list_page(session, state="done", order_id="order-2") == []


def test_threads_and_processes_take_each_task_exactly_once(database: Database) -> None:
    keys = {f"task-{number}" for number in range(300)}
    add(database, *keys)
    url = database.engine.url.render_as_string(hide_password=False)
    children = [start_child("store.store_child", "claim", url, f"p{n}") for n in range(2)]
    taken: list[str] = []
    begin = threading.Event()

    def work(owner: str) -> None:
        begin.wait()
        taken.extend(claim_all(database, owner))

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    said = finish_together(children, begin)
    for thread in threads:
        thread.join()
    counts = Counter([*taken, *(key for words in said for key in words.split())])
    assert set(counts) == keys
    assert set(counts.values()) == {1}
    with database.read() as session:
        assert tasks.count_by_state(session) == {"done": 300}


def test_control_looking_and_taking_apart_does_some_tasks_twice(database: Database) -> None:
    """Shows that the test above can fail: check-then-update in two transactions."""
    add(database, *(f"task-{number}" for number in range(50)))
    taken: list[int] = []
    both_have_looked = threading.Barrier(2)

    def work() -> None:
        for _ in range(25):
            with database.read() as session:
                found = session.scalars(
                    select(Task.id).where(Task.state == "ready").order_by(Task.id).limit(1)
                ).first()
            both_have_looked.wait()
            if found is not None:
                with database.write() as session:
                    session.execute(update(Task).where(Task.id == found).values(state="leased"))
                taken.append(found)
            both_have_looked.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) > len(set(taken))


def test_open_work_is_found_by_its_index_behind_any_number_of_orders(database: Database) -> None:
    done = [
        {
            "kind": "send_mail", "key": f"done-{number}", "payload": {}, "state": "done",
            "run_at": NOW, "created_at": NOW,
        }
        for number in range(5000)
    ]  # fmt: skip
    with database.write() as session:
        session.execute(insert(Task), done)
    add(database, "a")
    with database.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE tasks")
        connection.commit()
    asked: list[tuple[str, Any]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def _remember(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if "tasks" in statement:
            asked.append((statement, parameters))

    with database.read() as session:
        assert tasks.is_due(session, KINDS, NOW)
    assert claimed(database).key == "a"
    event.remove(database.engine, "before_cursor_execute", _remember)
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    assert len(asked) == 2
    for statement, parameters in asked:
        with database.engine.connect() as connection:
            if not database.is_sqlite:
                # What a statement that is prepared gets after its first runs.
                connection.execute(text("SET plan_cache_mode = force_generic_plan"))
            plan = connection.exec_driver_sql(explain + statement, parameters).all()
        assert "ix_tasks_open" in str(plan), plan
