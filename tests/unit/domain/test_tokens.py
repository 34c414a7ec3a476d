"""Tokens and signed texts: derived, never stored, good for one purpose."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_desktop.domain.tokens import (
    TOKEN_LENGTH,
    derive_token,
    hash_token,
    looks_like_token,
    new_key,
    new_order_id,
    new_order_number,
    read_signed_text,
    sign_text,
)

KEY = "ab" * 32
OTHER_KEY = "cd" * 32


def test_a_token_has_64_hexadecimal_characters_and_is_always_the_same() -> None:
    token = derive_token(KEY, "download", "order", 1)
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert len(token) == TOKEN_LENGTH
    assert token == derive_token(KEY, "download", "order", 1)


@pytest.mark.parametrize(
    "other",
    [
        derive_token(OTHER_KEY, "download", "order", 1),
        derive_token(KEY, "callback", "order", 1),
        derive_token(KEY, "download", "order", 2),
        derive_token(KEY, "download", "other", 1),
        derive_token(KEY, "download", "order1"),
    ],
)
def test_another_key_purpose_or_part_gives_another_token(other: str) -> None:
    assert other != derive_token(KEY, "download", "order", 1)


def test_what_is_stored_is_a_hash_that_gives_no_token_away() -> None:
    token = derive_token(KEY, "download", "order", 1)
    assert hash_token(token) != token
    assert looks_like_token(hash_token(token))


@pytest.mark.parametrize(
    "text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "ａ" * 64]
)
def test_what_has_no_tokens_shape_is_told_before_a_look_up(text: str) -> None:
    assert not looks_like_token(text)


def test_keys_and_order_ids_are_new_each_time() -> None:
    assert len({new_key() for _ in range(50)}) == 50
    ids = {new_order_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("[0-9a-f]{48}", found) for found in ids)


def test_an_order_number_can_be_spelled() -> None:
    for _ in range(200):
        assert re.fullmatch("VS-[2-9A-HJKMNP-TV-Z]{6}|VS-[2-9A-Z]{6}", new_order_number("VS"))
        assert not set(new_order_number("VS")[3:]) & set("01ILOU")


@given(st.text())
def test_a_signed_text_reads_back_for_its_own_purpose_alone(text: str) -> None:
    signed = sign_text(KEY, "quote", text)
    assert read_signed_text(KEY, "quote", signed) == text
    assert read_signed_text(KEY, "other", signed) is None
    assert read_signed_text(OTHER_KEY, "quote", signed) is None
    assert re.fullmatch(r"[A-Za-z0-9_-]*\.[0-9a-f]{32}", signed)


@given(st.text())
def test_whatever_is_no_text_of_ours_is_none(text: str) -> None:
    assert read_signed_text(KEY, "quote", text) is None


@given(st.text(min_size=1), st.data())
def test_one_changed_character_spoils_a_signed_text(text: str, data: st.DataObject) -> None:
    signed = sign_text(KEY, "quote", text)
    place = data.draw(st.integers(0, len(signed) - 1))
    mark = data.draw(st.sampled_from("abcdefABCDEF0123456789-_.é"))
    changed = signed[:place] + mark + signed[place + 1 :]
    assert read_signed_text(KEY, "quote", changed) in {None, text}
    if place > signed.index("."):
        assert changed == signed or read_signed_text(KEY, "quote", changed) is None


@pytest.mark.parametrize("signed", ["_w.x", "\ud800.x", "YQ.\ud800", "YQ", ".", "a.b.c"])
def test_a_malformed_signed_text_is_none_and_no_error(signed: str) -> None:
    assert read_signed_text(KEY, "quote", signed) is None
