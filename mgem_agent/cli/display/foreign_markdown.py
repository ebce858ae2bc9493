"""Markdown of a model or a person, as it may be written into a file that others open.

HTML in it is shown and not obeyed, and a picture at some address is named and not loaded. Code stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["disarmed_markdown", "foreign_html", "foreign_markdown", "is_steering"]

# `&lt;` and not a backslash, which some programs do not know. What begins an address is a link.
TAG = re.compile(r"<(?=[a-z/!?])(?!(?:https?://|mailto:)[^\s<>]*>)", re.IGNORECASE)
PICTURE = re.compile(r"!\[")
CODE_SPAN = re.compile(r"(?<![\\`])(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
STEERING = {"html_block", "html_inline", "image"}


def foreign_markdown(text: str) -> str:
    r"""Return Markdown without HTML and pictures; all else stays.

    Args:
        text: Markdown of anybody's.

    Examples:
        >>> foreign_markdown("**Hi** <script>x</script> `<b>` ![fox](http://example.org/fox.png)")
        '**Hi** &lt;script>x&lt;/script> `<b>` !\\[fox](http://example.org/fox.png)'
    """
    for disarm in (_outside_code, _outside_fences, disarmed_markdown):
        told = disarm(text)
        if not is_steering(told):  # what is code to us may be none to a program: then it is disarmed as well
            return told
    return told


def foreign_html(text: str) -> str:
    r"""Return Markdown as HTML, with the words and the address of a picture in the picture's place.

    Args:
        text: Markdown of anybody's.

    Examples:
        >>> foreign_html("Look: ![a fox](http://example.org/fox.png) <b>")
        '<p>Look: a fox (http://example.org/fox.png) &lt;b&gt;</p>\n'
    """
    return str(_parser(html=False).render(text))


@cache
def _parser(*, html: bool) -> Any:
    from markdown_it import MarkdownIt
    from markdown_it.common.utils import escapeHtml

    def name_picture(renderer: Any, tokens: Any, place: int, options: Any, env: Any) -> str:
        words = renderer.renderInlineAsText(tokens[place].children or [], options, env)
        return escapeHtml(f"{words} ({tokens[place].attrGet('src')})".lstrip())

    parser = MarkdownIt("commonmark", {"html": html}).enable(["strikethrough", "table"])
    parser.add_render_rule("image", name_picture)
    return parser


def is_steering(text: str) -> bool:
    """Whether Markdown has HTML or pictures that a program might obey.

    Args:
        text: Markdown.
    """
    tokens = _parser(html=True).parse(text)
    return any(each.type in STEERING for token in tokens for each in (token, *(token.children or ())))


def disarmed_markdown(text: str) -> str:
    """Return Markdown without HTML and pictures, in code as well; safe wherever it is put.

    Args:
        text: Markdown of anybody's.
    """
    return PICTURE.sub(r"!\\[", TAG.sub("&lt;", text))


def _outside_spans(text: str) -> str:
    """Disarm what is no code within a line or a paragraph."""
    pieces, end = [], 0
    for found in CODE_SPAN.finditer(text):
        pieces += [disarmed_markdown(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*pieces, disarmed_markdown(text[end:])])


def _outside_code(text: str) -> str:
    return _by_lines(text, _outside_spans)


def _outside_fences(text: str) -> str:
    return _by_lines(text, disarmed_markdown)


def _by_lines(text: str, disarm: Callable[[str], str]) -> str:
    """Disarm each run of lines that belong to no listing."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    listed = {
        number
        for token in _parser(html=False).parse("\n".join(lines))
        if token.type in ("fence", "code_block") and token.map
        for number in range(*token.map)
    }
    told: list[str] = []
    run: list[str] = []
    for number, line in enumerate(lines):
        # A code span never goes past an empty line.
        if number in listed or not line.strip():
            told += [disarm("\n".join(run)), line] if run else [line]
            run = []
        else:
            run.append(line)
    return "\n".join([*told, disarm("\n".join(run))] if run else told)
