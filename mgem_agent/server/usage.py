"""The tokens of a turn, over all answers of the reasoner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

__all__ = ["Usage", "usage_of"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a turn, over all answers of the reasoner.

    Attributes:
        input_tokens: Tokens of the prompts.
        output_tokens: Tokens of the answers.
        image_tokens: Image tokens among `input_tokens`.
        cached_tokens: Tokens among `input_tokens` that came from a cache.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    image_tokens: int = 0
    cached_tokens: int = 0


def usage_of(messages: Sequence[BaseMessage]) -> Usage:
    """Return the sum of the tokens that a reasoner's answers report.

    Args:
        messages: The messages of a turn.
    """
    total = [0, 0, 0, 0]
    for message in messages:
        usage: Any = message.usage_metadata if isinstance(message, AIMessage) else None
        if usage:
            details = usage.get("input_token_details") or {}
            counts = (usage["input_tokens"], usage["output_tokens"], details.get("image"), details.get("cache_read"))
            total = [known + int(count or 0) for known, count in zip(total, counts, strict=True)]
    return Usage(*total)
