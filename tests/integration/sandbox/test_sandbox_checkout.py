"""The hosted checkout: made by the official SDK, paid in a form, ended by the clock."""

from __future__ import annotations

import time

import pytest
import stripe
from sandbox_running import Receiver, Sandbox, session_params, wait_for


def test_a_session_made_by_the_sdk_is_open_and_has_no_payment_yet(sandbox: Sandbox) -> None:
    made = sandbox.session(customer_email="jo@customer.example")
    assert made.id.startswith("cs_test_")
    assert (made.status, made.payment_status, made.payment_intent) == ("open", "unpaid", None)
    assert (made.amount_total, made.currency, made.livemode) == (480, "usd", False)
    assert made.client_reference_id == "order-1"
    assert made.url == f"{sandbox.stripe_url}/c/pay/{made.id}"
    assert made.customer_details is not None
    assert made.customer_details.email == "jo@customer.example"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"payment_method_types": ["card"]}, "payment_method_types"),
        ({"line_items": [{"price_data": {"currency": "usd", "unit_amount": 480,
            "product_data": {"name": "x"}, "colour": "red"}}]}, "line_items[0][price_data][colour]"),
        ({"line_items": [{"price_data": {"currency": "usd", "unit_amount": 49,
            "product_data": {"name": "x"}}, "quantity": 1}]}, "line_items"),
        ({"line_items": [{"price_data": {"currency": "usd", "unit_amount": "4.80",
            "product_data": {"name": "x"}}, "quantity": 1}]}, "line_items[0][price_data][unit_amount]"),
        ({"line_items": []}, "line_items"),
        ({"mode": "subscription"}, "mode"),
        ({"expires_at": int(time.time()) + 60}, "expires_at"),
        ({"expires_at": int(time.time()) + 2 * 86_400}, "expires_at"),
        ({"success_url": None}, "success_url"),
        ({"success_url": "not a url"}, "success_url"),
        ({"metadata": {"k": "v" * 501}}, "metadata[k]"),
        ({"customer_email": "nobody"}, "customer_email"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_refused_as_stripe_does(
    sandbox: Sandbox, changes: dict[str, object], param: str
) -> None:
    params = {name: value for name, value in session_params(**changes).items() if value is not None}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        sandbox.sdk.v1.checkout.sessions.create(params)
    assert refused.value.http_status == 400
    assert refused.value.param == param


def test_the_wrong_key_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(stripe.AuthenticationError):
        sandbox.client("sk_test_another").v1.balance.retrieve()


def test_a_paid_session_carries_payment_charge_fee_and_customer(sandbox: Sandbox) -> None:
    made = sandbox.session(payment_intent_data={"metadata": {"job_id": "on the intent"}})
    answer = sandbox.pay(str(made.url))
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"http://127.0.0.1:9/order?session={made.id}"
    expand = ["line_items", "payment_intent.latest_charge.balance_transaction"]
    found = sandbox.sdk.v1.checkout.sessions.retrieve(made.id, {"expand": expand})
    assert (found.status, found.payment_status, found.url) == ("complete", "paid", None)
    assert found.customer_details is not None
    assert found.customer_details.name == "Jo Winter"
    intent = found.payment_intent
    assert isinstance(intent, stripe.PaymentIntent)
    assert (intent.status, intent.amount_received) == ("succeeded", 480)
    charge = intent.latest_charge
    assert isinstance(charge, stripe.Charge)
    fee = charge.balance_transaction
    assert isinstance(fee, stripe.BalanceTransaction)
    assert (fee.fee, fee.net) == (44, 436)
    assert found.line_items is not None
    assert found.line_items.data[0].description == "Espresso, 4x"
    items = sandbox.sdk.v1.checkout.sessions.line_items.list(made.id)
    assert [item.amount_total for item in items] == [480]


def test_metadata_of_the_session_is_not_on_the_payment(sandbox: Sandbox) -> None:
    plain = sandbox.paid()
    intent = sandbox.sdk.v1.payment_intents.retrieve(str(plain.payment_intent))
    assert plain.metadata is not None
    assert plain.metadata.to_dict() == {"job_id": "j1"}
    assert intent.metadata.to_dict() == {}


def test_a_declined_card_leaves_the_session_open(hooked: Receiver, sandbox: Sandbox) -> None:
    made = sandbox.session()
    answer = sandbox.pay(str(made.url), card_number="4000 0000 0000 0002")
    assert answer.status_code == 402
    assert "Your card was declined." in answer.text
    wait_for(lambda: hooked.types() == ["payment_intent.payment_failed"])
    assert sandbox.sdk.v1.checkout.sessions.retrieve(made.id).status == "open"
    assert sandbox.pay(str(made.url)).status_code == 303


def test_paying_after_a_decline_uses_the_same_payment(hooked: Receiver, sandbox: Sandbox) -> None:
    made = sandbox.session()
    sandbox.pay(str(made.url), card_number="4000000000009995")
    sandbox.pay(str(made.url))
    wait_for(lambda: len(hooked.posts) == 4)
    about = [event.data.object for event in hooked.events()]
    intents = {thing["id"] for thing in about if thing["object"] == "payment_intent"}
    assert len(intents) == 1


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("card_number", "1234 5678 9012 3456", "A rehearsal takes test cards alone"),
        ("email", "nobody", "Enter one e-mail address"),
        ("exp", "12 / 20", "This date is in the past."),
        ("exp", "soon", "Month and year"),
        ("cvc", "1", "Three or four digits."),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_charged(
    sandbox: Sandbox, field: str, text: str, said: str
) -> None:
    made = sandbox.session()
    answer = sandbox.pay(str(made.url), **{field: text})
    assert answer.status_code == 422
    assert said in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert sandbox.sdk.v1.checkout.sessions.retrieve(made.id).payment_intent is None


def test_the_page_says_that_it_is_a_rehearsal_and_escapes_what_it_shows(sandbox: Sandbox) -> None:
    product = {"name": "<script>alert(1)</script>"}
    price = {"currency": "eur", "unit_amount": 500, "product_data": product}
    made = sandbox.session(line_items=[{"quantity": 2, "price_data": price}])
    page = sandbox.http.get(str(made.url))
    assert "no real money moves" in page.text
    assert "€10.00 EUR" in page.text
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_the_pages_style_and_fonts_are_served(sandbox: Sandbox) -> None:
    for name in ("checkout.css", "Inter-Regular.otf"):
        assert sandbox.http.get(f"{sandbox.stripe_url}/c/assets/{name}").status_code == 200
    assert sandbox.http.get(f"{sandbox.stripe_url}/c/assets/LICENSE").status_code == 404


def test_leaving_leads_back_to_the_shop(sandbox: Sandbox) -> None:
    made = sandbox.session()
    answer = sandbox.http.post(str(made.url), data={"action": "leave"}, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, "http://127.0.0.1:9/gallery")
    assert sandbox.sdk.v1.checkout.sessions.retrieve(made.id).status == "open"


def test_an_address_given_by_the_shop_cannot_be_changed_on_the_page(sandbox: Sandbox) -> None:
    made = sandbox.session(customer_email="jo@customer.example")
    sandbox.pay(str(made.url), email="someone@else.example")
    found = sandbox.sdk.v1.checkout.sessions.retrieve(made.id)
    assert found.customer_details is not None
    assert found.customer_details.email == "jo@customer.example"


def test_a_paid_page_says_so_and_is_not_charged_twice(sandbox: Sandbox) -> None:
    made = sandbox.session()
    url = str(made.url)
    sandbox.pay(url)
    again = sandbox.pay(url)
    assert again.status_code == 200
    assert "This is paid" in again.text
    intent = sandbox.sdk.v1.checkout.sessions.retrieve(made.id).payment_intent
    charges = sandbox.sdk.v1.charges.list({"payment_intent": str(intent)})
    assert len(charges.data) == 1


def test_an_unknown_page_is_not_found(sandbox: Sandbox) -> None:
    page = sandbox.http.get(f"{sandbox.stripe_url}/c/pay/cs_test_none")
    assert page.status_code == 404
    assert "There is no such checkout" in page.text


def test_the_clock_ends_a_session_and_tells(hooked: Receiver, sandbox: Sandbox) -> None:
    made = sandbox.session()
    url = str(made.url)
    sandbox.control("clock", {"advance_seconds": 86_401})
    wait_for(lambda: "checkout.session.expired" in hooked.types())
    answer = sandbox.pay(url)
    assert answer.status_code == 200
    assert "This checkout has expired" in answer.text
    assert sandbox.sdk.v1.checkout.sessions.retrieve(made.id).status == "expired"


def test_a_session_can_be_expired_once_by_the_shop(sandbox: Sandbox) -> None:
    made = sandbox.session()
    assert sandbox.sdk.v1.checkout.sessions.expire(made.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.sdk.v1.checkout.sessions.expire(made.id)


def test_the_clock_is_read_from_the_file_that_every_process_shares(sandbox: Sandbox) -> None:
    (sandbox.folder / "clock-offset").write_text("3600\n", encoding="ascii")
    assert wait_for(lambda: sandbox.control("clock")["offset_seconds"] == 3600)
    assert abs(sandbox.session().created - time.time() - 3600) < 5


def test_sessions_are_listed_by_page_payment_and_time(sandbox: Sandbox) -> None:
    made = [sandbox.session().id for _ in range(3)]
    paid = sandbox.paid()
    sessions = sandbox.sdk.v1.checkout.sessions
    first = sessions.list({"limit": 2})
    assert [row.id for row in first.data] == [paid.id, made[2]]
    assert first.has_more
    second = sessions.list({"limit": 2, "starting_after": made[2]})
    assert [row.id for row in second.data] == [made[1], made[0]]
    newer = sessions.list({"limit": 2, "ending_before": made[0]})
    assert [row.id for row in newer.data] == [made[2], made[1]]
    by_payment = sessions.list({"payment_intent": str(paid.payment_intent)})
    assert [row.id for row in by_payment.data] == [paid.id]
    assert sessions.list({"created": {"gt": int(time.time()) + 99 * 86_400}}).data == []
    everything = [row.id for row in sessions.list({"limit": 2}).auto_paging_iter()]
    assert set(made) < set(everything)


def test_an_unknown_session_is_not_found(sandbox: Sandbox) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        sandbox.sdk.v1.checkout.sessions.retrieve("cs_test_none")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
