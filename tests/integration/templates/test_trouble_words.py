"""What customers and the owner are told when something goes wrong: the truth, and no more."""

from __future__ import annotations

import re

import jinja2
import pytest

from smi_desktop.adapters.template_renderer import JinjaRenderer
from tests.browser.page_values import LINK_END, order_values
from tests.integration.templates.mail_values import (
    HOSTILE,
    LINK,
    OTHER_MAILS,
    PART,
    SHOP_PAGE,
    Tags,
    alert_values,
    common_values,
    failed_values,
    refund_values,
)

DONE = re.compile(r"we sent|sent back|refunded|returned", re.IGNORECASE)
PROMISE = re.compile(r"\d+ (?:to \d+ )?(?:business |working )?days|guarantee|within", re.IGNORECASE)
LINE = {
    "planned": "We are starting to send $1.56 USD back",
    "pending": "$1.56 USD is on its way back the way it was paid. The bank has not confirmed it yet.",
    "succeeded": "We sent $1.56 USD back the way it was paid.",
    "failed": "Sending $1.56 USD back did not work by itself",
    "released": "You were not charged.",
    "none": "A person at the studio is looking at it",
}
UNFINISHED = sorted(set(LINE) - {"succeeded"})


@pytest.mark.parametrize("state", LINE)
def test_a_failure_mail_tells_how_the_money_stands(renderer: JinjaRenderer, state: str) -> None:
    mail = renderer.mail("failed", failed_values(state))
    html = Tags(mail.html)
    for fact in (LINE[state], "visible seams", "SMI-7K2M9", "8×"):
        assert fact in mail.text
        assert fact in html.words
    assert ("href", SHOP_PAGE) in html.attributes
    assert not PROMISE.search(mail.text)


@pytest.mark.parametrize("state", UNFINISHED)
def test_money_that_has_not_gone_is_never_called_sent(renderer: JinjaRenderer, state: str) -> None:
    failed = renderer.mail("failed", failed_values(state))
    assert not DONE.search(failed.subject + failed.text + Tags(failed.html).words)
    if state in {"pending", "failed"}:
        refund = renderer.mail("refund", refund_values(state))
        assert not DONE.search(refund.subject + refund.text + Tags(refund.html).words)
    for status in ("failed", "refunded"):
        values = order_values(
            status, refund_state=state, payment_status="paid", refunded_amount=None
        )
        if status == "failed" or state not in {"released", "none"}:
            assert not DONE.search(Tags(renderer.page("order", values)).words)


@pytest.mark.parametrize(
    ("state", "subject"),
    [
        ("pending", "Your refund of $1.56 USD is on its way: order SMI-7K2M9"),
        ("succeeded", "We sent your refund of $1.56 USD: order SMI-7K2M9"),
        ("failed", "Your refund of $1.56 USD has not gone out yet: order SMI-7K2M9"),
    ],
)
def test_a_refund_mail_tells_its_state_in_the_subject(
    renderer: JinjaRenderer, state: str, subject: str
) -> None:
    mail = renderer.mail("refund", refund_values(state))
    assert mail.subject == subject
    assert LINE[state] in mail.text
    assert "the full amount" in mail.text


def test_a_part_of_the_money_is_called_a_part(renderer: JinjaRenderer) -> None:
    mail = renderer.mail("refund", refund_values("succeeded", refund_amount=PART, whole=False))
    assert "$0.50 USD, a part of the amount" in mail.text
    assert "the full amount" not in mail.text + mail.html


def test_an_unknown_amount_is_not_invented(renderer: JinjaRenderer) -> None:
    mail = renderer.mail("failed", failed_values("pending", refund_amount=None))
    assert "Your money is on its way back" in mail.text
    assert "$" not in mail.text


@pytest.mark.parametrize(("size", "address"), [(None, None), (None, SHOP_PAGE), ("4x", None)])
def test_another_size_has_a_button_only_where_it_can_be_bought(
    renderer: JinjaRenderer, size: str | None, address: str | None
) -> None:
    mail = renderer.mail("failed", failed_values(other_size=size, other_size_url=address))
    assert "See 4×" not in mail.html
    assert SHOP_PAGE not in mail.html + mail.text


