"""Make Markdown from a model or a user safe for a file that others open.

HTML is escaped, and the address of an external picture is shown as text instead of being loaded. Code is not changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["disarmed_markdown", "foreign_html", "foreign_markdown", "is_steering"]

# Escape with `&lt;`, because some programs do not support a backslash. `<https://…>` is a link, not a tag.
TAG = re.compile(r"<(?=[a-z/!?])(?!(?:https?://|mailto:)[^\s<>]*>)", re.IGNORECASE)
PICTURE = re.compile(r"!\[")
CODE_SPAN = re.compile(r"(?<![\\`])(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
STEERING = {"html_block", "html_inline", "image"}


def foreign_markdown(text: str) -> str:
    r"""Return Markdown with HTML and pictures disarmed, and everything else unchanged.

    Args:
        text: Untrusted Markdown.

    Examples:
        >>> foreign_markdown("**Hi** <script>x</script> `<b>` ![fox](http://example.org/fox.png)")
        '**Hi** &lt;script>x&lt;/script> `<b>` !\\[fox](http://example.org/fox.png)'
    """
    for disarm in (_outside_code, _outside_fences, disarmed_markdown):
        told = disarm(text)
        if not is_steering(told):  # otherwise programs may disagree on what is code: disarm more
            return told
    return told


def foreign_html(text: str) -> str:
    r"""Return Markdown as HTML, with each picture replaced by its text and address.

    Args:
        text: Untrusted Markdown.

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
    """Whether Markdown contains HTML or pictures.

    Args:
        text: Markdown.
    """
    tokens = _parser(html=True).parse(text)
    return any(each.type in STEERING for token in tokens for each in (token, *(token.children or ())))


def disarmed_markdown(text: str) -> str:
    """Return Markdown with HTML and pictures disarmed even inside code; safe in any context.

    Args:
        text: Untrusted Markdown.
    """
    return PICTURE.sub(r"!\\[", TAG.sub("&lt;", text))


def _outside_spans(text: str) -> str:
    """Disarm text outside of inline code."""
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
    """Disarm each run of lines outside of code blocks."""
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
        # Inline code cannot span an empty line.
        if number in listed or not line.strip():
            told += [disarm("\n".join(run)), line] if run else [line]
            run = []
        else:
            run.append(line)
    return "\n".join([*told, disarm("\n".join(run))] if run else told)
