"""The real engine, with its threads and its scheduler, over a whole shop."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text

from smi_desktop.config import UpscalerChoice
from smi_desktop.engine.engine import Engine, Pace
from smi_desktop.services.ports import OutgoingMail
from smi_desktop.services.work import TaskKind
from smi_desktop.store import settings as settings_rows
from smi_desktop.store import tasks
from smi_desktop.store.database import Database
from smi_desktop.store.models import Task
from tests.fakes.mailer import FakeMailer
from tests.integration.engine.parts import GatedMailer, GatedUpscaler
from tests.integration.store.waiting import start_child, wait_until
from tests.world import LEASE, World

QUICK = Pace(look=0.02, renew=0.05, beat=0.05)


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    return tmp_path / "engines"


@pytest.fixture
def gated(tmp_path: Path, sqlite_database: Database) -> Iterator[World]:
    """A shop that makes its pictures itself, behind a gate that is opened at the end at the latest."""
    upscaler, mailer = GatedUpscaler(), GatedMailer()
    mailer.gate.open.set()
    world = World(tmp_path, sqlite_database, local_upscaler=upscaler, mailer=mailer)
    world.set(upscaler=UpscalerChoice.EMBEDDED)
    yield world
    upscaler.gate.open.set()
    mailer.gate.open.set()


def gate_of(world: World) -> GatedUpscaler:
    assert isinstance(world.local_upscaler, GatedUpscaler)
    return world.local_upscaler


def mail_gate_of(world: World) -> GatedMailer:
    assert isinstance(world.mailer, GatedMailer)
    return world.mailer


def status(world: World, order_id: str) -> str:
    return world.order(order_id).status


def is_done(world: World) -> bool:
    return all(task.state == "done" for task in world.tasks())


def upscale_task(world: World) -> Task:
    with world.database.read() as session:
        return session.scalars(select(Task).where(Task.kind == TaskKind.UPSCALE_HERE)).one()


def test_a_paid_order_is_finished_without_anybody(world: World, engines: Path) -> None:
    order_id = world.buy(email="jo@example.com")
    with Engine(world.shop, engines, pace=QUICK):
        assert wait_until(lambda: bool(world.upscaler.jobs))
        world.finish_upscale(order_id)
        world.clock.advance(31)
        assert wait_until(lambda: len(world.mailer.outbox) == 1)
        assert wait_until(lambda: is_done(world))
    assert status(world, order_id) == "completed"
    assert world.mailer.outbox[0].to_address == "jo@example.com"
    assert {task.attempts for task in world.tasks()} == {1}
    assert list(engines.iterdir()) == []


def test_stopping_waits_for_what_is_under_way_and_leaves_the_rest(
    gated: World, engines: Path
) -> None:
    order_id = gated.buy()
    engine = Engine(gated.shop, engines, pace=QUICK)
    engine.start()
    assert gate_of(gated).gate.begun.wait(20)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    stopping.join(0.2)
    assert stopping.is_alive()
    # What comes in now is for the next engine.
    late = gated.buy()
    gate_of(gated).gate.open.set()
    stopping.join()
    assert status(gated, order_id) == "completed"
    assert gated.mailer.outbox == []
    assert status(gated, late) == "awaiting_payment"
    assert {task.kind for task in gated.tasks("ready")} == {"apply_event", "send_mail"}
    assert gated.tasks("leased") == []


def test_work_under_way_keeps_its_lease_while_the_engine_stops(gated: World, engines: Path) -> None:
    """Enlarging takes minutes: without renewal another engine would begin the same work."""
    gated.buy()
    engine = Engine(gated.shop, engines, pace=QUICK)
    engine.start()
    assert gate_of(gated).gate.begun.wait(20)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    stopping.join(0.3)
    now = gated.clock.advance(50)
    kept = wait_until(lambda: upscale_task(gated).lease_until == now + LEASE, seconds=2)
    gate_of(gated).gate.open.set()
    stopping.join()
    assert kept


def test_a_long_piece_of_work_keeps_its_lease_beside_another_engine(
    gated: World, engines: Path
) -> None:
    order_id = gated.buy()
    with Engine(gated.shop, engines, pace=QUICK):
        assert gate_of(gated).gate.begun.wait(20)
        with Engine(gated.shop, engines, pace=QUICK):
            for _ in range(4):
                until = gated.clock.advance(40) + LEASE
                assert wait_until(lambda until=until: upscale_task(gated).lease_until == until)
            gate_of(gated).gate.open.set()
            assert wait_until(lambda: len(gated.mailer.outbox) == 1)
    assert status(gated, order_id) == "completed"
    assert gate_of(gated).calls == ["upscale"]
    assert upscale_task(gated).attempts == 1


def test_two_engines_do_each_piece_of_work_once(world: World, engines: Path) -> None:
    world.set(upscaler=UpscalerChoice.EMBEDDED)
    bought = [world.buy(email=f"jo{number}@example.com") for number in range(12)]
    with Engine(world.shop, engines, pace=QUICK), Engine(world.shop, engines, pace=QUICK):
        assert wait_until(lambda: len(world.mailer.outbox) >= 12 and is_done(world))
    assert {status(world, order_id) for order_id in bought} == {"completed"}
    assert sorted(mail.to_address for mail in world.mailer.outbox) == sorted(
        f"jo{number}@example.com" for number in range(12)
    )
    assert world.local_upscaler.calls == ["upscale"] * 12
    assert {(task.attempts, task.failures) for task in world.tasks()} == {(1, 0)}


def test_pictures_are_made_one_at_a_time_and_nothing_else_waits_for_them(
    gated: World, engines: Path
) -> None:
    first, *others = [gated.buy() for _ in range(4)]
    with Engine(gated.shop, engines, pace=QUICK):
        assert gate_of(gated).gate.begun.wait(20)
        late = gated.buy()
        assert wait_until(lambda: status(gated, late) == "pending")
        gate_of(gated).gate.open.set()
        assert wait_until(lambda: len(gated.mailer.outbox) == 5)
    assert {status(gated, order_id) for order_id in (first, *others, late)} == {"completed"}
    assert gate_of(gated).gate.most == 1


def test_mails_go_out_side_by_side(gated: World, engines: Path) -> None:
    """One mail server that hangs for ten minutes must not keep every customer waiting."""
    gate_of(gated).gate.open.set()
    mail_gate_of(gated).gate.open.clear()
    for _ in range(3):
        gated.buy()
    with Engine(gated.shop, engines, pace=QUICK):
        assert wait_until(lambda: mail_gate_of(gated).gate.most == 3)
        mail_gate_of(gated).gate.open.set()
        assert wait_until(lambda: len(gated.mailer.outbox) == 3)


def test_after_a_sleep_of_the_machine_an_engine_does_not_take_its_own_work_twice(
    gated: World, engines: Path
) -> None:
    gate_of(gated).gate.open.set()
    mail_gate_of(gated).gate.open.clear()
    gated.buy()
    # It cannot have renewed while the machine slept.
    with Engine(gated.shop, engines, pace=Pace(look=0.02, renew=3600, beat=3600)):
        assert mail_gate_of(gated).gate.begun.wait(20)
        gated.clock.advance(8 * 3600)
        late = gated.buy()
        assert wait_until(lambda: status(gated, late) != "awaiting_payment")
        mail_gate_of(gated).gate.open.set()
        assert wait_until(lambda: len(gated.mailer.outbox) == 2 and is_done(gated))
    assert len({mail.message_id for mail in gated.mailer.outbox}) == 2
    assert {task.attempts for task in gated.tasks() if task.kind == "send_mail"} == {1}


def test_a_killed_engine_is_noticed_and_its_work_is_done_at_once(
    world: World, engines: Path
) -> None:
    """The clock stands still: nobody waits for the lease to end."""
    world.set(upscaler=UpscalerChoice.EMBEDDED)
    world.buy()
    world.run_due(set(TaskKind) - {TaskKind.SEND_MAIL})
    url = world.database.engine.url.render_as_string(hide_password=False)
    child = start_child("engine.engine_child", "hang", str(world.folder), url)
    assert child.stdout is not None
    assert child.stdout.readline() == "working\n"
    with Engine(world.shop, engines, pace=QUICK):
        moment = world.clock.advance(1)
        assert wait_until(lambda: beats(world)["engine"] == moment)
        # Alive, it keeps its work.
        assert [task.attempts for task in world.tasks("leased")] == [1]
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert wait_until(lambda: len(world.mailer.outbox) == 1)
        assert wait_until(lambda: is_done(world))
    assert world.tasks()[0].attempts == 2
    assert list(engines.iterdir()) == []


def test_an_engine_that_starts_takes_over_from_one_that_died_before(
    world: World, engines: Path
) -> None:
    lease_to_a_dead_engine(world, engines)
    with Engine(world.shop, engines, pace=Pace(look=0.02, renew=3600, beat=3600)):
        assert wait_until(lambda: is_done(world) or bool(world.upscaler.jobs))
    assert world.tasks("leased") == []


def test_the_dead_are_not_forgotten_while_the_database_is_away(
    tmp_path: Path, engines: Path
) -> None:
    """Whoever is forgotten before his work is given back leaves it to the end of the lease."""
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}", busy_seconds=0.1)
    database.migrate()
    world = World(tmp_path, database)
    lease_to_a_dead_engine(world, engines)
    other = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Engine(world.shop, engines, pace=QUICK):
        other.rollback()
        other.close()
        assert wait_until(lambda: bool(world.upscaler.jobs))
    database.close()


def test_an_error_in_a_loop_does_not_end_it(world: World, engines: Path) -> None:
    with Engine(world.shop, engines, pace=QUICK):
        assert wait_until(lambda: bool(beats(world)))
        world.clock.advance(100)
        with world.database.write() as session:
            session.execute(text("ALTER TABLE heartbeats RENAME TO elsewhere"))
        # A round of the other loops goes by meanwhile.
        order_id = world.buy()
        assert wait_until(lambda: status(world, order_id) == "processing")
        with world.database.write() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO heartbeats"))
        moment = world.clock.advance(100)
        assert wait_until(lambda: beats(world)["engine"] == moment)


def test_an_engine_outlives_a_locked_database(tmp_path: Path, engines: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}", busy_seconds=0.1)
    database.migrate()
    world = World(tmp_path, database)
    order_id = world.buy()
    other = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Engine(world.shop, engines, pace=QUICK):
        assert not wait_until(lambda: status(world, order_id) != "awaiting_payment", seconds=0.5)
        other.rollback()
        other.close()
        assert wait_until(lambda: status(world, order_id) == "processing")
    database.close()


def test_an_engine_outlives_a_server_that_goes_away(
    tmp_path: Path, engines: Path, postgres_database: Database, postgres_url: str
) -> None:
    world = World(tmp_path, postgres_database)
    name = postgres_database.engine.url.database
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with Engine(world.shop, engines, pace=QUICK), server.connect() as admin:
        assert wait_until(lambda: bool(beats(world)))
        admin.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        admin.execute(text(cut), {"name": name})
        pause = threading.Event()
        pause.wait(0.5)
        admin.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        order_id = world.buy()
        assert wait_until(lambda: status(world, order_id) == "processing")
    server.dispose()


def test_a_result_that_could_not_be_recorded_at_once_is_recorded_later_not_made_again(
    tmp_path: Path, engines: Path
) -> None:
    """The mail server took the mail, then the database was locked: a second mail must not follow."""
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}", busy_seconds=0.1)
    database.migrate()
    other = sqlite3.connect(
        tmp_path / "shop.db", isolation_level=None, timeout=10, check_same_thread=False
    )

    class LockingMailer(FakeMailer):
        def send(self, mail: OutgoingMail) -> str:
            answer = super().send(mail)
            if len(self.outbox) == 1:
                other.execute("BEGIN IMMEDIATE")
                threading.Timer(0.6, other.rollback).start()
            return answer

    world = World(tmp_path, database, mailer=LockingMailer())
    world.set(upscaler=UpscalerChoice.EMBEDDED)
    world.buy()
    with Engine(world.shop, engines, pace=QUICK):
        assert wait_until(lambda: bool(world.mailer.outbox))
        assert wait_until(lambda: is_done(world), seconds=5) or world.clock.advance(120)
        assert wait_until(lambda: is_done(world))
    other.close()
    database.close()
    assert len(world.mailer.outbox) == 1


def test_a_loop_that_is_late_runs_once_and_is_not_dropped(world: World, tmp_path: Path) -> None:
    """The machine slept over a round. APScheduler's own default drops what is a second late."""
    seconds = 3.0
    url = world.database.engine.url.render_as_string(hide_password=False)
    child = start_child("engine.engine_child", "beat", str(tmp_path), url, str(seconds))
    assert child.stdout is not None
    assert child.stdout.readline() == "working\n"
    first = beats(world)
    os.kill(child.pid, signal.SIGSTOP)
    asleep = seconds + 1.3
    threading.Event().wait(asleep)
    os.kill(child.pid, signal.SIGCONT)
    woken = time.monotonic()
    ran = wait_until(lambda: beats(world)["engine"] > first["engine"], seconds=2 * seconds)
    late, control = time.monotonic() - woken, beats(world)["control"]
    child.kill()
    child.communicate()
    assert ran
    assert late < 2 * seconds - asleep
    assert control == first["control"]


def beats(world: World) -> dict[str, object]:
    with world.database.read() as session:
        return {name: beat.at for name, beat in settings_rows.heartbeats(session).items()}


def lease_to_a_dead_engine(world: World, engines: Path) -> None:
    """Leave what a killed engine leaves behind: an unlocked file and a lease."""
    engines.mkdir()
    (engines / "engine-dead.lock").touch()
    world.buy()
    with world.database.write() as session:
        claim = tasks.claim(
            session, list(TaskKind), owner="engine-dead", now=world.clock.now(), lease=LEASE
        )
    assert claim is not None
