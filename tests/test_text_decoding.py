"""Bytes and half characters where text comes in."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgem_agent.text_decoding import clean_text, decode_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_says_the_encoding(encoding: str) -> None:
    assert decode_text("café 🦊".encode(encoding), "It") == ("café 🦊", None)


def test_both_orders_of_bytes() -> None:
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        assert decode_text(mark + "é".encode(encoding), "It") == ("é", None)


def test_what_cannot_be_read_is_replaced_with_a_notice() -> None:
    text, notice = decode_text(b"caf\xe9", "Standard input")
    assert text == "caf\ufffd"
    assert notice == "Standard input is not valid UTF-8 at byte 3. Invalid bytes were replaced by '\ufffd'."


@given(st.text(st.characters(categories=None) | st.characters(categories=["Cs"])))
def test_clean_text_is_taken_by_every_encoder(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)
    clean_text(text).encode()


def test_halves_are_joined_and_lone_ones_replaced() -> None:
    assert clean_text("\ud83e\udd8a \udd8a\ud83e") == "🦊 \ufffd\ufffd"
    assert clean_text("plain 🦊") == "plain 🦊"
