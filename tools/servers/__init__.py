"""Generators on servers: the OpenAI images API, AUTOMATIC1111 and ComfyUI, over one HTTP client."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.tools.servers.a1111 import A1111Generator
    from mgem_agent.tools.servers.comfyui import ComfyUIGenerator
    from mgem_agent.tools.servers.openai_images import OpenAIImagesGenerator

__all__ = [
    "A1111Generator",
    "ComfyUIGenerator",
    "OpenAIImagesGenerator",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "A1111Generator": "mgem_agent.tools.servers.a1111",
        "ComfyUIGenerator": "mgem_agent.tools.servers.comfyui",
        "OpenAIImagesGenerator": "mgem_agent.tools.servers.openai_images",
    },
)
