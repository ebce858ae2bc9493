"""Tools for your own LangChain or LangGraph agent: the whole agent as one tool, or its single tools.

Heavy packages are imported only when a name is used.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.langchain.mini_gemini_tool import MiniGeminiTool
    from mgem_agent.langchain.toolbox import image_tools

__all__ = ["MiniGeminiTool", "image_tools"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "MiniGeminiTool": "mgem_agent.langchain.mini_gemini_tool",
        "image_tools": "mgem_agent.langchain.toolbox",
    },
)
