"""The name that a customer saves his file under, whatever the picture is called."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_desktop.domain.filenames import content_disposition, download_name


def name(title: str) -> str:
    return download_name(
        title, resolution="8x", width=5120, height=3416, number="VS-7K2M9Q", ext="png"
    )


END = "_8x_5120x3416_VS-7K2M9Q.png"


@pytest.mark.parametrize(
    ("title", "start"),
    [
        ("Falcon 9 at dusk", "Falcon-9-at-dusk"),
        ("", "picture"),
        ("...", "picture"),
        ("../../etc/passwd", "etc-passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/abs/olute", "abs-olute"),
        ("a\x00b", "a-b"),
        ('a"\r\nX-Evil: 1', "a-X-Evil-1"),
        ("CON", "CON"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("c\x85d\x9be", "c-d-e"),
        ("  spaced   out  ", "spaced-out"),
        ("Zoë", "Zoë"),
        ("写真", "写真"),
        ("😀", "😀"),
        (" - . _ ", "picture"),
    ],
)
def test_a_title_becomes_a_safe_and_readable_name(title: str, start: str) -> None:
    assert name(title) == start + END


def test_a_long_title_is_cut() -> None:
    assert name("a" * 300) == "a" * 80 + END


@given(st.text(max_size=400))
def test_no_title_makes_a_name_that_a_file_system_refuses(title: str) -> None:
    found = name(title)
    assert found.endswith(END)
    assert not re.search(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\s]', found)
    assert not found.startswith((".", "-"))
    assert len(found.encode()) <= 255


@given(st.text(max_size=400))
def test_every_name_makes_one_well_formed_header(title: str) -> None:
    found = name(title)
    header = content_disposition(found)
    parsed = re.fullmatch(
        r'attachment; filename="([A-Za-z0-9._-]+)"; filename\*=UTF-8\'\'([A-Za-z0-9._~%-]+)', header
    )
    assert parsed is not None
    assert unquote(parsed[2]) == found
    assert parsed[1].endswith(END)


def test_the_plain_name_keeps_what_ascii_can_say() -> None:
    header = content_disposition(name("Zoë at sea"))
    assert 'filename="Zoe-at-sea' + END + '"' in header
    assert "filename*=UTF-8''Zo%C3%AB-at-sea" in header


def test_a_name_without_any_ascii_gets_a_plain_one_too() -> None:
    assert 'filename="picture' + END + '"' in content_disposition(name("写真"))


def test_a_name_with_hostile_characters_cannot_end_the_header() -> None:
    header = content_disposition('a"; filename=evil.exe\r\nX: 1')
    assert header.count('"') == 2
    assert "\r" not in header
    assert "\n" not in header


def test_a_long_title_of_wide_characters_is_cut_to_what_a_file_system_takes() -> None:
    found = name("😀" * 100)
    assert found == "😀" * 50 + END
    assert len(found.encode()) <= 255
