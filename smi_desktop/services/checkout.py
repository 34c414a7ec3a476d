"""From "I want this" to the address of the checkout page.

The order is committed before the payment provider is asked, and its id is the idempotency key: whatever is
lost on the way, there is one session for one order, and a payment finds its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from smi_desktop.config import ShopSettings, is_email_address
from smi_desktop.domain.errors import InvalidInputError, PriceChangedError, TransientError
from smi_desktop.domain.money import Money
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.domain.pricing import Price, Resolution
from smi_desktop.domain.tokens import new_order_id, new_order_number
from smi_desktop.services.catalogue import secure_source
from smi_desktop.services.order_states import lock_order
from smi_desktop.services.ports import CheckoutRequest, CheckoutSession
from smi_desktop.services.prices import Offer, Quote, find_image, make_offer, read_quote
from smi_desktop.services.shop import Shop
from smi_desktop.store import orders, timeline
from smi_desktop.store.models import Image, Order

_OUR_PARAMETERS: Final = frozenset({"smi_payment", "session_id", "job_id"})
_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class TermsRequiredError(InvalidInputError):
    """The shop asks for its terms to be accepted, and they were not."""

    title = "Please accept the terms"


@dataclass(frozen=True, slots=True)
class CheckoutForm:
    """What a customer asks for. None of it is believed: the server looks everything up itself."""

    attachment_id: int
    resolution: Resolution
    post_id: int | None = None
    email: str | None = None
    quote_id: str | None = None
    terms_accepted: bool = False
    terms_version: str | None = None
    page_url: str | None = None


@dataclass(frozen=True, slots=True)
class StartedCheckout:
    """An order with its checkout page."""

    order_id: str
    checkout_url: str
    amount: Money


def start_checkout(shop: Shop, form: CheckoutForm) -> StartedCheckout:
    """Create an order and its checkout page.

    Raises:
        NotFoundError, NotForSaleError: The picture or the size cannot be sold.
        InvalidInputError: The form cannot be used; TermsRequiredError if only the terms are missing.
        PriceChangedError: The quote has ended and the price is another one now.
        TransientError, ProviderAccountError, RejectedError: The payment provider; no money moved.
    """
    settings = shop.settings()
    if form.email is not None and not is_email_address(form.email):
        raise InvalidInputError(
            "This is not one e-mail address. Please check it, or leave it empty."
        )
    if settings.terms_required:
        _check_terms(settings, form)
    image = find_image(shop, form.attachment_id)
    offer = make_offer(shop, settings, image, form.resolution)
    quote = _find_quote(shop, form)
    amount = _agree_on_price(shop, quote, image, offer.price)
    source_key = secure_source(shop, settings, image)
    order = _new_order(shop, settings, form, image, offer)
    order.amount_minor = amount.amount_minor
    order.quote_id = form.quote_id if quote is not None else None
    order.source_key = source_key
    # `sources/{sha256}.{format}`: of the picture as it is now, which may not be as it was catalogued.
    order.source_sha256, _, order.source_format = source_key.partition("/")[2].partition(".")
    with shop.database.write() as session:
        # Behind the lock under which a sweep removes copies that no order needs.
        if not shop.files.exists(source_key):
            raise TransientError("The picture's copy is being renewed. Please try again.")
        candidates = iter(lambda: new_order_number(settings.order_prefix), "")
        order.number = orders.first_unused_number(session, candidates)
        session.add(order)
        session.flush()
        timeline.add(
            session,
            order.id,
            "created",
            f"{order.title}, {order.resolution}, for {amount}.",
            at=order.created_at,
            actor="customer",
            facts={"attachment_id": order.attachment_id, "amount_minor": order.amount_minor},
        )
    checkout = shop.payments(settings).create_session(
        checkout_request(settings, order), idempotency_key=f"checkout:{order.id}"
    )
    return _remember_session(shop, order.id, checkout, amount)


def _check_terms(settings: ShopSettings, form: CheckoutForm) -> None:
    """Refuse without consent; a page kept by a browser or a CDN may have shown older terms."""
    if not form.terms_accepted:
        raise TermsRequiredError("Please accept the terms of sale to go on.")
    if form.terms_version is not None and form.terms_version != settings.terms_version:
        raise TermsRequiredError("The terms of sale have changed. Please read and accept them.")


def _find_quote(shop: Shop, form: CheckoutForm) -> Quote | None:
    """Return the quote that the customer was shown for this picture, if it is one of ours."""
    quote = read_quote(shop, form.quote_id) if form.quote_id else None
    return quote if quote is not None and quote.attachment_id == form.attachment_id else None


def _agree_on_price(shop: Shop, quote: Quote | None, image: Image, price: Price) -> Money:
    """Charge what was shown while the quote holds, and never another price without saying so."""
    if quote is None:
        return price.price
    quoted = quote.prices.get(price.resolution.value)
    if (
        quoted is not None
        and quoted.currency == price.price.currency
        and quote.source_size == (image.width, image.height)
        and shop.now() < quote.expires_at
    ):
        return quoted
    if quoted != price.price:
        raise PriceChangedError(f"The price is {price.price} now. Please look at it again.")
    return price.price


def _new_order(
    shop: Shop, settings: ShopSettings, form: CheckoutForm, image: Image, offer: Offer
) -> Order:
    now = shop.now()
    price = offer.price
    return Order(
        id=new_order_id(),
        status=OrderStatus.AWAITING_PAYMENT.value,
        payment_status=PaymentStatus.PENDING.value,
        livemode=shop.livemode,
        created_at=now,
        updated_at=now,
        attachment_id=image.attachment_id,
        post_id=form.post_id if form.post_id is not None else image.post_id,
        title=image.title,
        source_width=image.width,
        source_height=image.height,
        resolution=price.resolution.value,
        factor=price.resolution.factor,
        output_width=price.width,
        output_height=price.height,
        upscaler_route=",".join(offer.route),
        currency=price.price.currency,
        credits=price.credits,
        cost_micro_usd=int(price.cost_usd * 1_000_000),
        price_rule=settings.model_dump(
            mode="json",
            include={
                "credits_per_megapixel", "usd_per_credit", "markup_percentage", "minimum_minor",
                "rounding", "usd_rate", "usd_rate_as_of",
            },
        ),
        checkout_expires_at=now + timedelta(minutes=settings.checkout_minutes),
        email=form.email,
        page_url=allowed_page(settings, form.page_url),
        terms_accepted_at=now if form.terms_accepted else None,
        terms_version=settings.terms_version if form.terms_accepted else None,
        capture_when_ready=settings.capture_when_ready,
        attempt=0,
        generation=0,
        refunded_minor=0,
        renewals=0,
    )  # fmt: skip


def checkout_request(settings: ShopSettings, order: Order) -> CheckoutRequest:
    """Say what the checkout page of an order must show and carry."""
    metadata = {
        "job_id": order.id,
        "order_number": order.number,
        "attachment_id": str(order.attachment_id),
        "post_id": str(order.post_id or ""),
        "resolution": order.resolution,
    }
    return CheckoutRequest(
        order_id=order.id,
        title=f"{order.title} ({order.resolution})",
        description=f"{order.output_width} × {order.output_height} pixels, order {order.number}",
        amount=Money(order.amount_minor, order.currency),
        success_url=return_url(settings, order, "success"),
        cancel_url=return_url(settings, order, "cancelled"),
        expires_at=order.checkout_expires_at,
        metadata=metadata,
        customer_email=order.email,
        image_url=None,
        capture_when_ready=order.capture_when_ready,
    )


def _remember_session(
    shop: Shop, order_id: str, checkout: CheckoutSession, amount: Money
) -> StartedCheckout:
    if checkout.url is None:
        raise InvalidInputError("The checkout page has ended already. Please start again.")
    with shop.database.write() as session:
        order = lock_order(session, order_id)
        order.stripe_session_id = checkout.id
        order.checkout_url = checkout.url
    return StartedCheckout(order_id, checkout.url, amount)


def return_url(settings: ShopSettings, order: Order, outcome: str) -> str:
    """Return where the customer goes after the checkout page: where he came from, else his order page."""
    query = {"smi_payment": outcome, "job_id": order.id}
    page = order.page_url
    if page is None:
        page = f"{settings.public_url}/order/{order.id}"
        query.pop("job_id")
    parts = urlsplit(page)
    # Stripe fills the placeholder in only if its braces are left as they are.
    session = "&session_id={CHECKOUT_SESSION_ID}" if outcome == "success" else ""
    own = urlencode(query) + session
    return urlunsplit(
        parts._replace(query=f"{parts.query}&{own}" if parts.query else own, fragment="")
    )


def page_from_referer(referer: str | None) -> str | None:
    """Return the page that a Referer names, or None where the browser sent no more than the origin.

    Such a customer would land on a home page that may know nothing of orders. `/?p=12` is a page of its
    own: WordPress names its posts so until it is told otherwise.
    """
    try:
        parts = urlsplit(referer or "")
    except ValueError:
        return None
    return referer if parts.path not in {"", "/"} or parts.query else None


def allowed_page(settings: ShopSettings, page_url: str | None) -> str | None:
    """Return the page if its origin is one of the studio's, else None.

    What an earlier purchase has put into its address is taken out: its job id is that buyer's secret, and
    the first of two is the one that a script would read.
    """
    if not page_url or len(page_url) > 2000 or not page_url.isprintable():
        return None
    try:
        parts = urlsplit(page_url)
        origin = f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        return None
    if not is_own_origin(settings, origin):
        return None
    kept = (
        piece for piece in parts.query.split("&") if piece.partition("=")[0] not in _OUR_PARAMETERS
    )
    # A space in an address is what a browser shows; Stripe wants it as it is sent.
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    query = quote("&".join(kept), safe="/?%:@!$&'()*+,;=~-._")
    return urlunsplit(parts._replace(path=path, query=query))


def is_own_origin(settings: ShopSettings, origin: str) -> bool:
    """Tell whether an origin (`https://host[:port]`) is one of the studio's."""
    if origin in settings.site_origins or origin == settings.public_url:
        return True
    if not settings.allow_loopback_origins:
        return False
    try:
        parts = urlsplit(origin)
        host = parts.hostname
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"}
        and host in _LOOPBACK_HOSTS
        and parts.username is None
        and not parts.path
    )
