"""Settings: every field is checked, what is stored reads back, and a change takes effect at once."""

from __future__ import annotations

from dataclasses import fields
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from smi_desktop.config import (
    DeliveredFormat,
    Mode,
    ProcessConfig,
    SecretsBackend,
    ShopSettings,
    UpscalerChoice,
    default_data_dir,
    is_email_address,
    load_process_config,
    validate_settings,
)
from smi_desktop.domain.errors import ConfigurationError
from smi_desktop.domain.pricing import ExchangeRate, Rounding
from smi_desktop.services.shop import Shop
from smi_desktop.store import settings as rows
from smi_desktop.store.models import Setting
from tests.world import World

INFINITE = float("inf")

# One bad value at least for every field that has a rule.
BAD: list[tuple[str, Any]] = [
    ("studio_name", ""),
    ("studio_name", "x" * 81),
    ("studio_address", "x" * 301),
    ("support_email", "nobody"),
    ("support_email", "a@b.example, c@d.example"),
    ("order_prefix", "vs"),
    ("order_prefix", ""),
    ("order_prefix", "ABCDE"),
    ("order_prefix", "AB\n"),
    ("time_zone", "Berlin"),
    ("site_origins", ["studio.example"]),
    ("site_origins", ["https://studio.example/shop"]),
    ("site_origins", ["https://user@studio.example"]),
    ("site_origins", ["ftp://studio.example"]),
    ("site_origins", "https://studio.example"),
    ("allow_loopback_origins", "perhaps"),
    ("public_url", ""),
    ("public_url", "shop.example"),
    ("public_url", "ftp://shop.example"),
    ("public_url", "https://shop.example/?a=1"),
    ("public_url", "https://shop.example/#a"),
    ("public_url", "https://shop .example"),
    ("currency", "dollars"),
    ("credits_per_megapixel", 0),
    ("credits_per_megapixel", "NaN"),
    ("usd_per_credit", -1),
    ("markup_percentage", -1),
    ("markup_percentage", "Infinity"),
    ("minimum_minor", -1),
    ("minimum_minor", 0.5),
    ("rounding", "sideways"),
    ("usd_rate", 0),
    ("usd_rate", 2),  # without its date
    ("usd_rate_as_of", "2026-01-15"),  # without its rate
    ("usd_rate_as_of", "yesterday"),
    ("quote_minutes", 0),
    ("quote_minutes", 24 * 60 + 1),
    ("checkout_minutes", 30),
    ("checkout_minutes", 24 * 60),
    ("terms_required", "perhaps"),
    ("capture_when_ready", "perhaps"),
    ("stripe_api_base", "127.0.0.1"),
    ("upscaler", "crystal ball"),
    ("upsampler_api_base", ""),
    ("upsampler_api_base", "upsampler.com"),
    ("upsampler_max_output_pixels", 0),
    ("upsampler_image_type", "cubism"),
    ("upsampler_deadline_seconds", 0),
    ("upsampler_first_poll_seconds", -1),
    ("upsampler_first_poll_seconds", INFINITE),
    ("upsampler_longest_poll_seconds", 0),
    ("embedded_max_output_pixels", 0),
    ("embedded_deadline_seconds", 0),
    ("embedded_deadline_seconds_per_megapixel", -1),
    ("embedded_deadline_seconds_per_megapixel", INFINITE),
    ("delivered_format", "gif"),
    ("jpeg_quality", 59),
    ("jpeg_quality", 101),
    ("quality_min_ssim", -0.1),
    ("quality_min_ssim", 1.1),
    ("quality_max_delta_e", -1),
    ("quality_max_delta_e", INFINITE),
    ("source_max_bytes", 0),
    ("result_max_bytes", 0),
    ("link_hours", 0),
    ("link_hours", INFINITE),
    ("link_hours", 1e9),
    ("file_grace_hours", -1),
    ("file_grace_hours", INFINITE),
    ("file_grace_hours", 1e9),
    ("temporary_file_hours", 0),
    ("temporary_file_hours", 1e12),
    ("cleanup_seconds", 0),
    ("renewals_allowed", -1),
    ("renewals_allowed", 101),
    ("reminder_hours", -1),
    ("reminder_hours", INFINITE),
    ("reminder_hours", 1e9),
    ("delayed_minutes", -1),
    ("delayed_minutes", INFINITE),
    ("delayed_minutes", 1e9),
    ("refund_on_failure", "perhaps"),
    ("refunds_per_hour", -1),
    ("account_failures", 0),
    ("account_wait_seconds", 0),
    ("account_wait_seconds", INFINITE),
    ("account_wait_seconds", 1e15),
    ("alert_email", "nobody"),
    ("alert_email", "a@b.example, c@d.example"),
    ("smtp_port", 0),
    ("smtp_port", 65536),
    ("smtp_security", "perhaps"),
    ("mail_from", "a\r\nBcc: b@c.example"),
    ("mail_from_name", "x" * 81),
    ("webhook_max_bytes", 0),
    ("body_max_bytes", 0),
    ("body_seconds", 0),
    ("rate_per_address_per_minute", 0),
    ("rate_checkout_per_address_per_minute", 0),
    ("rate_checkout_per_image_per_minute", 0),
    ("rate_checkout_shop_per_minute", 0),
    ("rate_bad_token_per_address_per_minute", 0),
    ("trusted_proxies", "127.0.0.1"),
]
# Free text, checked where it is used.
FREE = {"terms_version", "terms_url", "smtp_host", "smtp_user"}


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_refused_and_says_so(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match="This setting cannot be used"):
        validate_settings({name: value})


