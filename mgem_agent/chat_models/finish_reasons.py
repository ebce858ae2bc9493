"""Read why an answer ended from each provider's metadata, and return a notice for the user.

Providers report it under different keys and names, which are listed in `_NAMES` and `_WORDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mgem_agent.chat_models.text_engine import FinishReason

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

__all__ = ["EMPTY_NOTICE", "finish_notice", "read_finish_reason", "refusal_text"]

_NAMES = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_WORDS: Mapping[str, FinishReason] = {
    # OpenAI's chat completions and the servers that speak it
    **dict.fromkeys(("stop", "tool_calls", "function_call", "eos", "eos_token", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens"), "length"),
    **dict.fromkeys(("cancelled", "abort", "aborted"), "cancelled"),
    "refusal": "refusal",
    **dict.fromkeys(("content_filter", "content_filtered", "guardrail_intervened", "error_toxic"), "content_filter"),
    # Anthropic and Bedrock
    **dict.fromkeys(("end_turn", "tool_use", "pause_turn"), "stop"),
    "model_context_window_exceeded": "length",
    # Gemini
    **dict.fromkeys(
        ("safety", "recitation", "blocklist", "prohibited_content", "spii", "image_safety"), "content_filter"
    ),
    # Cohere
    "complete": "stop",
    # ours
    "other": "other",
}

_NOTICES: Mapping[FinishReason, str] = {
    "length": "The answer reached its token limit and was cut off.",
    "refusal": "The model refused to answer.",
    "content_filter": "The provider withheld the answer: its content filter was triggered.",
    "other": "The answer ended early, and the provider gave no known reason.",
}
_EMPTY = "The answer is empty."
EMPTY_NOTICE = f"{_EMPTY} Ask again, or rephrase the question."
"""The notice for an empty answer that ended normally."""


def read_finish_reason(message: AIMessage) -> FinishReason | None:
    """Return why an answer ended; None if the provider does not report it.

    Args:
        message: A complete answer.
    """
    if refusal_text(message):
        return "refusal"
    metadata: Mapping[str, Any] = message.response_metadata
    said = next((metadata[name] for name in _NAMES if metadata.get(name)), None)
    if said is None and metadata.get("status") == "incomplete":  # OpenAI's responses
        said = (metadata.get("incomplete_details") or {}).get("reason", "other")
    if said is None:
        return None
    return _WORDS.get(str(getattr(said, "name", said)).rpartition(".")[2].lower(), "other")


def refusal_text(message: AIMessage) -> str:
    """Return the text of a refusal that a provider returns separately from the answer; empty if there is none."""
    if said := message.additional_kwargs.get("refusal"):
        return str(said)
    if isinstance(message.content, str):
        return ""
    blocks = [block for block in message.content if isinstance(block, Mapping) and block.get("type") == "refusal"]
    return "".join(str(block.get("refusal") or "") for block in blocks)


def finish_notice(reason: FinishReason | None, *, refusal: str = "", is_empty: bool = False) -> str | None:
    """Return what a person should know of how an answer ended; None if there is nothing.

    Args:
        reason: Why it ended.
        refusal: The words of a refusal.
        is_empty: Whether the answer has neither text nor calls.
    """
    said = _NOTICES.get(reason or "stop")
    if said is not None and refusal.strip():
        said = f"{said.rstrip('.')}: {refusal.strip()}"
    if is_empty and reason != "cancelled":
        return f"{said} {_EMPTY}" if said else EMPTY_NOTICE
    return said