@pytest.mark.parametrize("cause", ["expired", "failed"])
@pytest.mark.parametrize("address", [SHOP_PAGE, None, "javascript:alert(1)"])
def test_a_payment_that_failed_says_that_nothing_was_charged(
    renderer: JinjaRenderer, cause: str, address: str | None
) -> None:
    values = common_values(cause=cause, try_again_url=address)
    mail = renderer.mail("payment_failed", values)
    html = Tags(mail.html)
    assert "Nothing was charged." in mail.text
    assert "Nothing was charged." in html.words
    assert ("Try again" in html.words) is (address == SHOP_PAGE)
    assert "javascript:" not in mail.html + mail.text


def test_a_reminder_names_the_end_of_the_link_and_the_link(renderer: JinjaRenderer) -> None:
    mail = renderer.mail("reminder", OTHER_MAILS["reminder"])
    assert mail.subject == "Your link ends Tue, Nov 24, 6:34 PM EST: Falcon 9 at dusk"
    assert mail.html.count(LINK) == 2
    assert mail.text.count(LINK) == 1
    assert "Tuesday, November 24, 2026, 6:34 PM EST (23:34 UTC)" in mail.text


def test_a_delay_is_told_without_a_promise_of_time(renderer: JinjaRenderer) -> None:
    mail = renderer.mail("delayed", OTHER_MAILS["delayed"])
    assert "Your money is safe" in mail.text
    assert "You do not have to do anything." in mail.text
    assert not PROMISE.search(mail.text)


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({}, "2 things need you (Varga Studio)"),
        ({"mode": "test"}, "[Test] 2 things need you (Varga Studio)"),
        (
            {"count": 1, "alerts": alert_values()["alerts"][:1], "mode": "rehearsal"},
            "[Rehearsal] Order SMI-7K2M9: the refund failed. (Varga Studio)",
        ),
    ],
)
def test_an_alert_says_in_its_subject_what_needs_the_owner(
    renderer: JinjaRenderer, changes: dict[str, object], subject: str
) -> None:
    mail = renderer.mail("alert", alert_values(**changes))
    assert mail.subject == subject
    assert "Give the money back (refund)" in mail.text
    assert "Give the money back (refund)" in Tags(mail.html).words
    assert "href" not in dict(Tags(mail.html).attributes)


def test_an_alert_tells_how_many_are_not_in_it(renderer: JinjaRenderer) -> None:
    mail = renderer.mail("alert", alert_values(count=7))
    assert "5 more in SMI Desktop." in mail.text
    assert "5 more in SMI Desktop." in mail.html


@pytest.mark.parametrize("kind", ["alert.html", "alert.txt"])
def test_an_alert_takes_a_list_of_remedies(renderer: JinjaRenderer, kind: str) -> None:
    rows = [{**row, "remedies": ["retry", "Look at the log."]} for row in alert_values()["alerts"]]
    template = renderer._environment.get_template(f"emails/{kind}")
    words = template.render(alert_values(alerts=rows))
    assert words.count("Make the picture again (retry)") == 2
    assert words.count("Look at the log.") == 2


@pytest.mark.parametrize("kind", OTHER_MAILS)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text_in_every_mail(
    renderer: JinjaRenderer, kind: str, hostile: str
) -> None:
    safe = {"refund_state", "cause", "mode", "zone"}
    values = {
        name: hostile if isinstance(value, str) and name not in safe else value
        for name, value in OTHER_MAILS[kind].items()
    }
    if kind == "alert":
        row = {**OTHER_MAILS[kind]["alerts"][0], "text": hostile, "remedies": hostile}
        values |= {"alerts": [row], "count": 1}
    mail = renderer.mail(kind, values)
    html = Tags(mail.html)
    assert hostile in html.words
    assert not {"script", "img"} & set(html.tags)
    assert not [name for name, _ in html.attributes if name.startswith("on")]
    assert len(mail.subject.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        (kind, name)
        for kind, values in OTHER_MAILS.items()
        for name in sorted(values)
        # Where no time is told, no zone is needed.
        if name != "zone" or kind in {"reminder", "alert"}
    ],
)
def test_a_missing_value_fails_loudly_in_every_mail(
    renderer: JinjaRenderer, kind: str, missing: str
) -> None:
    values = {name: value for name, value in OTHER_MAILS[kind].items() if name != missing}
    with pytest.raises(jinja2.UndefinedError, match=missing):
        renderer.mail(kind, values)


