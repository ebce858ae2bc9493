"""The tokens that a chat model reports for an answer, as a callback of LangChain gets them."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

__all__ = ["answer_usage"]


def answer_usage(response: LLMResult) -> dict[str, int]:
    """Return the tokens of an answer: `input_tokens`, `output_tokens`, `image_tokens` and `cached_tokens`.

    Args:
        response: What a chat model returned; 0 where it reports nothing.
    """
    counts = {"input_tokens": 0, "output_tokens": 0, "image_tokens": 0, "cached_tokens": 0}
    for generation in (each for group in response.generations for each in group):
        message = generation.message if isinstance(generation, ChatGeneration) else None
        usage: Any = message.usage_metadata if isinstance(message, AIMessage) else None
        if usage:
            details = usage.get("input_token_details") or {}
            counts["input_tokens"] += usage["input_tokens"]
            counts["output_tokens"] += usage["output_tokens"]
            counts["image_tokens"] += int(details.get("image") or 0)
            counts["cached_tokens"] += int(details.get("cache_read") or 0)
    return counts
