"""What can be set, its type, its limits and its meaning; and where data lives.

Two kinds of settings, and this module alone decides which is which:
`ProcessConfig` is what a process must know before it can open the database (folder, database address,
ports, where secrets are). `ShopSettings` is how the shop sells; it lives in the database, is read anew for
each piece of work and so takes effect at once in every process.
Secrets are neither: they live in the secret store.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from smi_desktop.domain.errors import ConfigurationError, InvalidInputError
from smi_desktop.domain.money import normalize_currency
from smi_desktop.domain.pricing import ExchangeRate, PriceRule, Rounding

CONFIG_FILE = "config.toml"
_TEN_YEARS = 10 * 366 * 24
_ORIGIN = re.compile(r"https?://[^\s/?#@\\]+")
_EMAIL = re.compile(r"[^@\s<>\"',;:\\()\[\]]+@[^@\s<>\"',;:\\()\[\]]+")


class Mode(StrEnum):
    """Which world the shop sells in. A rehearsal shop talks to loopback alone."""

    REHEARSAL = "rehearsal"
    TEST = "test"
    LIVE = "live"


class SecretsBackend(StrEnum):
    """Where secrets are kept."""

    KEYRING = "keyring"
    """The desktop's own keyring."""
    FILE = "file"
    """A file that its owner alone can read (0600), for a server and the rehearsal shop."""
    ENVIRONMENT = "environment"
    """Environment variables `SMI_SECRET_<NAME>`, for a server; read only."""


class UpscalerChoice(StrEnum):
    """Who makes the picture."""

    UPSAMPLER = "upsampler"
    EMBEDDED = "embedded"
    UPSAMPLER_THEN_EMBEDDED = "upsampler, then embedded"


class DeliveredFormat(StrEnum):
    """The file type that the customer gets; `auto` gives JPEG for a JPEG source, else PNG."""

    AUTO = "auto"
    PNG = "png"
    JPEG = "jpeg"


class ProcessConfig(BaseSettings):
    """What a process knows before it opens the database.

    Read from the environment (`SMI_DATABASE_URL` and so on), then from `config.toml` in the data folder.
    """

    model_config = SettingsConfigDict(env_prefix="SMI_", extra="forbid", frozen=True)

    data_dir: Path
    database_url: str = ""
    """SQLAlchemy address; empty for `shop.db` (SQLite) in the data folder."""
    secrets_backend: SecretsBackend = SecretsBackend.KEYRING
    mode: Mode = Mode.TEST
    relay_host: str = "127.0.0.1"
    relay_port: Annotated[int, Field(ge=0, le=65535)] = 8787
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the data folder's own file behind the environment."""
        folder = Path(init_settings()["data_dir"])
        toml = TomlConfigSettingsSource(settings_cls, folder / CONFIG_FILE)
        return init_settings, env_settings, toml

    @property
    def effective_database_url(self) -> str:
        """The database's address, with the default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'shop.db'}"


def default_data_dir() -> Path:
    """Return the folder where this person's shop lives on this system."""
    return Path(platformdirs.user_data_dir("smi-desktop", appauthor=False))


def load_process_config(data_dir: Path | None) -> ProcessConfig:
    """Read the process's configuration.

    Raises:
        ConfigurationError: A value cannot be used; the message names it.
    """
    folder = (data_dir or default_data_dir()).expanduser().absolute()
    try:
        return ProcessConfig(data_dir=folder)
    except ValueError as error:
        raise ConfigurationError(
            f"The configuration of {folder} cannot be read. {_first_problem(error)}"
        ) from error


