"""The single tools of this package, for agents with their own reasoning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError, MissingDependencyError
from mgem_agent.langchain.drawing_tools import draw_tool, edit_tool
from mgem_agent.langchain.picture_access import AllowPaths, PictureAccess
from mgem_agent.langchain.picture_blocks import PictureBlocks
from mgem_agent.langchain.seeing_tools import look_tool, read_tool
from mgem_agent.tools.budget import Budget, Budgets
from mgem_agent.tools.editing_plan import EditWay
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.prices import Prices
from mgem_agent.tools.reading import can_read_text
from mgem_agent.tools.shared_meter import SharedMeter

__all__ = ["image_tools"]


def image_tools(
    generator: ImageGenerator,
    store: ArtifactStore | None = None,
    *,
    reasoner: BaseChatModel | None = None,
    fallbacks: Sequence[EditWay] = (),
    read_text: bool | None = None,
    allow_paths: AllowPaths = False,
    picture_blocks: PictureBlocks = "none",
    budget: Budgets | Budget | str | None = None,
    prices: Prices | Mapping[str, Any] | None = None,
) -> list[BaseTool]:
    """Create the tools `generate_image` and `edit_image`, and if possible `look_at_image` and `read_text`.

    They return text that names the picture by id, and an artifact with its path and how it was made. Errors are
    returned to the calling model and not raised.

    Args:
        generator: The generator that draws.
        store: The store of the pictures; `ArtifactStore()` by default.
        reasoner: A chat model that sees pictures, required for `look_at_image`.
        fallbacks: Ways that `edit_image` may use if the generator does not support the requested one, in order of
            preference: `edit`, `inpaint`, `image_to_image`, `redraw`. The answer names the way that was used.
        read_text: Whether to create `read_text`; by default, if the extra `ocr` is installed.
        allow_paths: Which local files the calling model may name: none, those in one or more folders, or with True
            any that this process can read. Ids, data URLs and image blocks are always accepted; nothing is downloaded.
        picture_blocks: How drawn pictures appear in the content, in addition to their ids in the text: `none`;
            `file_id`, for models of this package; `base64`, for models that look at them; `mcp`, for tools on an MCP
            server.
        budget: Limits of all drawings of these tools together, such as `0.50usd,20pictures`; `5pictures/turn` limits
            each call. A call that would pass a limit is refused before it is made.
        prices: Prices of generators by name; see `Prices`.

    Raises:
        InputError: If the budget is not one, a fallback or `picture_blocks` is unknown, `allow_paths` names something
            that is not a folder, or the reasoner takes no pictures.
        MissingDependencyError: If `read_text` is requested and the extra `ocr` is not installed, or `picture_blocks` is
            `mcp` and the package `mcp` is not installed.

    Examples:
        >>> from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
        >>> seeing = ScriptedReasoner(script=['{"follows": true, "score": 9}'])
        >>> tools = image_tools(FlatColourGenerator(), reasoner=seeing, fallbacks=["image_to_image"], read_text=False)
        >>> [tool.name for tool in tools]
        ['generate_image', 'edit_image', 'look_at_image']
    """
    if read_text and not can_read_text():
        raise MissingDependencyError("Reading text", "rapidocr", "ocr")
    kept = store if store is not None else ArtifactStore()
    access = PictureAccess.of(allow_paths)
    known = prices if isinstance(prices, Prices) else Prices(prices)
    limits = Budgets.parse(budget, "session")
    if limits.book:
        raise InputError(f"The budget {str(limits.book)!r} is for a book, and these tools make none. Leave out /book.")
    meter = SharedMeter(limits, known)
    tools = [
        draw_tool(generator, kept, picture_blocks=picture_blocks, meter=meter),
        edit_tool(generator, kept, fallbacks=fallbacks, access=access, picture_blocks=picture_blocks, meter=meter),
    ]
    if reasoner is not None:
        tools.append(look_tool(reasoner, kept, access=access))
    if can_read_text() if read_text is None else read_text:
        tools.append(read_tool(kept, access=access))
    return tools
