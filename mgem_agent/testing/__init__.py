"""For tests, ours and yours: a generator that needs nothing, and the authors' way of computing, written out plainly."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.testing.flat_colour_generator import FlatColourGenerator
    from mgem_agent.testing.textbook_mining import TextbookPatchInfoMining
    from mgem_agent.testing.textbook_vision import textbook_image_features

__all__ = ["FlatColourGenerator", "TextbookPatchInfoMining", "textbook_image_features"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "FlatColourGenerator": "mgem_agent.testing.flat_colour_generator",
        "TextbookPatchInfoMining": "mgem_agent.testing.textbook_mining",
        "textbook_image_features": "mgem_agent.testing.textbook_vision",
    },
)
