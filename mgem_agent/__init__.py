"""mgem-agent: a vision-language model that sees, reasons and draws.

Importing the package imports nothing heavy. The first use of a public name imports its module, and with it torch and
transformers if needed. The names of the model are imported through `mgem_agent.core_model`, which registers them with
transformers' Auto classes.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach
from mgem_agent.errors import MgemError

if TYPE_CHECKING:
    from mgem_agent.agent.agent import MgemAgent
    from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
    from mgem_agent.core_model import (
        Conversation,
        MiniGeminiConfig,
        MiniGeminiForConditionalGeneration,
        MiniGeminiProcessor,
        PatchInfoMining,
    )
    from mgem_agent.langchain import MiniGeminiTool, image_tools

__all__ = [
    "ChatMiniGemini",
    "Conversation",
    "MgemAgent",
    "MgemError",
    "MiniGeminiConfig",
    "MiniGeminiForConditionalGeneration",
    "MiniGeminiProcessor",
    "MiniGeminiTool",
    "PatchInfoMining",
    "__version__",
    "image_tools",
]

__version__ = "0.1.0"

__getattr__, __dir__ = attach(
    __name__,
    {
        "ChatMiniGemini": "mgem_agent.chat_models.mini_gemini",
        "MgemAgent": "mgem_agent.agent.agent",
        "MiniGeminiTool": "mgem_agent.langchain",
        "image_tools": "mgem_agent.langchain",
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
