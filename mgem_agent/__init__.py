"""mgem-agent: a vision-language model that sees, reasons and draws.

Importing the package imports nothing heavy: a public name brings its module, and with it torch and transformers, when
it is first used. The names of the model come by way of `mgem_agent.core_model`, which makes them known to the Auto
classes of transformers.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach
from mgem_agent.errors import MgemError

if TYPE_CHECKING:
    from mgem_agent.chat_mini_gemini import ChatMiniGemini
    from mgem_agent.core_model import (
        Conversation,
        MiniGeminiConfig,
        MiniGeminiForConditionalGeneration,
        MiniGeminiProcessor,
        PatchInfoMining,
    )

__all__ = [
    "ChatMiniGemini",
    "Conversation",
    "MgemError",
    "MiniGeminiConfig",
    "MiniGeminiForConditionalGeneration",
    "MiniGeminiProcessor",
    "PatchInfoMining",
    "__version__",
]

__version__ = "0.1.0"

__getattr__, __dir__ = attach(
    __name__,
    {
        "ChatMiniGemini": "mgem_agent.chat_mini_gemini",
        **{
            name: "mgem_agent.core_model"
            for name in (
                "Conversation",
                "MiniGeminiConfig",
                "MiniGeminiForConditionalGeneration",
                "MiniGeminiProcessor",
                "PatchInfoMining",
            )
        },
    },
)
