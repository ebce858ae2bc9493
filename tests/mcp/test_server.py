"""What a client learns of the server: versions, tools, schemas, and errors of the protocol."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from mgem_agent import __version__
from mgem_agent.mcp import make_server

NAMES = {
    "draw", "edit", "redraw", "look", "read_text", "tell_story", "story_status", "story_continue", "lineage",
    "generators",
}  # fmt: skip


async def test_each_version_of_the_protocol_is_spoken(make_parts: Any, connect: Any, version: str) -> None:
    async with connect(make_parts()) as client:
        assert client.protocol_version == version
        assert (client.server_info.name, client.server_info.version) == ("mgem", __version__)
        assert "Pictures are named by ids" in client.instructions


async def test_tools_have_titles_schemas_and_annotations(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts("yes")) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert NAMES - {"read_text"} <= set(tools) <= NAMES
    for tool in tools.values():
        assert tool.title and tool.description
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)
        assert tool.input_schema["type"] == tool.output_schema["type"] == "object"
        assert tool.annotations.destructive_hint is False
    assert tools["draw"].input_schema["properties"]["generator"]["enum"] == ["flat", "charged"]
    assert tools["lineage"].annotations.read_only_hint and not tools["draw"].annotations.read_only_hint
    assert len(json.dumps([tool.model_dump(mode="json") for tool in tools.values()])) < 40_000


async def test_structured_content_fits_its_schema(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts("yes")) as client:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
        drawn = await client.call_tool("draw", {"prompt": "a fox"})
        image = {"image": drawn.structured_content["picture"]["id"]}
        calls: dict[str, dict[str, Any]] = {
            "edit": {**image, "instruction": "make it night"},
            "redraw": image,
            "look": image,
            "lineage": image,
            "generators": {},
            "tell_story": {"premise": "A mouse finds a key.", "num_scenes": 1},
        }
        jsonschema.validate(drawn.structured_content, schemas["draw"])
        for name, args in calls.items():
            result = await client.call_tool(name, args)
            assert not result.is_error, result.content
            jsonschema.validate(result.structured_content, schemas[name])


async def test_an_unknown_tool_is_an_error_of_the_protocol(make_parts: Any, connect: Any) -> None:
    async with connect(make_parts()) as client:
        with pytest.raises(MCPError, match="There is no tool 'paint'. Known: draw, edit") as caught:
            await client.call_tool("paint", {})
        assert caught.value.error.code == -32602


async def test_an_unexpected_error_does_not_reach_the_client(make_parts: Any, connect: Any) -> None:
    def make(name: str) -> Any:
        raise RuntimeError("a secret of the server")

    async with connect(make_parts(make_generator=make)) as client:
        result = await client.call_tool("draw", {"prompt": "a fox"})
        assert result.is_error and result.content[0].text.startswith("Unexpected RuntimeError in the tool 'draw'.")


async def test_each_user_gets_their_own_parts(make_parts: Any, tmp_path: Any) -> None:
    from mgem_agent.artifacts.store import ArtifactStore

    stores = [ArtifactStore(tmp_path / name) for name in ("ann", "bob")]
    asked: list[Any] = []

    def parts_of(request: Any) -> Any:
        asked.append(request)
        return make_parts(store=stores[0])

    async with Client(make_server(parts_of)) as client:
        await client.call_tool("draw", {"prompt": "a fox"})
    assert len(stores[0].list()) == 1 and stores[1].list() == [] and asked[0] is None


async def test_an_answer_counts_only_for_its_question(make_parts: Any, person: Any) -> None:
    """The client of 2026-07-28 repeats the call with its answer; neither another call nor a made-up state has it."""
    from mcp.types import ElicitResult

    answer = {"answer": ElicitResult(action="accept", content={})}
    async with Client(make_server(make_parts(confirm=True)), elicitation_callback=person()) as client:
        asked: Any = await client.session.call_tool("draw", {"prompt": "a fox"}, allow_input_required=True)
        for name, state in (("draw", "made up"), ("draw", None)):
            args = {"prompt": "a cat"}
            try:
                other = await client.session.call_tool(
                    name, args, input_responses=answer, request_state=state, allow_input_required=True
                )
            except MCPError as error:
                assert "requestState" in str(error)
            else:
                assert other.result_type == "input_required"
        with pytest.raises(MCPError, match="requestState"):
            await client.session.call_tool(
                "draw", {"prompt": "a cat"}, input_responses=answer, request_state=asked.request_state
            )
        drawn = await client.session.call_tool(
            "draw", {"prompt": "a fox"}, input_responses=answer, request_state=asked.request_state
        )
        assert drawn.structured_content["picture"]["prompt"] == "a fox"
