"""Test your own agent: a reasoner and a generator without weights or network, and reference implementations."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.testing.flat_colour_generator import FlatColourGenerator
    from mgem_agent.testing.scripted_reasoner import ScriptedReasoner
    from mgem_agent.testing.textbook_mining import TextbookPatchInfoMining
    from mgem_agent.testing.textbook_vision import textbook_image_features

__all__ = ["FlatColourGenerator", "ScriptedReasoner", "TextbookPatchInfoMining", "textbook_image_features"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "FlatColourGenerator": "mgem_agent.testing.flat_colour_generator",
        "ScriptedReasoner": "mgem_agent.testing.scripted_reasoner",
        "TextbookPatchInfoMining": "mgem_agent.testing.textbook_mining",
        "textbook_image_features": "mgem_agent.testing.textbook_vision",
    },
)
