"""LangChain's own suites over every tool that we export, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from PIL import Image

from mgem_agent import MgemAgent, MiniGeminiTool, image_tools
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.langchain import seeing_tools
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools import ReadText, TextLine


class Offline:
    """A tool, over a card generator, a script and a folder of the test's own."""

    tool_name: str
    args: dict[str, Any]
    store: ArtifactStore

    @pytest.fixture(autouse=True)
    def own_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = ArtifactStore(tmp_path)
        read = ReadText((TextLine("EXIT", 0.9, (1, 2, 30, 12)),), 32, 32)
        monkeypatch.setattr(seeing_tools, "read_text", lambda image: read)
        monkeypatch.setattr("mgem_agent.langchain.toolbox.can_read_text", lambda: True)

    @property
    def tool_constructor(self) -> type[BaseTool] | BaseTool:
        reasoner = ScriptedReasoner(script=['{"answers": ["yes", "yes"]}'], is_endless=True)
        tools = image_tools(FlatColourGenerator(size=(32, 32)), self.store, reasoner=reasoner)
        return next(tool for tool in tools if tool.name == self.tool_name)

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        given = self.store.put_picture(Image.new("RGB", (32, 32), "white"), origin="a test").id
        return {name: given if value == "PICTURE" else value for name, value in self.args.items()}


class TestGenerateImageUnit(Offline, ToolsUnitTests):
    tool_name, args = "generate_image", {"prompt": "a red fox", "width": 48, "seed": 7}


class TestGenerateImageIntegration(Offline, ToolsIntegrationTests):
    tool_name, args = "generate_image", {"prompt": "a red fox", "width": 48, "seed": 7}


class TestEditImageUnit(Offline, ToolsUnitTests):
    tool_name, args = "edit_image", {"image": "PICTURE", "instruction": "make it night", "mask": "PICTURE"}


class TestEditImageIntegration(Offline, ToolsIntegrationTests):
    tool_name, args = "edit_image", {"image": "PICTURE", "instruction": "make it night", "mask": "PICTURE"}


class TestLookAtImageUnit(Offline, ToolsUnitTests):
    tool_name, args = "look_at_image", {"image": "PICTURE", "caption": "a white card"}


class TestLookAtImageIntegration(Offline, ToolsIntegrationTests):
    tool_name, args = "look_at_image", {"image": "PICTURE", "caption": "a white card"}


class TestReadTextUnit(Offline, ToolsUnitTests):
    tool_name, args = "read_text", {"image": "PICTURE"}


class TestReadTextIntegration(Offline, ToolsIntegrationTests):
    tool_name, args = "read_text", {"image": "PICTURE"}


class WholeAgent(Offline):
    """The agent as one tool."""

    @property
    def tool_constructor(self) -> type[BaseTool] | BaseTool:
        return MiniGeminiTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        reasoner = ScriptedReasoner(script=["Here. <h>a red card</h>"], is_endless=True)
        sessions = Sessions.in_memory()
        return {"agent": MgemAgent(reasoner, FlatColourGenerator(), store=self.store, sessions=sessions)}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        given = self.store.put_picture(Image.new("RGB", (32, 32), "white"), origin="a test").id
        return {"request": "Draw this in red.", "images": [given], "draw": "always"}


class TestMiniGeminiToolUnit(WholeAgent, ToolsUnitTests):
    pass


class TestMiniGeminiToolIntegration(WholeAgent, ToolsIntegrationTests):
    pass


def test_every_tool_is_here(tmp_path: Path) -> None:
    reasoner = ScriptedReasoner(script=[])
    tools = image_tools(FlatColourGenerator(), ArtifactStore(tmp_path), reasoner=reasoner)
    covered = {case.tool_name for case in Offline.__subclasses__() if hasattr(case, "tool_name")}
    assert {tool.name for tool in tools} - covered == set()
