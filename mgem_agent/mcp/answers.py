"""What a tool returns, before it is written as the protocol has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcp.types import CallToolResult, ContentBlock, ResourceLink, TextContent
from pydantic import BaseModel

from mgem_agent.mcp.pictures import shortened

__all__ = ["ToolAnswer", "error_result", "success_result"]

MAX_TEXT_CHARS = 12_000
MAX_ERROR_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The answer of a tool.

    Attributes:
        text: For the model.
        facts: For the program, without bytes.
        shown: Previews and links.
    """

    text: str
    facts: BaseModel
    shown: Sequence[ContentBlock] = ()


def success_result(answer: ToolAnswer, *, has_links: bool = True) -> CallToolResult:
    """Return an answer as the result of a call.

    Args:
        answer: The answer.
        has_links: Whether links to resources are part of the content; their addresses are in the facts, too.
    """
    shown = [block for block in answer.shown if has_links or not isinstance(block, ResourceLink)]
    return CallToolResult(
        content=[TextContent(text=shortened(answer.text, MAX_TEXT_CHARS)), *shown],
        structured_content=answer.facts.model_dump(mode="json", exclude_none=True),
    )


def error_result(message: str) -> CallToolResult:
    """Return an error as the result of a call, so that the model can correct its call."""
    return CallToolResult(content=[TextContent(text=shortened(message, MAX_ERROR_CHARS))], is_error=True)