def test_every_field_is_looked_at_by_a_test() -> None:
    assert {name for name, _ in BAD} | FREE == set(ShopSettings.model_fields)


def test_a_refusal_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="link_hours: "):
        validate_settings({"link_hours": "soon"})


def test_a_setting_that_nobody_knows_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="hologram: "):
        validate_settings({"hologram": True})


def test_a_rule_of_the_whole_says_what_is_wrong() -> None:
    with pytest.raises(ConfigurationError, match="rate and its date belong together"):
        validate_settings({"usd_rate": 2})


def test_the_defaults_are_valid_and_the_reference_workflows() -> None:
    found = validate_settings({})
    assert found == ShopSettings()
    assert (found.currency, found.markup_percentage, found.link_hours) == ("usd", 200, 24)
    assert found.upsampler_max_output_pixels == 50_000_000
    assert found.exchange_rate is None
    assert found.zone.key == "UTC"


EXAMPLES: dict[str, Any] = {
    "studio_name": "Varga Studio",
    "site_origins": ["https://Studio.example/", "http://localhost:8080"],
    "currency": "EUR",
    "usd_rate": "0.92",
    "usd_rate_as_of": date(2026, 1, 15),
    "credits_per_megapixel": Decimal("0.5"),
    "rounding": Rounding.CHARM,
    "upscaler": UpscalerChoice.EMBEDDED,
    "delivered_format": DeliveredFormat.JPEG,
    "time_zone": "Europe/Berlin",
    "link_hours": 36.5,
    "trusted_proxies": ["10.0.0.1"],
    "public_url": "https://shop.example/relay/",
}


def test_what_is_stored_reads_back_as_it_was_set(world: World) -> None:
    with world.database.write() as session:
        saved = rows.save(session, EXAMPLES, now=world.clock.now())
    found = world.shop.settings()
    assert found == saved
    assert found.currency == "eur"
    assert found.exchange_rate == ExchangeRate(Decimal("0.92"), date(2026, 1, 15))
    assert found.price_rule.rounding is Rounding.CHARM
    assert found.price_rule.credits_per_megapixel == Decimal("0.5")
    assert found.site_origins == ("https://studio.example", "http://localhost:8080")
    assert found.public_url == "https://shop.example/relay"
    assert found.zone.key == "Europe/Berlin"


def test_a_change_takes_effect_at_once(world: World) -> None:
    assert world.shop.settings().studio_name == "My studio"
    world.set(studio_name="Varga Studio")
    assert world.shop.settings().studio_name == "Varga Studio"
    assert world.shop.settings().sender_name == "Varga Studio"
    world.set(mail_from_name="Varga")
    assert world.shop.settings().sender_name == "Varga"


