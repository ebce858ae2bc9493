"""How pictures appear in the content that a tool returns, in addition to their ids in the text.

A provider's API does not know our ids, and pixels cost tokens, so the developer chooses. Without picture blocks, the
content is a plain string, which every caller of tools passes on unchanged; MCP adapters turn LangChain's blocks into
JSON text.
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from mgem_agent.errors import InputError, MissingDependencyError

__all__ = ["Content", "PictureBlocks", "check_picture_blocks", "content_of"]

PictureBlocks = Literal["none", "file_id", "base64", "mcp"]
"""How pictures are shown: not at all; as image blocks with the id, for models of this package; as image blocks with the
pixels, for models that look at them; or as `mcp.types.ImageContent`, for a tool that an MCP server offers."""

Content = str | list[Any]
"""A string, or where pictures are shown, a list of blocks: dicts, or with `mcp` objects of `mcp.types`."""

_FEATURE = "picture_blocks='mcp'"


def check_picture_blocks(blocks: Any) -> None:
    """Check a developer's choice before any picture is drawn.

    Args:
        blocks: The value of `picture_blocks`.

    Raises:
        InputError: If it is unknown.
        MissingDependencyError: If it is `mcp`, and that package is not installed.
    """
    if blocks not in get_args(PictureBlocks):
        raise InputError(
            f"picture_blocks is {blocks!r}. Allowed: {', '.join(map(repr, get_args(PictureBlocks)))}. Give one of them."
        )
    if blocks == "mcp":
        _mcp_types()


def content_of(text: str, pictures: Iterable[tuple[str, Path]], blocks: PictureBlocks) -> Content:
    """Return the content of a tool's answer.

    Args:
        text: For the model.
        pictures: Id and PNG file of each picture.
        blocks: How they are shown.

    Raises:
        MissingDependencyError: If `blocks` is `mcp`, and that package is not installed.
    """
    shown = [] if blocks == "none" else list(pictures)
    if not shown:
        return text
    if blocks == "mcp":
        types = _mcp_types()
        images = [{"type": "image", "data": _pixels(path), "mimeType": "image/png"} for _, path in shown]
        return [types.TextContent(type="text", text=text), *map(types.ImageContent.model_validate, images)]
    if blocks == "file_id":
        return [{"type": "text", "text": text}, *({"type": "image", "file_id": name} for name, _ in shown)]
    named = ({"type": "image", "id": name, "mime_type": "image/png", "base64": _pixels(path)} for name, path in shown)
    return [{"type": "text", "text": text}, *named]


def _pixels(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def _mcp_types() -> Any:
    """Return the module `mcp.types`; releases 1 and 2 of the package have the same fields."""
    try:
        return importlib.import_module("mcp.types")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(_FEATURE, "mcp") from error
