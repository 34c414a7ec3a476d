"""The demo's troubles: a picture that nobody can make, an upscaler that fails, a payment in doubt."""

from __future__ import annotations

from typing import Any

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.demo_steps import Report, check_out, choose_upscaler
from smi_desktop.cli.rehearsal import Rehearsal, SampleImage
from smi_desktop.domain.holds import remedies
from smi_desktop.sandbox.customer import GOOD_CARD, Customer, Purchase, deadline, expect
from smi_desktop.services.remedies import release
from smi_desktop.store import orders, upscales
from smi_desktop.store.models import Order

_WORK_SECONDS = 120.0


def play_trouble(shop: Rehearsal, report: Report, image: SampleImage) -> None:
    """Let three purchases go wrong and come right."""
    report.heading("Dee buys one that Upsampler cannot make, and nobody else may")
    choose_upscaler(shop, "upsampler")
    _refunded(shop, report, _customer(shop, "dee"), image)
    report.heading("Eli buys one that Upsampler cannot make, and this machine does")
    choose_upscaler(shop, "upsampler, then embedded")
    _failed_over(shop, report, _customer(shop, "eli"), image)
    report.heading("Fay's payment is not what was asked for")
    _held(shop, report, _customer(shop, "fay"), image)


def _refunded(shop: Rehearsal, report: Report, customer: Customer, image: SampleImage) -> None:
    _script(shop, provider="upsampler", operation="job", fault="fail")
    purchase = _pay(report, customer, image)
    with report.step("Failed, and refunded by itself") as saw:
        data = customer.wait_for_status(purchase.job_id, "refunded", _WORK_SECONDS)
        expect(data["payment_status"] == "refunded", f"the payment is '{data['payment_status']}'")
        refunds = shop.sandbox_state()["refunds"]
        expect(len(refunds) == 1, f"Stripe knows {len(refunds)} refunds, not 1")
        saw("one refund at Stripe, nothing delivered")
    with report.step("Explained in a mail") as saw:
        text = customer.wait_for_words("could not", 30)
        expect("back" in text, "the mail does not speak of the money")
        saw("with the reason, how the refund stands, and another size")


def _failed_over(shop: Rehearsal, report: Report, customer: Customer, image: SampleImage) -> None:
    _script(shop, provider="upsampler", operation="job", fault="fail")
    purchase = _pay(report, customer, image)
    with report.step("Made here instead") as saw:
        customer.wait_for_status(purchase.job_id, "completed", _WORK_SECONDS)
        with open_shop(shop.config()) as opened, opened.database.read() as session:
            tries = [
                (row.provider, row.state) for row in upscales.of_order(session, purchase.job_id)
            ]
        expect(
            tries == [("upsampler", "failed"), ("embedded", "succeeded")], f"the tries were {tries}"
        )
        _, link = customer.wait_for_mail(30)
        expect(customer.try_link(link) == 200, "the link does not work")
        saw("Upsampler failed, the second upscaler delivered; no refund")


def _held(shop: Rehearsal, report: Report, customer: Customer, image: SampleImage) -> None:
    _script(
        shop,
        provider="stripe",
        operation="retrieve_session",
        fault="patch_reply",
        params={"body": {"amount_total": 1}},
    )
    purchase = _pay(report, customer, image)
    with report.step("Held for a person") as saw:
        with deadline(30, "the order was not held") as wait:
            while (order := _order(shop, purchase)).held_at is None:
                wait()
        saw(order.held_reason or "")
        saw(f"remedies: {', '.join(remedies(order.held_kind))}")
        expect(order.status == "pending", f"the held order is '{order.status}'")
    with report.step("Released by the owner") as saw:
        with open_shop(shop.config()) as opened:
            release(opened, purchase.job_id)
        customer.wait_for_status(purchase.job_id, "completed", _WORK_SECONDS)
        # The link's hours begin when its mail leaves; the clock must not be moved before that.
        customer.wait_for_mail(30)
        saw("made and delivered")


def _pay(report: Report, customer: Customer, image: SampleImage) -> Purchase:
    purchase, _ = check_out(report, customer, image)
    with report.step("Paid on the card page"):
        answer = customer.pay(purchase, GOOD_CARD)
        customer.return_to_shop(answer)
    return purchase


def _customer(shop: Rehearsal, name: str) -> Customer:
    return Customer(shop.relay_url, shop.mailbox_dir, f"{name}@example.com")


def _script(shop: Rehearsal, **line: Any) -> None:  # noqa: ANN401 - a line of the sandbox's script
    shop.post_to_sandbox("faults", line)


def _order(shop: Rehearsal, purchase: Purchase) -> Order:
    with open_shop(shop.config()) as opened, opened.database.read() as session:
        order = orders.get(session, purchase.job_id)
    if order is None:
        raise AssertionError
    return order