@pytest.mark.parametrize("kind", [kind for kind in OTHER_MAILS if kind != "alert"])
def test_every_mail_carries_its_styles_and_says_why_it_came(
    renderer: JinjaRenderer, kind: str
) -> None:
    mail = renderer.mail(kind, OTHER_MAILS[kind])
    assert "prefers-color-scheme: dark" in mail.html
    assert not re.search(r"""(?:src|background)=["']https?:""", mail.html)
    assert "You get this because" in mail.text
    assert "hello@varga-studio.example" in mail.text
    without = renderer.mail(kind, {**OTHER_MAILS[kind], "contact_email": ""})
    assert "Reply to this e-mail." in without.text
    assert "mailto" not in without.html


def test_an_ended_link_is_renewed_by_a_form_and_by_no_link(renderer: JinjaRenderer) -> None:
    html = Tags(renderer.page("order", order_values("expired-renewable")))
    values = order_values("expired", expired_at=LINK_END, order_url="https://shop.example/order/x")
    ended = values | {"can_renew": True, "renew_url": "/order/x/renew", "renewals_left": 1}
    page = Tags(renderer.page("link_expired", ended))
    assert ("action", f"/order/{values['job_id']}/renew") in html.attributes
    assert ("action", "/order/x/renew") in page.attributes
    for found in (html, page):
        assert ("method", "post") in found.attributes
        assert not [
            address
            for name, address in found.attributes
            if name == "href" and "renew" in str(address)
        ]


def test_a_link_that_cannot_be_renewed_has_no_button_for_it(renderer: JinjaRenderer) -> None:
    values = order_values("expired", expired_at=LINK_END, order_url="https://shop.example/order/x")
    for page in (renderer.page("order", values), renderer.page("link_expired", values)):
        assert "form" not in Tags(page).tags
        assert "Ask for a fresh link" in page


def test_a_disputed_order_is_not_called_an_expired_link(renderer: JinjaRenderer) -> None:
    words = Tags(renderer.page("order", order_values("disputed"))).words
    assert "expired" not in words
    assert "Download" not in words


def test_nobody_gets_back_what_he_never_paid(renderer: JinjaRenderer) -> None:
    values = order_values("held", status="failed", refund_state="released", paid_at=None)
    words = Tags(renderer.page("order", values)).words
    assert "Nothing was charged so far." in words
    assert "back" not in words


def test_money_back_for_a_delivered_picture_does_not_say_that_it_failed(
    renderer: JinjaRenderer,
) -> None:
    words = Tags(renderer.page("order", order_values("refunded-after-delivery"))).words
    assert "did not work" not in words
    assert "We could not make" not in words


def test_a_second_refund_names_what_has_gone_already(renderer: JinjaRenderer) -> None:
    values = order_values("part-refunded", refund_state="pending", refund_amount=PART)
    words = Tags(renderer.page("order", values)).words
    assert "Sent back so far" in words
    assert "on its way, not confirmed by the bank yet" in words


def test_an_older_shop_that_fills_less_in_still_has_its_page(renderer: JinjaRenderer) -> None:
    new = {"refund_state", "refund_amount", "refunded_amount", "failure_reason", "other_size",
           "other_size_url", "can_renew", "renewals_left", "disputed"}  # fmt: skip
    values = {name: value for name, value in order_values("expired").items() if name not in new}
    assert "Ask for a fresh link" in renderer.page("order", values)
