"""Opening a shop: what is made, what is refused, and in which words."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from sqlalchemy import text

from smi_desktop.adapters.clock import SystemClock
from smi_desktop.bootstrap import open_shop, presence_dir
from smi_desktop.config import (
    Mode,
    ProcessConfig,
    SecretsBackend,
    ShopSettings,
    load_process_config,
)
from smi_desktop.domain.errors import ConfigurationError, NewerDataError, RejectedError
from smi_desktop.domain.tokens import new_key
from smi_desktop.engine.presence import Presence
from smi_desktop.services.shop import (
    STRIPE_SECRET_KEY,
    TOKEN_KEY,
    UPSAMPLER_API_KEY,
    Shop,
)
from smi_desktop.store import images
from tests.integration.store.rows import image

MAIL = {"mail_from": "shop@studio.example", "smtp_security": "none"}


def config(folder: Path, **changes: Any) -> ProcessConfig:
    return ProcessConfig(
        data_dir=folder, **{"secrets_backend": SecretsBackend.FILE, "mode": Mode.TEST, **changes}
    )


@contextmanager
def shop_of(folder: Path, **changes: Any) -> Iterator[Shop]:
    """Open a shop that has every key."""
    with open_shop(config(folder, **changes)) as shop:
        live = shop.mode is Mode.LIVE
        shop.secrets.set(STRIPE_SECRET_KEY, "sk_live_1" if live else "sk_test_1")
        shop.secrets.set(UPSAMPLER_API_KEY, "up_1")
        yield shop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shop"


def open_and_close(config: ProcessConfig) -> None:
    with open_shop(config):
        pass


# What is made


def test_an_empty_folder_becomes_a_shop_that_is_still_there_the_next_time(folder: Path) -> None:
    with open_shop(config(folder)) as shop:
        key = shop.secret(TOKEN_KEY)
        with shop.database.write() as session:
            session.add(image())
        assert shop.settings() == ShopSettings()
        assert not shop.livemode
    with open_shop(config(folder)) as shop:
        assert shop.secret(TOKEN_KEY) == key
        with shop.database.read() as session:
            assert images.count(session) == 1


def test_everything_is_its_owners_alone_whatever_the_umask(folder: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with shop_of(folder) as shop, Presence(presence_dir(config(folder))):
            (tmp_path / "file").write_bytes(b"picture")
            shop.files.put("results/SMI-1/1.png", tmp_path / "file")
            modes = {
                path.relative_to(folder).as_posix(): stat.S_IMODE(path.stat().st_mode)
                for path in [folder, *folder.rglob("*")]
            }
            kinds = {name: (folder / name).is_dir() for name in modes}
    finally:
        os.umask(before)
    assert {"shop.db", "shop.db-wal", "shop.db-shm", "secrets.json", "work", "engines"} <= set(
        modes
    )
    too_open = {
        name: oct(mode) for name, mode in modes.items() if mode != (0o700 if kinds[name] else 0o600)
    }
    assert too_open == {}


def test_a_folder_that_others_could_read_is_closed_to_them(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    open_and_close(config(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_everybody_shares_is_refused_and_left_as_it_was(folder: Path) -> None:
    """`--data /tmp` as root must not lock everybody else out of it."""
    folder.mkdir()
    folder.chmod(0o1777)
    with pytest.raises(ConfigurationError, match="share"):
        open_and_close(config(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert list(folder.iterdir()) == []


def test_a_shop_opens_on_postgresql(folder: Path, postgres_database: Any) -> None:
    url = postgres_database.engine.url.render_as_string(hide_password=False)
    with open_shop(config(folder, database_url=url)) as shop:
        assert not shop.database.is_sqlite
        with shop.database.write() as session:
            session.add(image())
    assert not (folder / "shop.db").exists()
    with postgres_database.read() as session:
        assert images.count(session) == 1


def test_only_a_rehearsals_clock_can_be_moved(tmp_path: Path) -> None:
    real = SystemClock()
    for mode, moved in ((Mode.REHEARSAL, True), (Mode.TEST, False), (Mode.LIVE, False)):
        with open_shop(config(tmp_path / mode, mode=mode)) as shop:
            (tmp_path / mode / "clock-offset").write_text("86400")
            ahead = shop.now() - real.now()
        assert (ahead > timedelta(hours=23)) is moved


# What is refused


KEYS = ["sk_test_1", "rk_test_1", "sk_live_1", "rk_live_1"]


@pytest.mark.parametrize(
    ("mode", "base", "taken"),
    [
        (Mode.TEST, "", ["sk_test_1", "rk_test_1"]),
        (Mode.LIVE, "", ["sk_live_1", "rk_live_1"]),
        (Mode.REHEARSAL, "http://127.0.0.1:9", ["sk_test_1", "rk_test_1"]),
    ],
)
def test_a_shop_takes_only_a_key_of_its_own_mode(
    folder: Path, mode: Mode, base: str, taken: list[str]
) -> None:
    settings = ShopSettings(stripe_api_base=base)
    found, said = [], []
    with shop_of(folder, mode=mode) as shop:
        for key in KEYS:
            shop.secrets.set(STRIPE_SECRET_KEY, key)
            try:
                shop.payments(settings)
            except ConfigurationError as error:
                said.append(error.message)
            else:
                found.append(key)
    assert found == taken
    assert len(said) == len(KEYS) - len(taken)
    assert not any(key in message for key in KEYS for message in said)


def accepted(door: Callable[[ShopSettings], object], field: str, bases: list[str]) -> list[str]:
    """Return the addresses that a door does not refuse."""
    found = []
    for base in bases:
        with suppress(ConfigurationError):
            door(ShopSettings.model_validate({field: base}))
            found.append(base)
    return found


LOOPBACK = [
    "http://127.0.0.1:9",
    "http://127.0.0.2:9",
    "http://localhost:9",
    "http://LocalHost:9",
    "http://[::1]:9",
    "https://127.0.0.1:9",
]
PUBLIC = [
    "https://api.stripe.com",
    "https://127.0.0.1.evil.example",
    "https://127.0.0.1@evil.example",
    "https://localhost.evil.example",
    "https://192.168.0.1",
    "https://0.0.0.0",
]


@pytest.mark.parametrize("mode", [Mode.TEST, Mode.LIVE])
def test_a_real_shop_never_talks_to_a_rehearsals_providers(folder: Path, mode: Mode) -> None:
    with shop_of(folder, mode=mode) as shop:
        assert accepted(shop.payments, "stripe_api_base", LOOPBACK) == []
        assert accepted(shop.remote_upscaler, "upsampler_api_base", LOOPBACK) == []


def test_a_real_shop_sends_its_stripe_key_to_stripe_alone(folder: Path) -> None:
    with shop_of(folder, mode=Mode.LIVE) as shop:
        for base in ("https://evil.example", "http://api.stripe.com"):
            with pytest.raises(ConfigurationError):
                shop.payments(ShopSettings(stripe_api_base=base))


def test_a_real_shop_sends_no_key_in_the_clear(folder: Path) -> None:
    with shop_of(folder, mode=Mode.LIVE) as shop:
        with pytest.raises(ConfigurationError, match="https"):
            shop.remote_upscaler(ShopSettings(upsampler_api_base="http://upsampler.com/api/v1"))
        assert shop.remote_upscaler(ShopSettings()).name == "upsampler"


def test_a_rehearsal_never_talks_to_the_real_world(folder: Path) -> None:
    with shop_of(folder, mode=Mode.REHEARSAL) as shop:
        assert accepted(shop.payments, "stripe_api_base", PUBLIC) == []
        assert accepted(shop.remote_upscaler, "upsampler_api_base", PUBLIC) == []
        assert accepted(shop.payments, "stripe_api_base", LOOPBACK) == LOOPBACK
        assert accepted(shop.remote_upscaler, "upsampler_api_base", LOOPBACK) == LOOPBACK


def test_a_rehearsal_without_addresses_of_its_own_does_not_fall_back_on_the_real_ones(
    folder: Path,
) -> None:
    with shop_of(folder, mode=Mode.REHEARSAL) as shop:
        with pytest.raises(ConfigurationError):
            shop.payments(ShopSettings())
        with pytest.raises(ConfigurationError):
            shop.remote_upscaler(ShopSettings())


def test_a_rehearsal_mails_nobody_in_the_real_world(folder: Path) -> None:
    with shop_of(folder, mode=Mode.REHEARSAL) as shop:
        real = {**MAIL, "smtp_security": "tls"}
        with pytest.raises(ConfigurationError):
            shop.mailer(ShopSettings(smtp_host="smtp.studio.example", **real))
        assert shop.mailer(ShopSettings(smtp_host="127.0.0.1", **MAIL))


def test_only_a_rehearsal_fetches_from_this_machine(tmp_path: Path) -> None:
    with shop_of(tmp_path / "live", mode=Mode.LIVE) as shop, pytest.raises(RejectedError):
        shop.fetcher(shop.settings()).fetch(
            "http://127.0.0.1:9/x.png", tmp_path / "x", max_bytes=100
        )


def test_what_is_missing_is_named(folder: Path) -> None:
    with open_shop(config(folder)) as shop:
        settings = ShopSettings()
        with pytest.raises(ConfigurationError, match=STRIPE_SECRET_KEY):
            shop.payments(settings)
        with pytest.raises(ConfigurationError, match=UPSAMPLER_API_KEY):
            shop.remote_upscaler(settings)
        with pytest.raises(ConfigurationError, match="mail_from"):
            shop.mailer(settings)
        with pytest.raises(ConfigurationError, match="mail server"):
            shop.mailer(ShopSettings(mail_from="shop@studio.example"))


def test_a_new_key_or_address_is_used_at_once_and_an_old_one_kept(folder: Path) -> None:
    with shop_of(folder) as shop:
        first = shop.payments(ShopSettings())
        assert shop.payments(ShopSettings(studio_name="Other")) is first
        shop.secrets.set(STRIPE_SECRET_KEY, "sk_test_2")
        assert shop.payments(ShopSettings()) is not first
        upscaler = shop.remote_upscaler(ShopSettings())
        other = ShopSettings(upsampler_image_type="anime")
        assert shop.remote_upscaler(other) is not upscaler


# Where secrets are


def test_the_environments_secrets_are_enough_and_never_made_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = config(folder, secrets_backend=SecretsBackend.ENVIRONMENT)
    with pytest.raises(ConfigurationError, match="SMI_SECRET_TOKEN_KEY"):
        open_and_close(environment)
    key = new_key()
    monkeypatch.setenv("SMI_SECRET_TOKEN_KEY", key)
    with open_shop(environment) as shop:
        assert shop.secret(TOKEN_KEY) == key
    assert not (folder / "secrets.json").exists()


@pytest.fixture
def chosen_keyring() -> Iterator[None]:
    """Put the keyring back that the test has replaced."""
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


@pytest.mark.usefixtures("chosen_keyring")
@pytest.mark.parametrize("backend", [fail.Keyring(), null.Keyring()])
def test_a_keyring_that_keeps_nothing_is_refused_with_advice(
    folder: Path, backend: KeyringBackend
) -> None:
    keyring.set_keyring(backend)
    with pytest.raises(ConfigurationError, match="secrets_backend"):
        open_and_close(config(folder, secrets_backend=SecretsBackend.KEYRING))


def test_secrets_that_others_can_read_are_refused(folder: Path) -> None:
    open_and_close(config(folder))
    (folder / "secrets.json").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        open_and_close(config(folder))


# Configuration and data that cannot be used


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("relay_port = 'many'", "relay_port"),
        ("relay_port = 70000", "relay_port"),
        ("mode = 'production'", "mode"),
        ("log_level = 'LOUD'", "log_level"),
        ("hologram = true", "hologram"),
        ("relay_port = ", "Invalid value"),
        ("\x00", "config"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_said_clearly(
    folder: Path, words: str, named: str
) -> None:
    folder.mkdir()
    (folder / "config.toml").write_text(words)
    with pytest.raises(ConfigurationError, match=named) as caught:
        load_process_config(folder)
    assert str(folder) in caught.value.message


def test_a_config_file_is_read_and_the_environment_wins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    (folder / "config.toml").write_text("mode = 'rehearsal'\nrelay_port = 1234\n")
    monkeypatch.setenv("SMI_RELAY_PORT", "4321")
    found = load_process_config(folder)
    assert (found.mode, found.relay_port) == (Mode.REHEARSAL, 4321)
    assert found.effective_database_url == f"sqlite:///{folder / 'shop.db'}"


def test_data_of_a_newer_version_is_refused_clearly_and_nothing_is_made_up(folder: Path) -> None:
    with open_shop(config(folder)) as shop, shop.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    (folder / "secrets.json").unlink()
    with pytest.raises(NewerDataError, match="newer version"):
        open_and_close(config(folder))
    assert not (folder / "secrets.json").exists()


@pytest.mark.parametrize("url", ["mysql://host/shop", "sqlite://", "nonsense"])
def test_a_database_that_cannot_be_used_is_refused_clearly(folder: Path, url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_and_close(config(folder, database_url=url))


def test_a_damaged_database_is_refused_clearly(folder: Path) -> None:
    folder.mkdir()
    (folder / "shop.db").write_bytes(b"not a database " * 1000)
    with pytest.raises(ConfigurationError, match="backup"):
        open_and_close(config(folder))


def test_a_folder_that_cannot_be_made_is_refused_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "shop"):
        with pytest.raises(ConfigurationError, match="data folder"):
            open_and_close(config(place))
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "work").write_text("in the way")
    with pytest.raises(ConfigurationError):
        open_and_close(config(tmp_path / "shop"))
