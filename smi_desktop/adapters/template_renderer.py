"""Fills the e-mails and the customer's pages in.

This module alone decides how a value becomes text that a customer reads: escaping, times with
their zone, file sizes, the one line of a subject. Templates get plain values only and run in a
sandbox; no database object, no service and no Qt may enter.

A missing value or template is our own bug: it fails loudly (jinja2's errors) instead of leaving a
hole in a mail that was paid for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

import css_inline
from jinja2 import FileSystemLoader, StrictUndefined, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from smi_desktop.domain.money import Money
from smi_desktop.domain.printing import PrintSize, print_size
from smi_desktop.resources import resource_path
from smi_desktop.services.ports import RenderedMail

_NAME: Final = re.compile(r"[a-z][a-z_]{0,40}")
_WEB_ADDRESS: Final = re.compile(r"https?://[^\s/]|/(?![/\\])")
_SUBJECT_LENGTH: Final = 150
_PLAIN: Final = (str, int, float, datetime, Money, PrintSize, type(None))

# Own names: strftime follows the process's locale, which a desktop toolkit may change.
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
)  # fmt: skip
_NOON: Final = 12
_KILO: Final = 1000


class TimeStyle(StrEnum):
    """How much of a moment is printed."""

    FULL = "full"
    """Tuesday, November 24, 2026, 6:34 PM EST"""
    SHORT = "short"
    """Tue, Nov 24, 6:34 PM EST"""
    BARE = "bare"
    """Tue, Nov 24, 6:34 PM, where the zone stands elsewhere on the page."""


class JinjaRenderer:
    """Fills the templates of `resources/emails` and `resources/pages`."""

    def __init__(self) -> None:
        """Prepare the sandbox; templates are read when they are first filled."""
        root = resource_path("emails").parent
        self._environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader([root]),
            autoescape=select_autoescape(enabled_extensions=("html",), default=False),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            localtime=format_local_time,
            utctime=format_utc_time,
            zonename=describe_zone,
            filesize=format_file_size,
            oneline=flatten_to_one_line,
            weburl=web_address_or_nothing,
        )
        self._environment.globals.update(print_size=print_size)
        # Remote styles are refused: filling a template must never reach for the network.
        self._inliner = css_inline.CSSInliner(
            keep_at_rules=True, load_remote_stylesheets=False, remove_inlined_selectors=True
        )

    def mail(self, kind: str, values: Mapping[str, Any]) -> RenderedMail:
        """Fill `resources/emails/{kind}` in, with the styles inside the tags for mail programs.

        Raises:
            ValueError: The name is not a template's, or a time has no zone.
            TypeError: A value is not plain.
            jinja2.TemplateError: A template or a value that it prints is missing.
        """
        plain = _checked(kind, values)
        subject, html, text = (
            self._fill(f"emails/{kind}.{part}", plain) for part in ("subject.txt", "html", "txt")
        )
        return RenderedMail(
            subject=_shorten(flatten_to_one_line(subject), _SUBJECT_LENGTH),
            html=self._inliner.inline(html),
            text=text.strip() + "\n",
        )

    def page(self, name: str, values: Mapping[str, Any]) -> str:
        """Fill `resources/pages/{name}.html` in.

        Raises:
            ValueError, TypeError, jinja2.TemplateError: As `mail`.
        """
        return self._fill(f"pages/{name}.html", _checked(name, values))

    def _fill(self, path: str, values: Mapping[str, Any]) -> str:
        return self._environment.get_template(path).render(values)


def format_local_time(moment: datetime, zone: str, style: str = TimeStyle.FULL) -> str:
    """Print an aware time in the zone of that IANA name, e.g. `Tue, Nov 24, 6:34 PM EST`.

    Raises:
        ValueError: The time has no zone, or the style is unknown.
        ZoneInfoNotFoundError: There is no zone of that name.
    """
    local = _aware(moment).astimezone(ZoneInfo(zone))
    wanted = TimeStyle(style)
    day, month = _DAYS[local.weekday()], _MONTHS[local.month - 1]
    hour = local.hour % _NOON or _NOON
    clock = f"{hour}:{local.minute:02d} {'AM' if local.hour < _NOON else 'PM'}"
    if wanted is TimeStyle.FULL:
        return f"{day}, {month} {local.day}, {local.year}, {clock} {_abbreviation(local)}"
    bare = f"{day[:3]}, {month[:3]} {local.day}, {clock}"
    return bare if wanted is TimeStyle.BARE else f"{bare} {_abbreviation(local)}"


def format_utc_time(moment: datetime, zone: str) -> str:
    """Print the same moment in UTC, with the day only where it is another than in `zone`.

    Returns:
        `23:34 UTC`, `Nov 25, 02:34 UTC`, or nothing where the zone itself is UTC.
    """
    utc = _aware(moment).astimezone(UTC)
    local = utc.astimezone(ZoneInfo(zone))
    if local.tzname() == "UTC":
        return ""
    clock = f"{utc.hour:02d}:{utc.minute:02d} UTC"
    if local.date() == utc.date():
        return clock
    return f"{_MONTHS[utc.month - 1][:3]} {utc.day}, {clock}"


def describe_zone(moment: datetime, zone: str) -> str:
    """Name a zone at that moment, e.g. `America/New York (EST, UTC-5)`, with a true minus."""
    local = _aware(moment).astimezone(ZoneInfo(zone))
    abbreviation, offset = _abbreviation(local), _offset(local)
    if abbreviation == "UTC":
        return "UTC"
    inside = offset if abbreviation == offset else f"{abbreviation}, {offset}"
    return f"{zone.replace('_', ' ')} ({inside})"


def format_file_size(size: int) -> str:
    """Print a number of bytes in decimal units, as download windows show it, e.g. `68.2 MB`."""
    if size < _KILO:
        return f"{size} bytes"
    figure = float(size)
    for unit in ("kB", "MB", "GB"):
        figure /= _KILO
        if round(figure, 1) < _KILO:
            return f"{figure:.1f} {unit}"
    return f"{figure / _KILO:.1f} TB"


def flatten_to_one_line(text: str) -> str:
    """Return the text as one line: every run of white space, line end or control becomes one blank.

    Marks that reverse the direction of writing go too: they could disguise what is written.
    """
    visible = "".join(" " if unicodedata.category(mark) == "Cc" else mark for mark in text)
    return " ".join(re.sub("[\u202a-\u202e\u2066-\u2069]", "", visible).split())


def web_address_or_nothing(address: str | None) -> str:
    """Return a web address or a path of ours as it is, and nothing for `javascript:` and its kind.

    A wrong address costs the customer one button; it must not cost him the page.
    """
    return address if address and _WEB_ADDRESS.match(address) else ""


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _checked(name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse what must not reach a template: a path for a name, a live object for a value."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a template")
    for key, value in values.items():
        if not _is_plain(value):
            type_name = type(value).__name__
            raise TypeError(f"{key!r} is a {type_name}; templates take plain values only")
    return values


def _is_plain(value: object) -> bool:
    """Tell whether a value is plain, or a list of plain values or of rows of them."""
    if isinstance(value, list):
        return all(
            all(_is_plain(cell) for cell in row.values())
            if isinstance(row, dict)
            else isinstance(row, _PLAIN)
            for row in value
        )
    return isinstance(value, _PLAIN)


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be shown to a customer")
    return moment


def _abbreviation(local: datetime) -> str:
    """Return `EST`; zones without letters (`-03`) are named by their distance from UTC."""
    name = local.tzname() or ""
    return name if name.isalpha() else _offset(local)


def _offset(local: datetime) -> str:
    minutes = int((local.utcoffset() or timedelta()).total_seconds() // 60)
    if not minutes:
        return "UTC"
    hours, rest = divmod(abs(minutes), 60)
    sign = "\N{MINUS SIGN}" if minutes < 0 else "+"
    return f"UTC{sign}{hours}" + (f":{rest:02d}" if rest else "")
