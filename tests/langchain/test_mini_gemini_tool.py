"""The agent as a tool inside somebody else's agent."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable
from PIL import Image

from mgem_agent import MgemAgent, MiniGeminiTool
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import ReasonerUnavailableError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


class Outer(GenericFakeChatModel):
    """An outer model that follows a script."""

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Runnable[Any, AIMessage]:
        return self


def calls(**args: Any) -> AIMessage:
    return AIMessage(content="", tool_calls=[{"name": "mini_gemini", "args": args, "id": "outer_1"}])


@pytest.fixture
def agent(tmp_path: Path) -> MgemAgent:
    return MgemAgent(
        ScriptedReasoner(script=["Here it is. <h>a red fox</h>"], is_endless=True),
        FlatColourGenerator(size=(32, 32)),
        store=ArtifactStore(tmp_path),
        sessions=Sessions.in_memory(),
    )


def call(tool: MiniGeminiTool, **args: Any) -> ToolMessage:
    message = tool.invoke({"name": tool.name, "args": args, "id": "outer_1", "type": "tool_call"})
    assert isinstance(message, ToolMessage)
    return message


def test_it_works_inside_create_agent(agent: MgemAgent) -> None:
    outer = create_agent(
        Outer(messages=iter([calls(request="Draw a red fox."), AIMessage(content="There is your fox.")])),
        [MiniGeminiTool(agent=agent)],
    )
    messages = outer.invoke({"messages": [HumanMessage("A fox, please.")]})["messages"]
    told = messages[2]
    assert isinstance(told, ToolMessage) and told.status == "success"
    [picture] = told.artifact["images"]
    assert told.content == f"Here it is.\nDrew {picture['id']}: a red fox\n(session {told.artifact['session']})"
    assert Path(picture["path"]).is_file()
    assert (picture["prompt"], picture["generator"], picture["parents"]) == ("a red fox", "flat", [])
    assert told.artifact["outcome"] == "answered"
    assert messages[-1].content == "There is your fox."


def test_the_async_way_says_the_same(agent: MgemAgent) -> None:
    tool = MiniGeminiTool(agent=agent)
    message = asyncio.run(
        tool.ainvoke({"name": tool.name, "args": {"request": "Draw."}, "id": "outer_1", "type": "tool_call"})
    )
    assert message.artifact["images"][0]["prompt"] == "a red fox"


def test_a_session_goes_on_where_it_is_named(agent: MgemAgent) -> None:
    tool = MiniGeminiTool(agent=agent)
    first = call(tool, request="Draw.")
    call(tool, request="Another.", session=first.artifact["session"])
    call(tool, request="Something else.")
    assert sorted(summary.num_turns for summary in agent.sessions.list()) == [1, 2]


@pytest.mark.parametrize("kind", ["id", "path", "data", "block"])
def test_pictures_come_in_by_any_door(agent: MgemAgent, tmp_path: Path, kind: str) -> None:
    raw = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(raw, "PNG")
    (tmp_path / "cat.png").write_bytes(raw.getvalue())
    encoded = base64.b64encode(raw.getvalue()).decode()
    given: Any = {
        "id": agent.store.put_picture(raw.getvalue(), origin="a test").id,
        "path": str(tmp_path / "cat.png"),
        "data": f"data:image/png;base64,{encoded}",
        "block": {"type": "image", "base64": encoded, "mime_type": "image/png"},
    }[kind]
    tool = MiniGeminiTool(agent=agent, allow_paths=tmp_path)
    told = call(tool, request="What is it?", images=[given], session="seen")
    assert told.status == "success"
    shown: Any = agent.messages("seen")[0].content[0]
    assert agent.store.open(shown["file_id"]).size == (20, 10)


def test_pixels_and_ids_are_blocks_where_that_is_asked_for(agent: MgemAgent) -> None:
    inline = call(MiniGeminiTool(agent=agent, picture_blocks="base64"), request="Draw.").content[1]
    assert Image.open(io.BytesIO(base64.b64decode(inline["base64"]))).size == (32, 32)  # type: ignore[index]
    named = call(MiniGeminiTool(agent=agent, picture_blocks="file_id"), request="Draw.")
    assert named.content[1] == {"type": "image", "file_id": named.artifact["images"][0]["id"]}


def test_what_goes_wrong_is_told_and_ends_nothing(agent: MgemAgent) -> None:
    told = call(MiniGeminiTool(agent=agent), request="What is it?", images=["http://10.0.0.1/cat.png"])
    assert told.status == "error" and "http://10.0.0.1/cat.png" in str(told.content)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("Here. <h>a fox, no ink</h>", "error"),
        ("Here. <h>a fox on fire</h>", "error"),
        ("Here. <h>a fox, no ink</h> <h>a red fox</h>", "success"),
        ("Nothing to draw.", "success"),
        (ReasonerUnavailableError("The server is away."), "error"),
    ],
)
def test_a_call_that_drew_nothing_of_what_it_should_has_failed(agent: MgemAgent, answer: Any, status: str) -> None:
    failing = MgemAgent(
        ScriptedReasoner(script=[answer], is_endless=True),
        FlatColourGenerator(size=(32, 32), fail_on="no ink", crash_on="on fire"),
        store=agent.store,
        sessions=Sessions.in_memory(),
    )
    tool = MiniGeminiTool(agent=failing)
    told = call(tool, request="Draw a fox.")
    assert told.status == status
    if isinstance(answer, str):
        assert bool(told.artifact["failures"]) == ("no ink" in answer or "on fire" in answer)
    arguments = {"name": tool.name, "args": {"request": "Draw a fox."}, "id": "outer_1", "type": "tool_call"}
    assert asyncio.run(tool.ainvoke(arguments)).status == status


def test_files_are_closed_unless_the_developer_opens_them(agent: MgemAgent, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "cat.png")
    args = {"request": "What is it?", "images": [str(tmp_path / "cat.png")]}
    told = call(MiniGeminiTool(agent=agent), **args)
    assert told.status == "error" and "may not be read here" in str(told.content)
    assert agent.sessions.list() == []
    tool = MiniGeminiTool(agent=agent)
    later = asyncio.run(tool.ainvoke({"name": tool.name, "args": args, "id": "outer_1", "type": "tool_call"}))
    assert later.content == told.content
    with pytest.raises(ValueError, match=r"allow_paths names 'nowhere', which is not a folder"):
        MiniGeminiTool(agent=agent, allow_paths="nowhere")


def test_wrong_arguments_end_no_run(agent: MgemAgent) -> None:
    outer = create_agent(
        Outer(messages=iter([calls(request="Draw.", draw="often"), AIMessage(content="I see.")])),
        [MiniGeminiTool(agent=agent)],
    )
    told = outer.invoke({"messages": [HumanMessage("A fox.")]})["messages"][2]
    assert told.status == "error" and "draw: Input should be 'auto', 'always' or 'never'" in str(told.content)


def test_empty_and_unknown_arguments_cost_nothing(agent: MgemAgent) -> None:
    tool = MiniGeminiTool(agent=agent)
    told = call(tool, prompt="Draw.", images="", session="null", draw="", mood="calm")
    assert told.status == "success" and told.artifact["session"].startswith("tool-")
    assert "The argument 'mood' is unknown and was left out." in str(told.content)


def test_its_arguments_are_explained_to_the_outer_model(agent: MgemAgent) -> None:
    schema = MiniGeminiTool(agent=agent).tool_call_schema.model_json_schema()  # type: ignore[union-attr]
    assert sorted(schema["properties"]) == ["draw", "images", "request", "session"]
    assert all(field["description"] for field in schema["properties"].values())
    assert schema["required"] == ["request"]


def test_why_an_answer_ended_is_told_to_the_outer_model(tmp_path: Path) -> None:
    reasoner = ScriptedReasoner(script=[""])
    store = ArtifactStore(tmp_path)
    silent = MgemAgent(reasoner, FlatColourGenerator(), store=store, sessions=Sessions.in_memory())
    told = call(MiniGeminiTool(agent=silent), request="Hello.")
    assert "The answer is empty." in str(told.content)
    assert (told.artifact["finish_reason"], len(told.artifact["notices"])) == ("stop", 1)
