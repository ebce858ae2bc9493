"""Pictures in what a tool returns, as an outer model and as a client of an MCP server get them."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel, Field

from mgem_agent import MgemAgent, MiniGeminiTool, image_tools
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import MissingDependencyError
from mgem_agent.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


class TextContent(BaseModel):
    """As in `mcp.types`."""

    type: str
    text: str


class ImageContent(BaseModel):
    """As in `mcp.types`."""

    type: str
    data: str
    mime_type: str = Field(alias="mimeType")


@pytest.fixture
def mcp_types(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("mcp.types")
    module.TextContent, module.ImageContent = TextContent, ImageContent
    monkeypatch.setitem(sys.modules, "mcp", ModuleType("mcp"))
    monkeypatch.setitem(sys.modules, "mcp.types", module)


def draw_tool(folder: Path, **options: Any) -> Any:
    return image_tools(FlatColourGenerator(size=(32, 32)), ArtifactStore(folder), read_text=False, **options)[0]


def mini_gemini(folder: Path, **options: Any) -> MiniGeminiTool:
    reasoner = ScriptedReasoner(script=["Here. <h> a red fox </h>", "No picture."])
    generator = FlatColourGenerator(size=(32, 32))
    agent = MgemAgent(reasoner, generator, store=ArtifactStore(folder), sessions=Sessions.in_memory())
    return MiniGeminiTool(agent=agent, **options)


def size_of(pixels: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(pixels))).size


def test_without_picture_blocks_the_content_is_a_string(tmp_path: Path) -> None:
    content = draw_tool(tmp_path).invoke({"prompt": "a red fox"})
    assert isinstance(content, str) and content.startswith("Drew img-")


@pytest.mark.usefixtures("mcp_types")
def test_a_turn_without_pictures_is_a_string(tmp_path: Path) -> None:
    tool = mini_gemini(tmp_path, picture_blocks="mcp")
    assert len(tool.invoke({"request": "Draw."})) == 2
    assert tool.invoke({"request": "What is it?"}).startswith("No picture.\n")


@pytest.mark.usefixtures("mcp_types")
def test_pictures_are_content_of_mcp(tmp_path: Path) -> None:
    text, image = draw_tool(tmp_path, picture_blocks="mcp").invoke({"prompt": "a red fox"})
    assert isinstance(text, TextContent) and text.text.startswith("Drew img-")
    assert isinstance(image, ImageContent) and image.mime_type == "image/png"
    assert size_of(image.data) == (32, 32)


def test_a_missing_package_is_told_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.delitem(sys.modules, "mcp.types", raising=False)
    message = r"picture_blocks='mcp' needs the package 'mcp'\. Run: pip install mcp"
    with pytest.raises(MissingDependencyError, match=message):
        draw_tool(tmp_path, picture_blocks="mcp")
    with pytest.raises(ValueError, match=message):
        mini_gemini(tmp_path, picture_blocks="mcp")


@pytest.mark.parametrize("make", [draw_tool, mini_gemini])
def test_a_client_of_an_mcp_server_gets_words_and_images(tmp_path: Path, make: Any) -> None:
    adapters = pytest.importorskip("langchain_mcp_adapters.tools", reason="langchain-mcp-adapters is not installed")
    server = pytest.importorskip("mcp.server.fastmcp", reason="it needs the release of mcp that has FastMCP")
    connect = pytest.importorskip("mcp.shared.memory").create_connected_server_and_client_session

    async def call(**options: Any) -> Any:
        tool = make(tmp_path, **options)
        async with connect(server.FastMCP("pictures", tools=[adapters.to_fastmcp(tool)])._mcp_server) as client:
            return await client.call_tool(tool.name, {"prompt": "a fox", "request": "Draw."})

    [text] = asyncio.run(call()).content
    assert text.type == "text" and "Drew img-" in text.text and "{" not in text.text
    text, image = asyncio.run(call(picture_blocks="mcp")).content
    assert text.type == "text" and "Drew img-" in text.text
    assert (image.type, image.mimeType, size_of(image.data)) == ("image", "image/png", (32, 32))