class ShopSettings(BaseModel):
    """How the shop sells. Every field has a working default and a meaning a person can read."""

    # An infinite span would be taken here and fail at the delivery of a picture that is paid for.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # The studio
    studio_name: Annotated[str, Field(min_length=1, max_length=80)] = "My studio"
    studio_address: Annotated[str, Field(max_length=300)] = ""
    support_email: str = ""
    order_prefix: Annotated[str, Field(pattern=r"^[A-Z]{1,4}$")] = "SMI"
    time_zone: str = "UTC"
    site_origins: tuple[str, ...] = ()
    """Origins of the studio's website, such as `https://studio.example`: CORS and return addresses."""
    allow_loopback_origins: bool = False
    """Every loopback origin is one of ours (the rehearsal shop)."""
    public_url: str = "http://127.0.0.1:8787"
    """Where customers and providers reach the relay."""

    # Price
    currency: str = "usd"
    credits_per_megapixel: Annotated[Decimal, Field(gt=0)] = Decimal("0.25")
    usd_per_credit: Annotated[Decimal, Field(gt=0)] = Decimal("0.04")
    markup_percentage: Annotated[Decimal, Field(ge=0)] = Decimal(200)
    minimum_minor: Annotated[int, Field(ge=0)] = 0
    rounding: Rounding = Rounding.NEAREST
    usd_rate: Annotated[Decimal, Field(gt=0)] | None = None
    usd_rate_as_of: date | None = None
    quote_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 15

    # Checkout
    checkout_minutes: Annotated[int, Field(ge=31, le=23 * 60)] = 60
    """How long a checkout page stays open. Stripe takes 30 minutes to 24 hours, counted when it is asked."""
    terms_required: bool = False
    terms_version: str = ""
    terms_url: str = ""
    capture_when_ready: bool = False
    """Reserve the money at checkout and take it when the picture is ready, where the method can do that."""
    stripe_api_base: str = ""
    """Only for the rehearsal shop: Stripe's address on loopback."""

    # Upscaling
    upscaler: UpscalerChoice = UpscalerChoice.UPSAMPLER_THEN_EMBEDDED
    upsampler_api_base: str = "https://upsampler.com/api/v1"
    upsampler_max_output_pixels: Annotated[int, Field(gt=0)] = 50_000_000
    upsampler_image_type: Literal["realism", "anime", "universal"] = "realism"
    upsampler_deadline_seconds: Annotated[int, Field(ge=1)] = 15 * 60
    upsampler_first_poll_seconds: Annotated[float, Field(ge=0)] = 30.0
    upsampler_longest_poll_seconds: Annotated[float, Field(ge=0.1)] = 60.0
    embedded_max_output_pixels: Annotated[int, Field(gt=0)] = 400_000_000
    embedded_deadline_seconds: Annotated[int, Field(ge=1)] = 15 * 60
    embedded_deadline_seconds_per_megapixel: Annotated[float, Field(ge=0)] = 10.0
    quality_min_ssim: Annotated[float, Field(ge=0, le=1)] = 0.70
    """How alike the result, made small again, and the source must be at least (SSIM)."""
    quality_max_delta_e: Annotated[float, Field(ge=0)] = 3.0
    """How far the colours may have moved on average (CIE ΔE)."""
    delivered_format: DeliveredFormat = DeliveredFormat.AUTO
    jpeg_quality: Annotated[int, Field(ge=60, le=100)] = 95
    source_max_bytes: Annotated[int, Field(gt=0)] = 100 * 2**20
    result_max_bytes: Annotated[int, Field(gt=0)] = 2 * 2**30

    # Delivery and clean-up
    link_hours: Annotated[float, Field(gt=0, le=_TEN_YEARS)] = 24.0
    file_grace_hours: Annotated[float, Field(ge=0, le=_TEN_YEARS)] = 72.0
    """How long the file is kept after its link has ended."""
    temporary_file_hours: Annotated[float, Field(gt=0, le=_TEN_YEARS)] = 24.0
    cleanup_seconds: Annotated[float, Field(gt=0)] = 300.0

    renewals_allowed: Annotated[int, Field(ge=0, le=100)] = 3
    """How often a customer may renew an expired link himself while its file is kept."""
    reminder_hours: Annotated[float, Field(ge=0, le=_TEN_YEARS)] = 4.0
    """How long before the end of a link its customer is reminded, if he has not downloaded; 0 is never."""
    delayed_minutes: Annotated[float, Field(ge=0, le=_TEN_YEARS * 60)] = 60.0
    """When a customer who still waits for his picture is told so; 0 is never."""

    # When something goes wrong
    refund_on_failure: bool = True
    """Send the money back by itself when a picture cannot be made; otherwise a person is asked."""
    refunds_per_hour: Annotated[int, Field(ge=0)] = 30
    """The most refunds an hour that leave by themselves: a provider's bad day must not empty the till."""
    account_failures: Annotated[int, Field(ge=1)] = 3
    """How many refusals of our account in a row stop the work for a provider."""
    account_wait_seconds: Annotated[float, Field(gt=0, le=_TEN_YEARS * 3600)] = 300.0
    """How often a provider that refuses our account is tried again."""
    alert_email: str = ""
    """Where the owner is told what needs him; empty for nowhere but the program itself."""

    # Mail
    smtp_host: str = ""
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = 465
    smtp_security: Literal["tls", "starttls", "none"] = "tls"
    """`none` is accepted for a loopback server alone."""
    smtp_user: str = ""
    mail_from: str = ""
    mail_from_name: Annotated[str, Field(max_length=80)] = ""

    # The relay's limits
    webhook_max_bytes: Annotated[int, Field(gt=0)] = 256 * 1024
    body_max_bytes: Annotated[int, Field(gt=0)] = 64 * 1024
    body_seconds: Annotated[float, Field(gt=0)] = 20.0
    rate_per_address_per_minute: Annotated[int, Field(gt=0)] = 300
    rate_checkout_per_address_per_minute: Annotated[int, Field(gt=0)] = 20
    rate_checkout_per_image_per_minute: Annotated[int, Field(gt=0)] = 60
    rate_checkout_shop_per_minute: Annotated[int, Field(gt=0)] = 300
    rate_bad_token_per_address_per_minute: Annotated[int, Field(gt=0)] = 30
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose X-Forwarded-For is believed."""

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            ip_network(proxy, strict=False)
        return value

    @field_validator("currency")
    @classmethod
    def _currency_is_a_code(cls, value: str) -> str:
        try:
            return normalize_currency(value)
        except InvalidInputError as error:
            raise ValueError(error.message) from error

    @field_validator("site_origins")
    @classmethod
    def _are_origins(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        """Browsers send an origin in small letters and without a slash at its end."""
        origins = tuple(value.rstrip("/").lower() for value in values)
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"'{origin}' is not an origin such as 'https://studio.example'")
        return origins

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"'{value}' is not a time zone such as 'Europe/Berlin'")
        return value

    @field_validator("support_email", "mail_from", "alert_email")
    @classmethod
    def _is_one_address(cls, value: str) -> str:
        if value and not is_email_address(value):
            raise ValueError(f"'{value}' is not one e-mail address")
        return value

    @field_validator("public_url", "upsampler_api_base", "stripe_api_base")
    @classmethod
    def _is_web_address(cls, value: str, about: ValidationInfo) -> str:
        if not value and about.field_name == "stripe_api_base":
            return value
        if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
            raise ValueError(f"'{value}' is not a web address")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _rate_has_a_date(self) -> ShopSettings:
        if (self.usd_rate is None) != (self.usd_rate_as_of is None):
            raise ValueError("an exchange rate and its date belong together")
        return self

    @property
    def price_rule(self) -> PriceRule:
        """The constants of the price formula."""
        return PriceRule(
            credits_per_megapixel=self.credits_per_megapixel,
            usd_per_credit=self.usd_per_credit,
            markup_percentage=self.markup_percentage,
            minimum_minor=self.minimum_minor,
            rounding=self.rounding,
            currency=self.currency,
        )

    @property
    def exchange_rate(self) -> ExchangeRate | None:
        """The shop's exchange rate, if it has set one."""
        if self.usd_rate is None or self.usd_rate_as_of is None:
            return None
        return ExchangeRate(self.usd_rate, self.usd_rate_as_of)

    @property
    def zone(self) -> ZoneInfo:
        """The shop's time zone."""
        return ZoneInfo(self.time_zone)

    @property
    def sender_name(self) -> str:
        """The name that mails come from."""
        return self.mail_from_name or self.studio_name

    @property
    def contact_email(self) -> str:
        """Where customers can write."""
        return self.support_email or self.mail_from


def is_email_address(text: str) -> bool:
    """Tell whether the text is exactly one plausible address that is safe in a header."""
    if len(text) > 254 or not _EMAIL.fullmatch(text) or not text.isprintable():
        return False
    local, _, domain = text.rpartition("@")
    labels = domain.split(".")
    return (
        len(local) <= 64
        and not local.startswith(".")
        and not local.endswith(".")
        and ".." not in local
        # A customer's address without a dot is a slip, and Stripe refuses it.
        and len(labels) > 1
        and all(label and not label.startswith("-") and not label.endswith("-") for label in labels)
    )


def validate_settings(values: dict[str, object]) -> ShopSettings:
    """Build settings from stored or given values.

    Raises:
        ConfigurationError: A value cannot be used; the message names the first one.
    """
    try:
        return ShopSettings.model_validate(values)
    except ValueError as error:
        raise ConfigurationError(f"This setting cannot be used. {_first_problem(error)}") from error


def _first_problem(error: ValueError) -> str:
    problems = getattr(error, "errors", None)
    if problems is None:
        return str(error)
    first = problems(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
