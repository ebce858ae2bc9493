"""A rich console that foreign text cannot steer and that shows no secret.

Rich writes what it is given: only a few control characters are taken out, and ESC is none of them. Here every piece of
text passes through `terminal_text` on its way to the terminal. What rich and the displays of pictures write themselves,
colours and movements of the cursor, travels apart from the text and stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from mgem_agent.redaction import redact, without_secrets
from mgem_agent.tools.printable_text import terminal_text

__all__ = ["TerminalConsole"]


class TerminalConsole(Console):
    """A console for foreign text; its arguments are those of `rich.console.Console`.

    A string is redacted as a message of ours. In text that was rendered from anything else only known secrets are
    hidden: it may be a model's answer.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into text without what a terminal would obey, and without secrets."""
        return super().render_str(redact(terminal_text(text)), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render anything, each piece of text clean."""
        return map(_clean, super().render(renderable, options))


def _clean(segment: Segment) -> Segment:
    text, style, control = segment
    if control is not None or text == "\n":
        return segment
    clean = without_secrets(terminal_text(text))
    if style is not None and style.link is not None and not style.link.isprintable():
        style = style.update_link(None)
    return segment if clean == text and style is segment.style else Segment(clean, style)
