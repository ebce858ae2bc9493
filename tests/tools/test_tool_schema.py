"""The schema that is shown to models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field

from mgem_agent import MgemAgent, MiniGeminiTool, image_tools
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools.drawing_arguments import DrawArguments
from mgem_agent.tools.tool_schema import MAX_NUMBER, SHARED_KEYWORDS, shared_schema


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema in a schema."""
    yield schema
    for each in [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]:
        yield from nodes(each)
    if "items" in schema:
        yield from nodes(schema["items"])


@pytest.fixture
def schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The parameters of every tool of ours, as a provider gets them."""
    monkeypatch.setattr("mgem_agent.langchain.toolbox.can_read_text", lambda: True)
    store, reasoner = ArtifactStore(tmp_path), ScriptedReasoner(script=[])
    agent = MgemAgent(reasoner, FlatColourGenerator(), store=store, sessions=Sessions.in_memory())
    tools = [*image_tools(FlatColourGenerator(), store, reasoner=reasoner), MiniGeminiTool(agent=agent)]
    shown = {tool.name: convert_to_openai_tool(tool)["function"]["parameters"] for tool in tools}
    return shown | {"the agent's": DrawArguments.model_json_schema()}


def test_every_tool_keeps_to_what_all_providers_take(schemas: dict[str, dict[str, Any]]) -> None:
    assert len(schemas) == 6
    for name, schema in schemas.items():
        for node in nodes(schema):
            assert node.keys() <= SHARED_KEYWORDS, name
            assert isinstance(node.get("type", ""), str), name
            assert node.get("type") != "object" or node["properties"], name
            assert node.get("type") != "array" or node["items"], name
            assert all(abs(node.get(bound, 0)) <= 2**53 - 1 for bound in ("minimum", "maximum")), name
            assert set(node.get("required", ())) <= set(node.get("properties", {})), name
        assert all(field["description"] for field in schema["properties"].values()), name


def test_what_the_agent_shows_of_drawing() -> None:
    schema = DrawArguments.model_json_schema()
    assert schema["required"] == ["prompt"]
    assert "options" not in schema["properties"]
    assert schema["properties"]["seed"] | {"description": ""} == {
        "description": "", "type": "integer", "minimum": 0, "maximum": MAX_NUMBER,
    }  # fmt: skip
    assert schema["properties"]["strength"]["minimum"] == 0


def test_what_pydantic_writes_is_brought_to_it() -> None:
    class Part(BaseModel):
        name: str = Field(max_length=3, pattern="x")

    class Whole(BaseModel):
        part: Part | None = None
        kind: Literal["a", "b"] = "a"
        only: Literal[1] = 1
        either: int | str | None = None
        share: float = Field(gt=0, lt=2.0**80)

    assert shared_schema(Whole.model_json_schema()) == {
        "type": "object",
        "required": ["share"],
        "properties": {
            "part": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
            "kind": {"type": "string", "enum": ["a", "b"]},
            "only": {"type": "integer", "enum": [1]},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "share": {"type": "number", "minimum": 0, "maximum": MAX_NUMBER},
        },
    }
