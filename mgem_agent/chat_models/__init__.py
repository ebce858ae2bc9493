"""LangChain chat models that use the `<GEN>` protocol: the core model, text models, and any other model by prompt."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.chat_models.chat_model import GenProtocolModel
    from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
    from mgem_agent.chat_models.prompted_chat import GenProtocolChat
    from mgem_agent.chat_models.text_engine import FinishReason, TextEnd, TextEngine, TextRequest

__all__ = [
    "ChatMiniGemini",
    "FinishReason",
    "GenProtocolChat",
    "GenProtocolModel",
    "TextEnd",
    "TextEngine",
    "TextRequest",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ChatMiniGemini": "mgem_agent.chat_models.mini_gemini",
        "FinishReason": "mgem_agent.chat_models.text_engine",
        "GenProtocolChat": "mgem_agent.chat_models.prompted_chat",
        "GenProtocolModel": "mgem_agent.chat_models.chat_model",
        "TextEnd": "mgem_agent.chat_models.text_engine",
        "TextEngine": "mgem_agent.chat_models.text_engine",
        "TextRequest": "mgem_agent.chat_models.text_engine",
    },
)
