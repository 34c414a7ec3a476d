"""Mails: queued once, sent as often as it takes and never a third time, and the link in clear nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from smi_desktop.adapters.template_renderer import JinjaRenderer
from smi_desktop.domain.errors import (
    AmbiguousError,
    ConfigurationError,
    InvalidInputError,
    ProviderAccountError,
    TransientError,
)
from smi_desktop.services.delivery import find_download
from smi_desktop.services.emails import (
    LINK_PLACEHOLDER,
    lost_link_values,
    queue_lost_link_mail,
    queue_ready_mail,
    send_mail,
)
from smi_desktop.services.ports import OutgoingMail
from smi_desktop.services.work import Done, TaskKind
from smi_desktop.store import outbox, timeline
from smi_desktop.store.models import Order, OutboxMail
from smi_desktop.store.tasks import Claim
from tests.fakes.mailer import FakeMailer
from tests.world import World

MAIL = [TaskKind.SEND_MAIL]
ALL_BUT_MAIL = [kind for kind in TaskKind if kind is not TaskKind.SEND_MAIL]


@pytest.fixture
def made(world: World) -> World:
    """A shop with one delivered order whose mail has not been sent yet."""
    order_id = world.buy()
    world.run_due(ALL_BUT_MAIL)
    world.finish_upscale(order_id)
    world.clock.advance(31)
    world.run_due(ALL_BUT_MAIL)
    return world


def the_order(world: World) -> Order:
    with world.database.read() as session:
        return session.query(Order).one()


def the_mail(world: World) -> OutboxMail:
    with world.database.read() as session:
        (mail,) = outbox.of_order(session, the_order(world).id)
    return mail


def token(world: World) -> str:
    order = the_order(world)
    return world.shop.token("download", order.id, order.generation)


def kinds(world: World) -> list[str]:
    with world.database.read() as session:
        return [entry.kind for entry in timeline.of_order(session, the_order(world).id)]


def send(world: World, hours: float = 0.0, step: float = 600.0) -> None:
    world.run_due(MAIL)
    for _ in range(int(hours * 3600 / step)):
        world.clock.advance(step)
        world.run_due(MAIL)


def crash(world: World) -> None:
    """Let the next mail be handed over and the process die before the answer is stored."""
    world.mailer.lose_reply(KeyboardInterrupt(), method="send")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        world.run_due(MAIL)
    world.clock.advance(61)


# --- the mail ---------------------------------------------------------------------------------------


def test_a_delivery_queues_one_mail_whose_link_opens_the_file(made: World) -> None:
    assert the_mail(made).state == "queued"
    send(made)
    (mail,) = made.mailer.outbox
    link = f"https://shop.example/smi/v1/download/{token(made)}"
    assert link in mail.html
    assert link in mail.text
    assert LINK_PLACEHOLDER not in mail.html + mail.text
    assert mail.to_address == "jo@example.com"
    assert mail.subject == "Your picture is ready: Harbour"
    assert (mail.sender_address, mail.sender_name) == ("shop@studio.example", "My studio")
    assert mail.message_id.endswith("@studio.example>")
    assert find_download(made.shop, token(made)).bytes == the_order(made).file_bytes
    assert the_mail(made).state == "sent"
    assert "mail_sent" in kinds(made)


def test_answers_go_to_the_support_address_where_there_is_one(made: World) -> None:
    made.set(support_email="help@studio.example")
    send(made)
    assert made.mailer.outbox[0].reply_to == "help@studio.example"


def test_an_order_without_an_address_queues_no_mail(world: World) -> None:
    order_id = world.buy(email=None)
    world.payments.sessions["cs_test_1"] = replace(
        world.payments.sessions["cs_test_1"], customer_email=None
    )
    assert world.complete(order_id).status == "completed"
    assert world.mailer.outbox == []


def test_a_usable_token_stands_nowhere_in_the_database_file(made: World, tmp_path: Path) -> None:
    send(made)
    order = the_order(made)
    secrets = [
        token(made),
        made.shop.token("callback", order.id, 1),
        made.shop.token("source", order.id),
        made.secrets.values["token_key"],
    ]
    files = sorted(tmp_path.glob("shop.db*"))
    raw = b"".join(file.read_bytes() for file in files)
    assert LINK_PLACEHOLDER.encode() in raw
    assert order.id.encode() in raw
    for secret in secrets:
        assert secret.encode() not in raw
        assert bytes.fromhex(secret) not in raw
    mail = the_mail(made)
    assert LINK_PLACEHOLDER in (mail.html or "")
    assert LINK_PLACEHOLDER in (mail.text or "")


def test_the_links_time_begins_when_the_mail_leaves(made: World) -> None:
    promised = the_order(made).expires_at
    made.mailer.fail_next(*[TransientError("greylisted")] * 3, method="send")
    send(made, hours=6)
    left = the_mail(made).sent_at
    assert left is not None
    assert promised is not None
    expires_at = the_order(made).expires_at
    assert expires_at == left + timedelta(hours=24)
    assert expires_at > promised
    assert (
        f"{expires_at:%H:%M} UTC" in made.mailer.outbox[0].text
        or "UTC" in made.mailer.outbox[0].text
    )


# --- again and again --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [TransientError("450"), ProviderAccountError("535"), ConfigurationError("no host")]
)
def test_a_mail_that_surely_was_not_taken_is_sent_again_with_the_same_id(
    made: World, error: Exception
) -> None:
    before = the_mail(made).message_id
    made.mailer.fail_next(error, error, method="send")
    send(made, hours=1)
    (mail,) = made.mailer.outbox
    assert mail.message_id == before
    assert the_mail(made).state == "sent"


def test_a_lost_answer_leads_to_one_more_copy_with_the_same_id(made: World) -> None:
    made.mailer.lose_reply(AmbiguousError("cut after the dot"), method="send")
    send(made, hours=1)
    first, second = made.mailer.outbox
    assert first == second
    assert the_mail(made).state == "sent"


def test_two_lost_answers_never_lead_to_a_third_copy(made: World) -> None:
    made.mailer.lose_reply(*[AmbiguousError("cut")] * 5, method="send")
    send(made, hours=3)
    assert len(made.mailer.outbox) == 2
    mail = the_mail(made)
    assert (mail.state, mail.response) == ("sent", "unconfirmed")
    assert "Nobody knows whether the mail" in (the_order(made).held_reason or "")
    with made.database.read() as session:
        texts = [entry.text for entry in timeline.of_order(session, the_order(made).id)]
    assert any("answer was lost twice" in text for text in texts)


def test_a_crash_while_a_mail_is_handed_over_leads_to_one_more_copy(made: World) -> None:
    crash(made)
    send(made, hours=1)
    assert len(made.mailer.outbox) == 2
    assert len({mail.message_id for mail in made.mailer.outbox}) == 1


def test_crash_after_crash_never_leads_to_a_third_copy(made: World) -> None:
    crash(made)
    crash(made)
    send(made, hours=1)
    assert len(made.mailer.outbox) == 2
    assert the_mail(made).state == "sent"


def test_a_lost_answer_and_a_crash_never_lead_to_a_third_copy(made: World) -> None:
    made.mailer.lose_reply(AmbiguousError("cut"), method="send")
    send(made)
    made.clock.advance(120)
    crash(made)
    send(made, hours=1)
    assert len(made.mailer.outbox) == 2
    assert the_mail(made).state == "sent"


@pytest.mark.parametrize("error", [TransientError("421"), ProviderAccountError("535")])
def test_a_second_copy_that_is_not_taken_waits_with_the_words_of_the_first(
    made: World, error: Exception
) -> None:
    made.mailer.lose_reply(AmbiguousError("cut"), method="send")
    send(made)
    expires_at = the_order(made).expires_at
    made.mailer.fail_next(error, error, method="send")
    send(made, hours=2)
    first, second = made.mailer.outbox
    assert first == second
    assert the_order(made).expires_at == expires_at


def test_a_second_copy_that_is_never_taken_is_told_to_a_person_after_two_days(made: World) -> None:
    made.mailer.lose_reply(AmbiguousError("cut"), method="send")
    send(made)
    made.mailer.fail_next(*[TransientError("away")] * 1000, method="send")
    send(made, hours=50, step=1800)
    assert "could not be delivered" in (the_order(made).held_reason or "")
    assert made.tasks("ready") == []


def test_a_recipient_who_does_not_exist_is_told_to_a_person(made: World) -> None:
    made.mailer.refused.add("jo@example.com")
    send(made, hours=1)
    order = the_order(made)
    assert "could not be delivered" in (order.held_reason or "")
    assert order.status == "completed"
    assert the_mail(made).state == "failed"
    assert made.mailer.calls == ["send"]
    assert find_download(made.shop, token(made)).order_id == order.id


def test_a_mail_server_that_is_away_is_asked_for_two_days(made: World) -> None:
    made.mailer.fail_next(*[TransientError("away")] * 1000, method="send")
    send(made, hours=47, step=1800)
    assert the_order(made).held_at is None
    assert the_mail(made).state == "queued"
    send(made, hours=2, step=1800)
    assert "could not be delivered" in (the_order(made).held_reason or "")
    assert "mail_failed" in kinds(made)
    assert made.tasks("ready") == []


def test_a_wait_that_the_mail_server_names_is_kept(made: World) -> None:
    made.mailer.fail_next(TransientError("later", retry_after=3600), method="send")
    send(made, hours=0.8)
    assert made.mailer.calls == ["send"]
    send(made, hours=0.4)
    assert len(made.mailer.outbox) == 1


def test_an_account_that_is_refused_waits_until_it_is_mended(made: World) -> None:
    made.mailer.fail_next(*[ProviderAccountError("535")] * 600, method="send")
    send(made, hours=49, step=300)
    assert the_mail(made).state == "queued"
    assert the_order(made).expires_at is not None
    made.mailer._ordered.clear()
    send(made, hours=1)
    assert len(made.mailer.outbox) == 1
    assert the_order(made).expires_at == (the_mail(made).sent_at or 0) + timedelta(hours=24)  # type: ignore[operator]


def test_a_shop_whose_mail_is_not_set_up_waits(made: World) -> None:
    def door(_settings: object) -> FakeMailer:
        raise ConfigurationError("The address that mails come from is not set.")

    whole = made.shop
    made.shop = replace(whole, mailer=door)
    send(made, hours=1)
    assert the_mail(made).state == "queued"
    made.shop = whole
    send(made, hours=1)
    assert len(made.mailer.outbox) == 1


# --- mails that have lost their reason --------------------------------------------------------------


def change(world: World, **values: Any) -> None:
    with world.database.write() as session:
        order = session.get_one(Order, the_order(world).id)
        for name, value in values.items():
            setattr(order, name, value)


@pytest.mark.parametrize(
    "values",
    [
        {"generation": 2},
        {"status": "refunded"},
        {"disputed_at": "now"},
        {"file_removed_at": "now"},
    ],
)
def test_a_link_that_is_no_longer_good_is_not_mailed(made: World, values: dict[str, Any]) -> None:
    now = made.clock.now()
    change(made, **{name: now if value == "now" else value for name, value in values.items()})
    send(made)
    assert made.mailer.outbox == []
    mail = the_mail(made)
    assert mail.state == "failed"
    assert mail.response == "What this mail was to say is no longer so."
    send(made, hours=1)
    assert made.mailer.outbox == []


def test_a_mail_that_was_sent_is_not_sent_again(made: World) -> None:
    send(made)
    mail = the_mail(made)
    for mail_id in (mail.id, 999):
        task = Claim(1, TaskKind.SEND_MAIL, "m", None, {"mail_id": mail_id}, 1, 0, "x")
        assert isinstance(send_mail(made.shop, task), Done)
    assert len(made.mailer.outbox) == 1


def test_one_delivery_queues_one_mail_however_often_it_is_asked_for(made: World) -> None:
    with pytest.raises(Exception, match="UNIQUE"), made.database.write() as session:
        queue_ready_mail(made.shop, session, session.get_one(Order, the_order(made).id))
    assert the_mail(made).state == "queued"


# --- the way back to one's orders -------------------------------------------------------------------


def lost_mails(world: World) -> list[OutgoingMail]:
    return [mail for mail in world.mailer.outbox if mail.subject.startswith("Your orders")]


def test_a_known_address_gets_the_way_back_to_its_orders(made: World) -> None:
    send(made)
    queue_lost_link_mail(made.shop, "JO@Example.com")
    send(made)
    (mail,) = lost_mails(made)
    order = the_order(made)
    assert mail.to_address == "jo@example.com"
    for text in (mail.html, mail.text):
        assert f"https://shop.example/order/{order.id}" in text
        assert order.number in text
        assert "Harbour" in text
        assert token(made) not in text
    assert mail.subject == "Your orders at My studio"


@pytest.mark.parametrize("email", ["nobody@example.com", "", "%", "jo@example.com' OR 1=1 --"])
def test_an_unknown_address_is_answered_alike_and_gets_nothing(made: World, email: str) -> None:
    send(made)
    answers: list[Callable[..., None] | None] = []
    answers.append(queue_lost_link_mail(made.shop, email))  # type: ignore[func-returns-value]
    answers.append(queue_lost_link_mail(made.shop, "jo@example.com"))  # type: ignore[func-returns-value]
    assert answers == [None, None]
    send(made)
    assert len(lost_mails(made)) == 1


def test_an_order_that_was_never_paid_is_not_found(world: World) -> None:
    world.start_checkout()
    queue_lost_link_mail(world.shop, "jo@example.com")
    assert world.tasks() == []


def test_however_often_it_is_asked_for_there_is_one_mail_in_ten_minutes(made: World) -> None:
    for _ in range(5):
        queue_lost_link_mail(made.shop, "jo@example.com")
    send(made)
    assert len(lost_mails(made)) == 1
    made.clock.advance(600)
    queue_lost_link_mail(made.shop, "jo@example.com")
    send(made)
    assert len(lost_mails(made)) == 2


def test_a_lost_link_mail_that_cannot_be_delivered_stops_no_paid_work(world: World) -> None:
    order_id = world.buy()
    world.run_due(ALL_BUT_MAIL)
    world.mailer.refused.add("jo@example.com")
    queue_lost_link_mail(world.shop, "jo@example.com")
    world.run_due()
    assert world.order(order_id).held_at is None
    world.mailer.refused.clear()
    assert world.complete(order_id).status == "completed"


class Broken(JinjaRenderer):
    """A renderer whose lost-link template has a fault."""

    def mail(self, kind: str, values: Any) -> Any:
        if kind == "lost_link":
            raise ValueError("a fault in the template")
        return super().mail(kind, values)


def test_a_lost_link_mail_that_cannot_be_written_stops_no_paid_work(world: World) -> None:
    world.shop = replace(world.shop, templates=Broken())
    world.fetcher.shop = world.shop
    order_id = world.buy()
    world.run_due(ALL_BUT_MAIL)
    queue_lost_link_mail(world.shop, "jo@example.com")
    for _ in range(10):
        world.run_due(MAIL)
        world.clock.advance(30)
    assert len(world.tasks("dead")) == 1
    assert world.order(order_id).held_at is None


@pytest.mark.parametrize("contact", ["", "help@studio.example"])
def test_the_lost_link_mail_is_whole_and_lets_nothing_hostile_through(
    made: World, contact: str
) -> None:
    hostile = '<img src=x onerror="alert(1)">\r\nBcc: x@y.example'
    change(made, title=hostile)
    made.set(studio_name="Varga & <Co>", studio_address="12 Harbor Lane", support_email=contact)
    settings = made.shop.settings().model_copy(update={"mail_from": ""})
    mail = JinjaRenderer().mail("lost_link", lost_link_values(settings, [the_order(made)] * 3))
    assert "<img" not in mail.html
    assert "Varga &amp; &lt;Co&gt;" in mail.html
    assert mail.html.count("Open this order") == 3
    assert mail.text.count("https://shop.example/order/") == 3
    assert "\r" not in mail.text
    assert "\nBcc" not in mail.text
    assert mail.subject == "Your orders at Varga & <Co>"
    assert "12 Harbor Lane" in mail.html
    assert ("Write to" in mail.text) is bool(contact)
    assert "{{" not in mail.html + mail.text + mail.subject
    assert "{%" not in mail.html + mail.text + mail.subject


def test_a_mail_that_cannot_be_built_holds_its_order_and_is_never_called_sent(world: World) -> None:
    order_id = world.buy()
    world.mailer.fail_next(InvalidInputError("This is not one e-mail address."), method="send")
    world.complete(order_id)
    order = world.order(order_id)
    assert order.status == "completed"
    assert "could not be delivered" in (order.held_reason or "")
    assert world.mailer.outbox == []


def test_a_sender_with_an_international_domain_gets_a_message_id_in_ascii(world: World) -> None:
    world.set(mail_from="studio@fotografía.example")
    world.complete(world.buy())
    (mail,) = world.mailer.outbox
    assert mail.message_id.isascii()
    assert mail.message_id.endswith("@xn--fotografa-n5a.example>")
