"""One `fulfil` for the webhook, the success page and the sweep: the same rows whatever comes, in any order."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smi_desktop.domain.errors import ProviderAccountError, TransientError
from smi_desktop.domain.money import Money
from smi_desktop.services.payments import ask_to_settle, fulfil, read_money
from smi_desktop.services.work import TaskKind
from smi_desktop.store import alerts, inbox, timeline
from smi_desktop.store.database import Database
from smi_desktop.store.models import InboxEntry, Order
from tests.world import World

COMPLETED = "checkout.session.completed"
SUCCEEDED = "checkout.session.async_payment_succeeded"
FAILED = "checkout.session.async_payment_failed"
EXPIRED = "checkout.session.expired"
EVENTS = (COMPLETED, SUCCEEDED, FAILED, EXPIRED)
MONEY_KINDS = [TaskKind.APPLY_EVENT, TaskKind.SETTLE_ORDER]


def apply(world: World) -> None:
    """Apply events without letting the picture be made."""
    world.run_due(MONEY_KINDS)


def fail_payment(world: World, session_id: str) -> None:
    """Let a slow payment fail, as the bank tells the provider."""
    intent = world.payments.sessions[session_id].payment_intent_id or ""
    payment = replace(world.payments.payments[intent], status="requires_payment_method")
    world.payments.payments[intent] = payment


def states(world: World, order_id: str) -> tuple[str, str]:
    order = world.order(order_id)
    return order.status, order.payment_status


def kinds(world: World, order_id: str) -> list[str]:
    with world.database.read() as session:
        return [entry.kind for entry in timeline.of_order(session, order_id)]


def attempts(world: World) -> list[str]:
    wanted = {TaskKind.SUBMIT_UPSCALE, TaskKind.UPSCALE_HERE}
    return [task.key for task in world.tasks() if task.kind in wanted]


def row(order: Order) -> dict[str, Any]:
    """Return what must not depend on the order of events."""
    left_out = {"updated_at", "id", "number", "created_at"}
    columns = Order.__mapper__.column_attrs
    return {
        column.key: getattr(order, column.key) for column in columns if column.key not in left_out
    }


def test_a_paid_order_asks_for_its_picture_once(world: World) -> None:
    order_id = world.buy()
    apply(world)
    order = world.order(order_id)
    assert states(world, order_id) == ("pending", "paid")
    assert (order.paid_minor, order.paid_currency) == (50, "usd")
    assert order.paid_at == world.clock.now()
    assert order.payment_intent_id == "pi_1"
    assert order.customer_name == "Ada Buyer"
    assert order.email == "jo@example.com"
    assert attempts(world) == [f"upscale:{order_id}:1"]


def test_a_customer_without_an_address_gets_the_one_he_paid_with(world: World) -> None:
    order_id = world.buy(email=None)
    apply(world)
    assert world.order(order_id).email == "buyer@example.com"


def test_an_event_whose_session_is_still_open_changes_nothing(world: World) -> None:
    started = world.start_checkout()
    world.deliver(COMPLETED, world.order(started.order_id).stripe_session_id or "")
    apply(world)
    assert states(world, started.order_id) == ("awaiting_payment", "pending")
    assert attempts(world) == []


def test_a_slow_payment_waits_and_then_buys(world: World) -> None:
    started = world.start_checkout()
    session_id = world.pay(started.order_id, payment_status="unpaid")
    world.deliver(COMPLETED, session_id)
    world.deliver(COMPLETED, session_id)
    apply(world)
    assert states(world, started.order_id) == ("awaiting_payment", "pending")
    assert kinds(world, started.order_id).count("awaiting_funds") == 1
    assert attempts(world) == []
    world.payments.settle(session_id)
    world.deliver(SUCCEEDED, session_id)
    apply(world)
    assert states(world, started.order_id) == ("pending", "paid")
    assert len(attempts(world)) == 1


def test_a_slow_payment_that_fails_ends_the_order(world: World) -> None:
    started = world.start_checkout()
    session_id = world.pay(started.order_id, payment_status="unpaid")
    world.deliver(COMPLETED, session_id)
    apply(world)
    fail_payment(world, session_id)
    world.deliver(FAILED, session_id)
    world.deliver(FAILED, session_id)
    apply(world)
    assert states(world, started.order_id) == ("abandoned", "failed")
    assert attempts(world) == []
    assert kinds(world, started.order_id).count("payment") == 1


def test_an_event_that_says_failed_is_not_believed_while_the_money_is_on_its_way(
    world: World,
) -> None:
    started = world.start_checkout()
    session_id = world.pay(started.order_id, payment_status="unpaid")
    world.deliver(FAILED, session_id)
    apply(world)
    assert states(world, started.order_id) == ("awaiting_payment", "pending")


def test_a_slow_payment_that_fails_is_found_without_its_event(world: World) -> None:
    started = world.start_checkout()
    session_id = world.pay(started.order_id, payment_status="unpaid")
    ask_to_settle(world.shop, world.order(started.order_id))
    apply(world)
    assert states(world, started.order_id) == ("awaiting_payment", "pending")
    fail_payment(world, session_id)
    world.clock.advance(60)
    ask_to_settle(world.shop, world.order(started.order_id))
    apply(world)
    assert states(world, started.order_id) == ("abandoned", "failed")


def test_a_checkout_page_that_ends_unpaid_ends_the_order(world: World) -> None:
    started = world.start_checkout()
    session_id = world.order(started.order_id).stripe_session_id or ""
    world.payments.expire_session(session_id)
    world.deliver(EXPIRED, session_id)
    apply(world)
    assert states(world, started.order_id) == ("abandoned", "pending")


def test_a_late_payment_revives_an_abandoned_order(world: World) -> None:
    started = world.start_checkout()
    session_id = world.order(started.order_id).stripe_session_id or ""
    open_session = world.payments.sessions[session_id]
    world.payments.expire_session(session_id)
    world.deliver(EXPIRED, session_id)
    apply(world)
    world.payments.sessions[session_id] = open_session
    world.payments.pay(session_id)
    world.deliver(COMPLETED, session_id)
    apply(world)
    assert states(world, started.order_id) == ("pending", "paid")
    assert len(attempts(world)) == 1


def test_a_failed_payment_that_goes_through_after_all_revives_the_order(world: World) -> None:
    started = world.start_checkout()
    session_id = world.pay(started.order_id, payment_status="unpaid")
    fail_payment(world, session_id)
    world.deliver(FAILED, session_id)
    apply(world)
    assert states(world, started.order_id) == ("abandoned", "failed")
    world.payments.settle(session_id)
    world.deliver(SUCCEEDED, session_id)
    apply(world)
    assert states(world, started.order_id) == ("pending", "paid")


@pytest.mark.parametrize("order_of_events", list(itertools.permutations(EVENTS)))
def test_events_of_a_paid_session_in_any_order_leave_the_same_rows(
    world: World, order_of_events: tuple[str, ...]
) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id)
    for kind in order_of_events * 2:
        world.deliver(kind, session_id)
        apply(world)
    assert states(world, order_id) == ("pending", "paid")
    assert attempts(world) == [f"upscale:{order_id}:1"]
    assert kinds(world, order_id) == ["created", "payment", "status"]
    order = world.order(order_id)
    assert (order.attempt, order.held_at, order.payment_intent_id) == (1, None, "pi_1")


@pytest.mark.parametrize(
    "order_of_events", list(itertools.permutations((COMPLETED, FAILED, EXPIRED)))
)
def test_events_of_a_failed_payment_in_any_order_leave_the_same_rows(
    world: World, order_of_events: tuple[str, ...]
) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id, payment_status="unpaid")
    fail_payment(world, session_id)
    for kind in order_of_events * 2:
        world.deliver(kind, session_id)
        apply(world)
    assert states(world, order_id) == ("abandoned", "failed")
    assert attempts(world) == []


@pytest.mark.parametrize(
    "order_of_events", list(itertools.permutations((COMPLETED, SUCCEEDED, EXPIRED)))
)
def test_events_that_overtake_the_money_leave_the_same_rows(
    world: World, order_of_events: tuple[str, ...]
) -> None:
    """Each event is applied before and after the money arrives."""
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id, payment_status="unpaid")
    for kind in order_of_events:
        world.deliver(kind, session_id)
    apply(world)
    world.payments.settle(session_id)
    for kind in order_of_events:
        world.deliver(kind, session_id)
    apply(world)
    assert states(world, order_id) == ("pending", "paid")
    assert attempts(world) == [f"upscale:{order_id}:1"]


def test_the_rows_do_not_tell_who_brought_the_news(world: World, tmp_path: Path) -> None:
    number = world.add_image()
    by_event, by_page = (world.start_checkout(number).order_id for _ in range(2))
    session_id = world.pay(by_event)
    world.pay(by_page)
    world.deliver(COMPLETED, session_id)
    ask_to_settle(world.shop, world.order(by_page))
    apply(world)
    one, two = row(world.order(by_event)), row(world.order(by_page))
    own = {"stripe_session_id", "checkout_url", "payment_intent_id"}
    assert {k: v for k, v in one.items() if k not in own} == {
        k: v for k, v in two.items() if k not in own
    }


# --- doubts -----------------------------------------------------------------------------------------


def assert_held(world: World, order_id: str, words: str) -> None:
    order = world.order(order_id)
    assert states(world, order_id) == ("pending", "paid")
    assert words in (order.held_reason or "")
    assert attempts(world) == []
    world.run_due()
    assert world.upscaler.jobs == {}
    assert world.order(order_id).status == "pending"


@pytest.mark.parametrize(
    "amount", [Money(49, "usd"), Money(51, "usd"), Money(50, "eur"), Money(0, "usd")]
)
def test_another_amount_or_currency_is_held_and_never_upscaled(world: World, amount: Money) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id, amount=amount)
    world.deliver(COMPLETED, session_id)
    world.deliver(SUCCEEDED, session_id)
    apply(world)
    assert_held(world, order_id, f"Paid {amount}, but the price is $0.50 USD")
    order = world.order(order_id)
    assert (order.paid_minor, order.paid_currency) == (amount.amount_minor, amount.currency)


def test_a_wrong_payment_is_remembered_so_that_it_can_go_back_and_buys_nothing_else(
    world: World,
) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id, amount=Money(49, "usd"))
    world.deliver(COMPLETED, session_id)
    apply(world)
    assert world.order(order_id).payment_intent_id == "pi_1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"livemode": True}, "another mode"),
        ({"amount_total": None}, "Paid None"),
        ({"payment_intent_id": None}, "names no payment"),
        ({"metadata": {"job_id": "somebody-else"}}, "names another order"),
    ],
)
def test_a_session_that_does_not_fit_its_order_is_held(
    world: World, changes: dict[str, Any], words: str
) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id)
    session = replace(world.payments.sessions[session_id], **changes)
    world.payments.sessions[session_id] = session
    world.deliver(COMPLETED, session_id)
    apply(world)
    assert_held(world, order_id, words)


def test_one_payment_buys_one_order(world: World) -> None:
    number = world.add_image()
    first = world.start_checkout(number).order_id
    second = world.start_checkout(number).order_id
    world.deliver(COMPLETED, world.pay(first))
    session_id = world.pay(second)
    session = replace(world.payments.sessions[session_id], payment_intent_id="pi_1")
    world.payments.sessions[session_id] = session
    world.deliver(COMPLETED, session_id)
    apply(world)
    assert len(attempts(world)) == 1
    order = world.order(second)
    assert f"has bought order {world.order(first).number} already" in (order.held_reason or "")
    assert order.payment_intent_id is None


def test_a_payment_of_nothing_for_something_is_held(world: World) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id, amount=Money(0, "usd"))
    session = replace(
        world.payments.sessions[session_id],
        payment_status="no_payment_required",
        payment_intent_id=None,
    )
    world.payments.sessions[session_id] = session
    world.deliver(COMPLETED, session_id)
    apply(world)
    assert_held(world, order_id, "the price is $0.50 USD")


# --- whose session is it ----------------------------------------------------------------------------


def forget_session(world: World, order_id: str) -> None:
    with world.database.write() as session:
        session.get_one(Order, order_id).stripe_session_id = None


def test_an_order_is_found_by_our_metadata_where_its_session_was_not_kept(world: World) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id)
    forget_session(world, order_id)
    world.deliver(COMPLETED, session_id)
    apply(world)
    assert states(world, order_id) == ("pending", "paid")
    assert world.order(order_id).stripe_session_id == session_id


def test_an_order_is_found_by_our_reference_where_the_metadata_is_gone(world: World) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id)
    forget_session(world, order_id)
    session = replace(world.payments.sessions[session_id], metadata={})
    world.payments.sessions[session_id] = session
    world.deliver(COMPLETED, session_id)
    apply(world)
    assert states(world, order_id) == ("pending", "paid")


def lose_patience(world: World) -> None:
    for _ in range(8):
        apply(world)
        world.clock.advance(60)


def entry_states(world: World) -> list[str]:
    with world.database.read() as session:
        return [entry.state for entry in session.query(InboxEntry).order_by(InboxEntry.id)]


def test_a_session_of_nobody_is_set_aside_after_some_patience_and_the_owner_is_told(
    world: World,
) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id)
    session = world.payments.sessions.pop(session_id)
    stranger = replace(session, id="cs_x", metadata={}, client_reference_id=None)
    world.payments.sessions["cs_x"] = stranger
    world.deliver(COMPLETED, "cs_x")
    apply(world)
    assert entry_states(world) == ["new"]
    lose_patience(world)
    assert [task.state for task in world.tasks()] == ["done"]
    assert entry_states(world) == ["unknown"]
    with world.database.read() as database:
        (alert,) = alerts.list_open(database)
    assert (alert.key, alert.order_id) == ("unknown:1", None)
    assert "cs_x" in alert.text
    assert states(world, order_id) == ("awaiting_payment", "pending")


def test_a_session_that_names_an_order_of_another_session_is_not_believed(world: World) -> None:
    number = world.add_image()
    order_id = world.start_checkout(number).order_id
    session_id = world.order(order_id).stripe_session_id or ""
    thief = replace(world.payments.sessions[session_id], id="cs_x", payment_status="paid")
    world.payments.sessions["cs_x"] = thief
    world.deliver(COMPLETED, "cs_x")
    lose_patience(world)
    assert entry_states(world) == ["unknown"]
    assert states(world, order_id) == ("awaiting_payment", "pending")


def test_an_event_that_comes_before_its_order_is_applied_later(world: World) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id)
    session = world.payments.sessions.pop(session_id)
    world.deliver(COMPLETED, session_id)
    apply(world)
    assert entry_states(world) == ["new"]
    world.payments.sessions[session_id] = session
    world.clock.advance(60)
    apply(world)
    assert entry_states(world) == ["applied"]
    assert states(world, order_id) == ("pending", "paid")


@pytest.mark.parametrize("error", [TransientError("away"), ProviderAccountError("key")])
def test_a_provider_that_cannot_be_asked_is_asked_again(world: World, error: Exception) -> None:
    order_id = world.buy()
    world.payments.fail_next(error, method="retrieve_session")
    apply(world)
    assert states(world, order_id) == ("awaiting_payment", "pending")
    world.clock.advance(301)
    apply(world)
    assert states(world, order_id) == ("pending", "paid")


# --- the success page and the sweep -----------------------------------------------------------------


def test_the_success_page_finds_a_payment_whose_event_is_late(world: World) -> None:
    order_id = world.start_checkout().order_id
    world.pay(order_id)
    ask_to_settle(world.shop, world.order(order_id))
    apply(world)
    assert states(world, order_id) == ("pending", "paid")


def test_a_page_that_is_reloaded_asks_once_a_minute(world: World) -> None:
    order_id = world.start_checkout().order_id
    for _ in range(5):
        ask_to_settle(world.shop, world.order(order_id))
    assert len(world.tasks("ready")) == 1
    world.clock.advance(60)
    ask_to_settle(world.shop, world.order(order_id))
    assert len(world.tasks("ready")) == 2


def test_asking_about_an_order_that_is_paid_already_reads_its_books_and_changes_nothing(
    world: World,
) -> None:
    order_id = world.buy()
    apply(world)
    before, told = row(world.order(order_id)), kinds(world, order_id)
    world.payments.calls.clear()
    ask_to_settle(world.shop, world.order(order_id))
    apply(world)
    assert (row(world.order(order_id)), kinds(world, order_id)) == (before, told)
    # A refund that failed is no longer seen on its payment, so the lists are read in any case.
    assert world.payments.calls == [
        "retrieve_session", "retrieve_payment", "list_refunds", "list_disputes"
    ]  # fmt: skip


def test_an_order_whose_page_was_never_handed_out_is_abandoned_without_asking(
    world: World,
) -> None:
    world.payments.lose_reply(TransientError("lost"), method="create_session")
    with pytest.raises(TransientError):
        world.start_checkout()
    with world.database.read() as session:
        order = session.query(Order).one()
    ask_to_settle(world.shop, order)
    apply(world)
    assert states(world, order.id) == ("abandoned", "pending")
    assert "retrieve_session" not in world.payments.calls


def test_a_task_about_an_order_that_does_not_exist_ends(world: World) -> None:
    order = Order(id="nobody")
    ask_to_settle(world.shop, order)
    apply(world)
    (task,) = world.tasks()
    assert task.state == "done"


# --- at once ----------------------------------------------------------------------------------------


def test_sixteen_threads_that_fulfil_at_once_ask_for_one_picture(world: World) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id)
    facts = read_money(world.payments, session_id, everything=False)
    barrier = threading.Barrier(16)
    problems: list[Exception] = []

    def run() -> None:
        barrier.wait(10)
        try:
            with world.database.write() as session:
                fulfil(world.shop, session, facts)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert problems == []
    assert attempts(world) == [f"upscale:{order_id}:1"]
    assert kinds(world, order_id) == ["created", "payment", "status"]
    assert world.order(order_id).attempt == 1


def test_an_inbox_entry_that_is_gone_ends_its_task(world: World) -> None:
    world.buy()
    with world.database.write() as session:
        entry = inbox.get(session, 1)
        assert entry is not None
        session.delete(entry)
    apply(world)
    assert world.tasks()[0].state == "done"


def test_money_is_never_taken_for_granted_by_the_database_file(
    world: World, sqlite_database: Database
) -> None:
    """An order paid twice over says so once: the second time changes nothing at all."""
    order_id = world.buy()
    apply(world)
    before = row(world.order(order_id))
    session_id = world.order(order_id).stripe_session_id or ""
    facts = read_money(world.payments, session_id, everything=True)
    world.clock.advance(60)
    for _ in range(3):
        with sqlite_database.write() as session:
            fulfil(world.shop, session, facts)
    assert row(world.order(order_id)) == before
