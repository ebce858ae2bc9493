"""Dialogues with the core model: caches between rounds, streaming and grammar constraints."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.core_model.dialogue.conversation import Conversation, RoundUsage
    from mgem_agent.core_model.dialogue.streaming import stream_generate

__all__ = [
    "Conversation",
    "RoundUsage",
    "stream_generate",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Conversation": "mgem_agent.core_model.dialogue.conversation",
        "RoundUsage": "mgem_agent.core_model.dialogue.conversation",
        "stream_generate": "mgem_agent.core_model.dialogue.streaming",
    },
)
