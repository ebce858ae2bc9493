"""Any text-to-image pipeline of diffusers as a generator."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.tools.diffusers.generator import DiffusersGenerator

__all__ = [
    "DiffusersGenerator",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "DiffusersGenerator": "mgem_agent.tools.diffusers.generator",
    },
)
