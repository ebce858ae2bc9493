"""The settings of stories: the table `story` of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["StorySettings"]


class StorySettings(BaseModel):
    """Settings of stories told by `mgem story`, `/story`, the page of `mgem serve` and MCP.

    Attributes:
        scores: Whether pages are scored, and the scores printed on the book's last page. With the setting `look`, pages
            are scored in any case.
        encoder: Picture encoder of likeness and style: `nano`, `open_clip:MODEL:WEIGHTS`, `hf:FOLDER`, or `none`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scores: bool = False
    encoder: str = Field(default="nano", min_length=1)
