"""The arguments of a model's call that looks at a picture."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mgem_agent.tools.tool_arguments import NamedPicture, ToolArguments

__all__ = ["LookArguments", "ReadArguments"]


class LookArguments(ToolArguments):
    """Arguments to judge a picture."""

    image: Annotated[NamedPicture, Field(description="The picture to judge: its id (img-…) or a data URL.")]
    caption: Annotated[
        str | None, Field(description="What it should show; leave out for the caption that it was drawn from.")
    ] = None


class ReadArguments(ToolArguments):
    """Arguments to read the text in a picture."""

    image: Annotated[NamedPicture, Field(description="The picture to read: its id (img-…) or a data URL.")]
