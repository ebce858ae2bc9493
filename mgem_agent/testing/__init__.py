"""What tests and benchmarks are held against: the authors' way of computing, written out plainly."""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.testing.textbook_mining import TextbookPatchInfoMining
    from mgem_agent.testing.textbook_vision import textbook_image_features

__all__ = ["TextbookPatchInfoMining", "textbook_image_features"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "TextbookPatchInfoMining": "mgem_agent.testing.textbook_mining",
        "textbook_image_features": "mgem_agent.testing.textbook_vision",
    },
)
