"""Markdown of anybody's in files that others open."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mgem_agent.foreign_markdown import foreign_html, foreign_markdown


def steering(text: str) -> list[str]:
    """Kinds of tokens that a program with HTML switched on would obey."""
    tokens = MarkdownIt("commonmark", {"html": True}).parse(text)
    kinds = [each.type for token in tokens for each in (token, *(token.children or ()))]
    return [kind for kind in kinds if kind in ("html_block", "html_inline", "image")]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>", "a <img src=x onerror=alert(1)> b", "<!-- x", "<?php", "<div>\n\ntext", "</p>",
        "![x](http://example.org/x.png)", "![x][y]\n\n[y]: http://example.org/x.png", "[![x](http://a/b)](http://c)",
        "`a` <b> `c`", "``a ` <b>`` <i>", "\\` <b> `", "```\nfine\n```\n<b>", "> ```\n> <b>\n\n<i>", "`<b>\n\n`",
        "- a\n\n      <b>\n\n<b>", "<javascript:alert(1)>", "<svg/onload=x>", "`` `<b>", "<b\n>",
    ],
)  # fmt: skip
def test_html_and_pictures_are_shown_and_not_obeyed(text: str) -> None:
    assert steering(foreign_markdown(text)) == []
    page = foreign_html(text)
    assert not any(tag in page for tag in ("<script", "<img", "<b>", "<i>", "<div", "<svg", "<!--", "<?"))


@pytest.mark.parametrize(
    "text",
    [
        "", "# Head\n\n* **a** _b_ ~~c~~\n* 1 < 2 > 0", "`<b>` and ``<i> ` <u>``", "```html\n<b>![x](y)</b>\n```",
        "    <indented>", "<https://example.org/a?b=c>", "[a](http://example.org)", "| a | b |\n|---|---|\n| 1 | 2 |",
        "wow! [a](b)", "line  \nbreak\\\nend\n",
    ],
)  # fmt: skip
def test_all_else_stays(text: str) -> None:
    assert foreign_markdown(text) == text


PIECES = st.sampled_from(
    ["<b>", "<script>", "</b>", "![", "](x)", "[", "]", "`", "``", "```", "~~~", "\n", "\n\n", "    ", "> ", "- ",
     "1. ", "\\", "<!--", "-->", "&lt;", "a", " ", "<", ">", "!", "|", "\t", "\r", "<http://x>", "<a@b.c>", "[y]: z"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_no_markdown_steers_whatever_it_is_made_of(text: str) -> None:
    assert steering(foreign_markdown(text)) == []
