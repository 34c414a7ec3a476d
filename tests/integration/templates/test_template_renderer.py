"""The real templates, filled with real and with hostile values."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import jinja2
import pytest
from jinja2.exceptions import SecurityError

from smi_desktop.adapters.template_renderer import JinjaRenderer
from smi_desktop.resources import resource_path
from tests.browser.page_values import LINK_END, STATES, TOKEN, order_values
from tests.integration.templates.mail_values import HOSTILE, LINK, Tags, mail_values

FACTS = [
    LINK,
    "https://shop.example/order/kq3WmD2vYtR8s1LZ0aHcXg",
    "Tuesday, November 24, 2026, 6:34 PM EST",
    "23:34 UTC",
    "5120 × 3416 pixels",
    "PNG, 68.2 MB",
    "17.0 × 11.3 in (43 × 28 cm) at 300 ppi",
    "25.6 × 17.0 in (65 × 43 cm) at 200 ppi",
    "$1.56 USD",
    "SMI-7K2M9",
    "hello@varga-studio.example",
    "12 Harbor Lane, Portland, ME",
    "Falcon 9 at dusk, enlarged 8×",
    "You get this because you bought a picture from us.",
]


@pytest.mark.parametrize("fact", FACTS)
def test_the_mail_says_it_in_its_html_and_in_its_text(renderer: JinjaRenderer, fact: str) -> None:
    mail = renderer.mail("ready", mail_values())
    html = Tags(mail.html)
    assert fact in mail.text
    assert fact in html.words or ("href", fact) in html.attributes


def test_the_full_link_is_visible_and_leads_where_it_says(renderer: JinjaRenderer) -> None:
    html = Tags(renderer.mail("ready", mail_values()).html)
    assert html.words.count(LINK) == 1
    assert html.attributes.count(("href", LINK)) == 1


def test_a_placeholder_for_the_link_survives_untouched(renderer: JinjaRenderer) -> None:
    placeholder = "https://smi.invalid/SMI-DOWNLOAD-LINK"
    mail = renderer.mail("ready", mail_values(download_url=placeholder))
    assert mail.html.count(placeholder) == 2
    assert mail.text.count(placeholder) == 1


def test_the_mail_carries_its_styles_inside_and_fetches_nothing(renderer: JinjaRenderer) -> None:
    html = renderer.mail("ready", mail_values()).html
    assert 'style="' in html
    assert "prefers-color-scheme: dark" in html
    assert "max-width: 620px" in html
    assert not re.search(r"""(?:src|background)=["']https?:""", html)
    assert not {"script", "link", "img"} & set(Tags(html).tags)


def test_pictures_are_shown_only_when_both_are_given(renderer: JinjaRenderer) -> None:
    html = renderer.mail("ready", mail_values(before_cid="a@b", after_cid="c@d")).html
    assert 'src="cid:a@b"' in html
    assert 'src="cid:c@d"' in html
    assert "cid:" not in renderer.mail("ready", mail_values(before_cid="a@b")).html


def test_the_subject_is_one_short_line_whatever_the_title(renderer: JinjaRenderer) -> None:
    title = "a\r\nBcc: all@example.com\u2028x\x00\x85y" + "z" * 500
    subject = renderer.mail("ready", mail_values(title=title)).subject
    assert subject.startswith("Your picture is ready: a Bcc: all@example.com x y")
    assert len(subject.splitlines()) == 1
    assert len(subject) == 150


def test_a_subject_is_not_escaped_as_if_it_were_html(renderer: JinjaRenderer) -> None:
    subject = renderer.mail("ready", mail_values(title="Salt & <pepper>")).subject
    assert subject == "Your picture is ready: Salt & <pepper>"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text_in_the_mail(renderer: JinjaRenderer, hostile: str) -> None:
    fields = ("title", "studio_name", "studio_address", "number", "format")
    mail = renderer.mail("ready", mail_values(**dict.fromkeys(fields, hostile)))
    html = Tags(mail.html)
    assert html.words.count(hostile) >= len(fields)
    assert not {"script", "img"} & set(html.tags)
    assert "49" not in mail.text.replace(TOKEN, "")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text_on_the_page(
    renderer: JinjaRenderer, hostile: str, state: str
) -> None:
    fields = ("title", "studio_name", "number", "contact_email", "email_masked", "page_url")
    changes = {**dict.fromkeys(fields, hostile), "checkout_url": hostile}
    html = Tags(renderer.page("order", order_values(state, picture_url=None, **changes)))
    assert hostile in html.words
    assert html.tags.count("script") == 1
    assert "img" not in html.tags
    assert not [name for name, _ in html.attributes if name.startswith("on")]
    assert ("href", hostile) not in html.attributes