def test_none_takes_a_setting_back_to_its_default(world: World) -> None:
    world.set(studio_name="Varga Studio")
    world.set(studio_name=None)
    assert world.shop.settings().studio_name == "My studio"


def test_nothing_is_stored_unless_the_whole_is_valid(world: World) -> None:
    with pytest.raises(ConfigurationError):
        world.set(studio_name="Varga Studio", link_hours=-1)
    assert world.shop.settings().studio_name == "My studio"


def test_a_value_of_a_newer_version_is_a_clear_error(world: World) -> None:
    with world.database.write() as session:
        session.add(Setting(key="upscaler", value="quantum", updated_at=world.clock.now()))
    with pytest.raises(ConfigurationError, match="upscaler: "):
        world.shop.settings()


def test_the_contact_is_the_support_address_or_else_the_sender() -> None:
    assert ShopSettings(mail_from="shop@a.example").contact_email == "shop@a.example"
    both = ShopSettings(mail_from="shop@a.example", support_email="help@a.example")
    assert both.contact_email == "help@a.example"


@pytest.mark.parametrize(
    "address", ["jo@example.com", "jo.do+shop@sub.example.co", "JO@EXAMPLE.COM"]
)
def test_plausible_addresses_are_taken(address: str) -> None:
    assert is_email_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "", "jo", "@example.com", "jo@", "jo@@example.com", "jo do@example.com",
        "jo@example.com\r\nBcc: x@y.example", "jo@exa\x00mple.com", "<jo@example.com>",
        "jo@example.com,ed@example.com", "jo@.example.com", "jo@-example.com", "jo@example..com",
        "x" * 65 + "@example.com", "jo@" + "x" * 252, "jo\u2028@example.com", 'jo"@example.com',
    ],
)  # fmt: skip
def test_what_is_not_one_plain_address_is_refused(address: str) -> None:
    assert not is_email_address(address)


def test_a_process_finds_its_database_in_its_data_folder(tmp_path: Path) -> None:
    config = load_process_config(tmp_path)
    assert config.effective_database_url == f"sqlite:///{tmp_path / 'shop.db'}"
    assert config.mode is Mode.TEST
    assert config.secrets_backend is SecretsBackend.KEYRING


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text('mode = "live"\nrelay_port = 9000\n')
    monkeypatch.setenv("SMI_RELAY_PORT", "9001")
    monkeypatch.setenv("SMI_DATABASE_URL", "postgresql+psycopg://shop@db/shop")
    config = load_process_config(tmp_path)
    assert (config.mode, config.relay_port) == (Mode.LIVE, 9001)
    assert config.effective_database_url == "postgresql+psycopg://shop@db/shop"


@pytest.mark.parametrize(
    ("content", "words"),
    [("mode = 'dream'", "mode: "), ("colour = 'red'", "colour: "), ("mode = ", "cannot be read")],
)
def test_a_configuration_that_cannot_be_read_names_its_folder(
    tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "config.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_process_config(tmp_path)
    assert str(tmp_path) in caught.value.message


def test_without_a_folder_the_systems_own_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir().name == "smi-desktop"
    assert load_process_config(None).data_dir == default_data_dir()


def test_a_process_configuration_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    config = ProcessConfig(data_dir=tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        config.mode = Mode.LIVE  # type: ignore[misc]


def test_settings_may_be_taken_for_current_for_a_moment(world: World) -> None:
    doors = {part.name: getattr(world.shop, part.name) for part in fields(Shop) if part.repr}
    slow = Shop(**{**doors, "settings_seconds": 3600.0})
    assert slow.settings().studio_name == "My studio"
    world.set(studio_name="Varga Studio")
    assert slow.settings().studio_name == "My studio"
    assert world.shop.settings().studio_name == "Varga Studio"


def test_a_proxy_that_is_no_address_is_refused() -> None:
    assert ShopSettings(trusted_proxies=("10.0.0.0/8", "::1")).trusted_proxies
    with pytest.raises(ValueError, match="proxy"):
        ShopSettings(trusted_proxies=("proxy.example",))
