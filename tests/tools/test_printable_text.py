"""Control characters and joiners in what is drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgem_agent.gen.markup import clean_caption
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.printable_text import printable_text, terminal_text

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
RAINBOW = "\U0001f3f3\ufe0f\u200d\U0001f308"
SKIN = "\U0001f469\U0001f3fd\u200d\U0001f680"
SHAKING = "\U0001f642\u200d\u2194\ufe0f"
PERSIAN = "می\u200cخواهم"
HINDI = "क्\u200dष"


@pytest.mark.parametrize("text", [FAMILY, RAINBOW, SKIN, SHAKING, PERSIAN, HINDI])
def test_joiners_within_emoji_and_words_stay(text: str) -> None:
    assert printable_text(text) == text
    assert clean_caption(f"  a {text}\n") == f"a {text}"
    assert ImageRequest(prompt=f"a {text}").prompt == f"a {text}"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("\u200da fox\u200c", "a fox"),
        ("a\u200d fox, \u200cred", "a fox, red"),
        ("a\u200d\u200db", "ab"),
        ("a\u200d\x00b", "a b"),
        ("1\u200d2", "12"),
        ("<\u200dh>", "<h>"),
        ("a\u200bb", "a b"),
        ("a\nb", "a b"),
    ],
)
def test_what_joins_nothing_goes(text: str, clean: str) -> None:
    assert printable_text(text) == clean


def test_what_is_to_be_kept_stays() -> None:
    assert printable_text("a\x07b\nc", keep="\n") == "a b\nc"


@given(st.text(st.sampled_from(["a", "1", " ", "\u200c", "\u200d", "\x00", "\n", "\U0001f469", "\ufe0f", "م"])))
def test_it_leaves_alone_what_it_has_cleaned(text: str) -> None:
    once = printable_text(text, keep="\n")
    assert printable_text(once, keep="\n") == once
    assert not set(once) & {"\x00"}


FLAG = "🏴\U000e0067\U000e0062\U000e007f"


@pytest.mark.parametrize("text", [FAMILY, RAINBOW, SKIN, SHAKING, PERSIAN, HINDI, FLAG, "a\tb\nc"])
def test_a_terminal_shows_what_is_legitimate(text: str) -> None:
    assert terminal_text(text) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b]0;PWN\x07title", "title"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9d0;PWN\x9ctitle", "title"),
        ("\x1b[31mred\x1b[0m \x9b2Jtext", "red text"),
        ("\x1bPq#0;2\x1b\\sixel", "sixel"),
        ("\x1b]52;c;open", "]52;c;open"),
        ("a\r\nb\rc\bd\x7f\x00\x85", "a\nbcd"),
        ("invoice\u202egpj.exe", "invoicegpj.exe"),
        ("half \ud83e", "half \ufffd"),
    ],
)
def test_a_terminal_obeys_no_text(text: str, plain: str) -> None:
    assert terminal_text(text) == plain


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Lu", "Po", "Ps", "Pe", "Nd"])))
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    assert not any(sign < " " or "\x7f" <= sign <= "\x9f" for sign in terminal_text(text) if sign not in "\n\t")