@pytest.mark.parametrize("missing", sorted(set(mail_values()) - {"after_cid"}))
def test_a_missing_value_fails_loudly_in_the_mail(renderer: JinjaRenderer, missing: str) -> None:
    values = mail_values()
    del values[missing]
    with pytest.raises(jinja2.UndefinedError, match=missing):
        renderer.mail("ready", values)


def test_a_missing_value_fails_loudly_on_the_page(renderer: JinjaRenderer) -> None:
    values = order_values()
    del values["amount"]
    with pytest.raises(jinja2.UndefinedError, match="amount"):
        renderer.page("order", values)


@pytest.mark.parametrize("name", ["../order", "order.html", "", "Order", "a/b", "ready\n"])
def test_a_name_that_is_no_template_name_is_refused(renderer: JinjaRenderer, name: str) -> None:
    with pytest.raises(ValueError, match="name of a template"):
        renderer.page(name, {})


def test_an_unknown_template_is_an_error(renderer: JinjaRenderer) -> None:
    with pytest.raises(jinja2.TemplateNotFound):
        renderer.mail("unknown", mail_values())


def test_a_live_object_never_reaches_a_template(renderer: JinjaRenderer) -> None:
    with pytest.raises(TypeError, match="plain values only"):
        renderer.page("order", order_values(title=JinjaRenderer))


def test_a_naive_time_never_reaches_a_customer(renderer: JinjaRenderer) -> None:
    naive = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(ValueError, match="without a zone"):
        renderer.mail("ready", mail_values(expires_at=naive))


@pytest.mark.parametrize(
    "attack",
    [
        "{{ title.__class__.__mro__ }}",
        "{{ title|attr('__class__')|attr('__base__') }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(title) }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ print_size.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{% for i in range(1000000000) %}{% endfor %}",
        "{% set x = [] %}{{ x.append(1) }}",
        "{% import 'os' as os %}",
    ],
)
def test_the_sandbox_stops_template_code_that_reaches_out(
    renderer: JinjaRenderer, attack: str
) -> None:
    refused = (SecurityError, jinja2.UndefinedError, jinja2.TemplateNotFound, OverflowError)
    with pytest.raises(refused):
        renderer._environment.from_string(attack).render(title="x")


def test_no_template_switches_escaping_off() -> None:
    root = resource_path("pages").parent
    for template in [*root.glob("pages/*.html"), *root.glob("emails/*")]:
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape|Markup", text), template.name


@pytest.mark.parametrize("state", STATES)
def test_no_page_has_inline_script_or_style(renderer: JinjaRenderer, state: str) -> None:
    html = renderer.page("order", order_values(state))
    names = {name for name, _ in Tags(html).attributes}
    assert "style" not in names
    assert not [name for name in names if name.startswith("on")]
    assert "<style" not in html
    assert re.findall(r"<script[^>]*>(.*?)</script>", html) == [""]


