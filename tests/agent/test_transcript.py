"""A session as Markdown."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mgem_agent.agent.transcript import transcript_markdown


def said(*texts: str, **fields: Any) -> list[dict[str, Any]]:
    empty: dict[str, Any] = {"who": "ai", "pictures": [], "failures": []}
    return [{"said": [{**empty, "text": text, **fields} for text in texts]}]


def loaded(text: str) -> list[str]:
    """What a program with HTML switched on would obey: HTML itself, and the addresses of pictures."""
    tokens = MarkdownIt("commonmark", {"html": True}).parse(text)
    every = [each for token in tokens for each in (token, *(token.children or ()))]
    return [
        str(each.attrGet("src") or each.type) for each in every if each.type in ("html_block", "html_inline", "image")
    ]


def test_html_is_shown_and_only_our_pictures_are_loaded() -> None:
    turns = said(
        "<script>alert(1)</script> ![x](http://example.org/x.png) `<b>`",
        pictures=[{"id": "img-0123", "caption": "<b> [fox] ![x](y)"}],
        failures=[{"caption": "<i>", "message": ""}],
    )
    text = transcript_markdown("<title>", turns, lambda name: f"p/{name}.png")
    assert loaded(text) == ["p/img-0123.png"]
    assert "&lt;script>alert(1)&lt;/script>" in text and "`<b>`" in text


def test_a_listing_that_is_left_open_frees_nothing_later() -> None:
    text = transcript_markdown("t", said("a\n```", "b\n```\n<script>x</script>\n```", "```\n\n<b>"))
    assert loaded(text) == []


PIECES = st.sampled_from(
    ["<b>", "![a](b)", "`", "```", "\n", "\n\n", "    ", "> ", "- ", "\\", "<!--", "a", "~~~", "["]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=10).map("".join), max_size=4))
def test_no_dialogue_steers_whatever_is_said(texts: list[str]) -> None:
    assert loaded(transcript_markdown("a", said(*texts))) == []
