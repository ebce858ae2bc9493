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
        image_tokens: Image tokens among `input_tokens`; None if the reasoner does not report them.
        cached_tokens: Tokens among `input_tokens` that came from a cache.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    image_tokens: int | None = None
    cached_tokens: int = 0


def usage_of(messages: Sequence[BaseMessage]) -> Usage:
    """Return the sum of the tokens that a reasoner's answers report.

    Args:
        messages: The messages of a turn.
    """
    found: list[Any] = [each.usage_metadata for each in messages if isinstance(each, AIMessage) and each.usage_metadata]
    details = [usage.get("input_token_details") or {} for usage in found]
    seen = [each["image"] for each in details if each.get("image") is not None]
    return Usage(
        input_tokens=sum(usage["input_tokens"] for usage in found),
        output_tokens=sum(usage["output_tokens"] for usage in found),
        image_tokens=sum(seen) if seen else None,
        cached_tokens=sum(each.get("cache_read") or 0 for each in details),
    )