EXPECTED = {
    "awaiting": ("We are waiting for your payment", "Go to payment, $1.56 USD"),
    "pending": ("Your picture is next in line", "If we cannot make it, you get $1.56 USD back."),
    "processing": ("We are enlarging your picture", "62%"),
    "processing-unknown": ("We are enlarging your picture", "Enlarging to 5120 × 3416 pixels"),
    "completed": ("Your picture is ready", "Download PNG, 68.2 MB"),
    "part-refunded": ("Your picture is ready", "Money sent back", "$0.50 USD"),
    "expired": ("This download link has expired", "Tue, Nov 24, 6:34 PM EST"),
    "expired-renewable": ("Get a fresh link", "Free. You can do this 3 more times."),
    "expired-part-refund": ("Free. You can do this once more.", "Money on its way back"),
    "failed": ("This did not work yet", "Your money is safe"),
    "failed-uncharged": ("Nothing was charged", "The payment was not taken."),
    "failed-released": ("Nothing was charged", "You were not charged.", "visible seams", "See 4×"),
    "failed-refund-planned": ("We are starting your refund", "the full amount", "being started"),
    "failed-refund-pending": ("$1.56 USD is on its way back", "not confirmed it yet", "See 4×"),
    "failed-refund-failed": (
        "A person takes care of your refund",
        "not sent yet",
        "Being looked at",
    ),
    "held": ("A person is looking at your order", "Your money is safe"),
    "held-refund-pending": ("$1.56 USD is on its way back", "not confirmed it yet"),
    "refunded": ("We sent $1.56 USD back", "Refunded", "Money sent back", "visible seams"),
    "refunded-pending": ("Refund on its way", "The bank has not confirmed it yet."),
    "refunded-after-delivery": ("We sent $1.56 USD back", "Picture ready"),
    "disputed": ("The bank is looking at this payment", "Payment questioned"),
    "abandoned": ("This order was not paid", "Try again"),
    "cancelled": ("The payment was cancelled", "Try again", "Nothing was charged"),
    "declined": ("Your payment did not go through", "Try again", "nothing was charged"),
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_of_an_order_says_what_it_means(renderer: JinjaRenderer, state: str) -> None:
    words = Tags(renderer.page("order", order_values(state))).words
    for expected in EXPECTED[state]:
        assert expected in words
    assert "SMI-7K2M9" in words
    assert "All times in America/New York" in words


@pytest.mark.parametrize("state", sorted(set(STATES) - {"completed", "part-refunded"}))
def test_only_a_live_download_has_a_download_button(renderer: JinjaRenderer, state: str) -> None:
    assert "data-download" in renderer.page("order", order_values("completed"))
    assert "data-download" not in renderer.page("order", order_values(state))


@pytest.mark.parametrize(
    "state", ["failed", "failed-refund-pending", "held", "pending", "processing", "refunded"]
)
def test_who_paid_is_never_asked_to_pay_again(renderer: JinjaRenderer, state: str) -> None:
    values = order_values(state, checkout_url="https://pay.example/c")
    words = Tags(renderer.page("order", values)).words
    assert "Go to payment" not in words
    assert "Try again" not in words


def test_without_a_known_share_no_figure_is_invented(renderer: JinjaRenderer) -> None:
    html = renderer.page("order", order_values("processing-unknown"))
    bar = re.search(r"<progress[^>]*>", html)
    assert bar
    assert "value" not in bar.group()


def test_a_page_without_scripts_refreshes_itself_only_while_something_can_change(
    renderer: JinjaRenderer,
) -> None:
    refresh = '<noscript><meta http-equiv="refresh" content="10"></noscript>'
    assert refresh in renderer.page("order", order_values("processing"))
    assert refresh not in renderer.page("order", order_values("completed"))


@pytest.mark.parametrize(
    ("mode", "band"),
    [("rehearsal", "Rehearsal shop"), ("test", "Test mode"), ("live", None)],
)
def test_a_shop_that_is_not_live_says_so(
    renderer: JinjaRenderer, mode: str, band: str | None
) -> None:
    html = renderer.page("order", order_values(mode=mode))
    assert ('class="band"' in html) is (band is not None)
    assert band is None or band in html


def test_the_page_of_an_expired_link_names_its_end_and_a_way_on(renderer: JinjaRenderer) -> None:
    values = order_values("expired", expired_at=LINK_END, order_url="https://shop.example/order/x")
    html = Tags(renderer.page("link_expired", values))
    assert "Tue, Nov 24, 6:34 PM EST" in html.words
    assert ("href", "https://shop.example/order/x") in html.attributes


@pytest.mark.parametrize("page", ["not_found", "error"])
def test_the_plain_pages_show_their_words_escaped(renderer: JinjaRenderer, page: str) -> None:
    values = {
        "studio_name": "Varga & Co",
        "contact_email": "",
        "heading": "Not here <b>",
        "message": "Please look again.",
        "asset_version": "1",
        "mode": "live",
    }
    html = Tags(renderer.page(page, values))
    assert "Not here <b>" in html.words
    assert "b" not in html.tags
    assert "mailto" not in str(html.attributes)
