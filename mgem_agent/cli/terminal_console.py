"""A rich console that removes control sequences and secrets from text.

Rich itself removes only a few control characters, and ESC is not among them. Here all text passes through
`terminal_text` before it is printed. Colours and cursor movements, which rich and the picture displays emit, are
separate segments and are not changed.
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
    """A console for untrusted text; its arguments are those of `rich.console.Console`.

    Strings are fully redacted. In other renderables, which may be a model's answer, only known secrets are hidden.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a string to text without control sequences and secrets."""
        return super().render_str(redact(terminal_text(text)), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render anything, with each text segment cleaned."""
        return map(_clean, super().render(renderable, options))


def _clean(segment: Segment) -> Segment:
    text, style, control = segment
    if control is not None or text == "\n":
        return segment
    clean = without_secrets(terminal_text(text))
    if style is not None and style.link is not None and not style.link.isprintable():
        style = style.update_link(None)
    return segment if clean == text and style is segment.style else Segment(clean, style)
