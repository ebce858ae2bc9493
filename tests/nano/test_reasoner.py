"""nano as a chat model: which engine it gets, when, and whose trigger asks for pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from mgem_agent.chat_models import core_engine
from mgem_agent.chat_models.answer_grammar import text_grammar
from mgem_agent.chat_models.text_engine import TextEnd, TextRequest
from mgem_agent.nano import reasoner
from mgem_agent.nano.reasoner import NanoChat, NanoTextChat, make_nano_reasoner
from mgem_agent.prompts import render_prompt

LOADED = ("model", "processor")


PICTURE: Any = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}


class Engine:
    """Stands in for the core model, and keeps what it was made of and asked."""

    follows_grammar = True
    made: list[tuple[Any, ...]] = []
    asked: list[TextRequest] = []

    def __init__(self, *parts: Any, max_dialogues: int) -> None:
        self.made.append((*parts, max_dialogues))

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        self.asked.append(request)
        is_open = "<h>" in request.prefill
        yield f" {'simple style' if request.prefill.endswith(',') else 'a fox'} </h>" if is_open else "Hello."
        yield TextEnd(3, 2)


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Engine]:
    monkeypatch.setattr(core_engine, "CoreEngine", Engine)
    monkeypatch.setattr(Engine, "made", [])
    monkeypatch.setattr(Engine, "asked", [])
    return Engine


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What was loaded, and with what options."""
    calls: list[tuple[str, dict[str, Any]]] = []
    for name in ("load_nano", "load_text_only"):
        monkeypatch.setattr(reasoner, name, lambda name=name, **options: calls.append((name, options)) or LOADED)
    return calls


def test_with_eyes_it_is_the_whole_model(
    engine: type[Engine], loads: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasoner, "has_vision_weights", lambda: True)
    chat = make_nano_reasoner(language_model="here", offline=True, exact=True, max_dialogues=2)
    assert type(chat) is NanoChat
    assert loads == [], "nothing is loaded before it is asked"
    assert chat.invoke("Hello").text == "Hello."
    assert chat.invoke("Hello again").text == "Hello."
    assert loads == [("load_nano", {"language_model": "here", "offline": True, "exact": True})]
    assert engine.made == [(*LOADED, 2)]


def test_without_eyes_it_is_the_language_model_alone(
    engine: type[Engine], loads: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasoner, "has_vision_weights", lambda: False)
    chat = make_nano_reasoner()
    assert isinstance(chat, NanoTextChat)
    assert chat.invoke("Hello").text == "Hello."
    assert [name for name, _ in loads] == ["load_text_only"]
    assert render_prompt("nano") in str(engine.asked[0].dialogue[0]["content"])


def test_plain_words_stand_for_the_trigger(
    engine: type[Engine], loads: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasoner, "has_vision_weights", lambda: False)
    chat = make_nano_reasoner()
    drawn: Any = chat.invoke("Please draw a fox.")
    assert [call["args"]["prompt"] for call in drawn.tool_calls] == ["a fox"]
    never: Any = make_nano_reasoner(draw="never").invoke("Please draw a fox.")
    assert (never.tool_calls, never.text) == ([], "Hello.")


def test_with_eyes_clear_words_decide_and_the_model_decides_the_rest(
    engine: type[Engine], loads: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasoner, "has_vision_weights", lambda: True)
    chat = make_nano_reasoner()
    chat.invoke("Please don't draw anything, just tell me what a fox is.")
    chat.invoke("and now in blue")
    drawn: Any = chat.invoke("I'd like another picture")
    assert [call["args"]["prompt"] for call in drawn.tool_calls] == ["a fox"]
    assert [request.grammar for request in engine.asked] == [text_grammar(), None, None, None]
    assert [bool(request.dialogue[-1].get("draw")) for request in engine.asked] == [False, False, True, True]


def test_the_caption_begins_with_the_description_of_the_user(
    engine: type[Engine], loads: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasoner, "has_vision_weights", lambda: True)
    chat = make_nano_reasoner()
    drawn: Any = chat.invoke("Draw a cat wearing a crown, please.")
    assert [call["args"]["prompt"] for call in drawn.tool_calls] == ["a cat wearing a crown, simple style"]
    assert [request.prefill for request in engine.asked] == ["<h> a cat wearing a crown,"]
    shown: Any = chat.invoke([HumanMessage([PICTURE, {"type": "text", "text": "Draw a cat with a crown."}])])
    assert [call["args"]["prompt"] for call in shown.tool_calls] == ["a fox"], "the request may be about the picture"


def test_a_picture_that_was_drawn_is_not_asked_for_again(
    engine: type[Engine], loads: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasoner, "has_vision_weights", lambda: True)
    chat = make_nano_reasoner()
    call = {"name": "generate_image", "args": {"prompt": "a dog"}, "id": "1", "type": "tool_call"}
    told = [
        HumanMessage("Draw me a dog"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("Drawn.", tool_call_id="1", name="generate_image"),
    ]
    answer: Any = chat.invoke(told)
    assert (answer.text, answer.tool_calls) == ("Hello.", [])
    assert not engine.asked[0].dialogue[-1].get("draw")


WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
DRAWING = {
    "type": "function",
    "function": {"name": "generate_image", "parameters": {"type": "object", "properties": {}}},
}


@pytest.mark.parametrize(
    ("text", "tools", "choice"),
    [
        ("What is the weather?", [WEATHER, DRAWING], "get_weather"),
        ("Draw a fox.", [WEATHER, DRAWING], "generate_image"),
        ("Draw a fox.", [WEATHER], "auto"),
        ("Who are you?", [WEATHER, DRAWING], "auto"),
    ],
)
def test_a_tool_that_the_words_name_is_called(text: str, tools: list[dict[str, Any]], choice: str) -> None:
    chat = NanoChat(model="nano")
    assert chat.auto_tool_choice([HumanMessage(text)], tools) == choice
    after = [HumanMessage(text), AIMessage("x"), ToolMessage("It rains.", tool_call_id="1")]
    assert chat.auto_tool_choice(after, tools) == "auto"


def test_a_named_tool_must_be_called_and_a_choice_of_the_caller_counts(
    engine: type[Engine], loads: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasoner, "has_vision_weights", lambda: True)
    chat = make_nano_reasoner(language_model="here", offline=True)
    chat.bind_tools([WEATHER]).invoke("What is the weather?")
    assert engine.asked[-1].prefill == "<tool_call>\n"
    chat.bind_tools([WEATHER], tool_choice="none").invoke("What is the weather?")
    assert engine.asked[-1].prefill == ""
