"""LangChain's `ChatOpenAI` as a client of the server: chat completions and responses, alone and in an agent."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from PIL import Image

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.server.pictures import ids_in_text
from mgem_agent.server.security import LOCAL_USER

CALL = AIMessage(
    content="", tool_calls=[{"name": "weather", "args": {"place": "Oslo"}, "id": "call_1", "type": "tool_call"}]
)


@tool
def weather(place: str) -> str:
    """The weather of a place."""
    return f"It rains in {place}."


def model(address: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{address}/v1", api_key="unused", model="mgem", max_retries=0, **options)


@pytest.mark.parametrize("use_responses_api", [False, True])
def test_an_agent_calls_its_own_tools(open_service: Any, running: Any, use_responses_api: bool) -> None:
    with running(open_service([CALL, "Take an umbrella."])) as address:
        agent = create_agent(model(address, use_responses_api=use_responses_api), [weather])
        state = agent.invoke({"messages": [HumanMessage("Do I need an umbrella in Oslo?")]})
    kinds = [message.type for message in state["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"]
    assert state["messages"][1].tool_calls[0]["args"] == {"place": "Oslo"}
    assert state["messages"][2].content == "It rains in Oslo."
    assert state["messages"][3].text == "Take an umbrella."
    assert state["messages"][3].usage_metadata["output_tokens"] > 0


def test_chat_draws_and_the_markdown_has_the_picture(open_service: Any, running: Any) -> None:
    service = open_service(["Here: <h> a red fox </h>"])
    with running(service) as address:
        chat = model(address)
        answer = chat.invoke("Draw a fox.")
        streamed = "".join(chunk.text for chunk in chat.stream("Draw a fox."))
    assert len(ids_in_text(answer.text)) == 1
    assert ids_in_text(streamed) == ids_in_text(answer.text)


def test_responses_draw_with_the_built_in_tool(open_service: Any, running: Any) -> None:
    service = open_service(["Here: <h> a red fox </h>", "It is a fox."])
    with running(service) as address:
        chat = model(address, use_responses_api=True, output_version="responses/v1")
        drawing = chat.bind_tools([{"type": "image_generation", "size": "96x80"}])
        answer = drawing.invoke("Draw a fox.")
        [block] = [block for block in answer.content if block["type"] == "image_generation_call"]
        assert load_image(base64.b64decode(block["result"])).size == (96, 80)
        # The next turn names the picture by its call, as LangChain sends it.
        second = chat.invoke([HumanMessage("Draw a fox."), answer, HumanMessage("What is it?")])
        assert second.text == "It is a fox."
        whole: Any = None
        for chunk in drawing.stream("Draw a fox."):
            whole = chunk if whole is None else whole + chunk
        assert [block["type"] for block in whole.content] == ["text", "image_generation_call"]


def test_responses_continue_by_the_id(open_service: Any, running: Any) -> None:
    service = open_service(["A fox.", "Red."])
    with running(service) as address:
        chat = model(address, use_responses_api=True, use_previous_response_id=True)
        first = chat.invoke("What is it?")
        second = chat.invoke([HumanMessage("What is it?"), first, HumanMessage("Which colour?")])
    assert second.text == "Red."
    [session] = service.sessions(LOCAL_USER).list()
    assert session.num_turns == 2


def test_pictures_in(open_service: Any, running: Any) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "PNG")
    picture = {"type": "image", "base64": base64.b64encode(file.getvalue()).decode(), "mime_type": "image/png"}
    service = open_service(["A red square."])
    with running(service) as address:
        for use_responses_api in (False, True):
            message = HumanMessage(content=[{"type": "text", "text": "What is it?"}, picture])
            answer = model(address, use_responses_api=use_responses_api).invoke([message])
            assert answer.text == "A red square."
    assert len(service.store(LOCAL_USER).list()) == 1
