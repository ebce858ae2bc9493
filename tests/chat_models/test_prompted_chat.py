"""A chat model that cannot call tools draws by the protocol that it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_tests.unit_tests import ChatModelUnitTests
from PIL import Image

from mgem_agent.chat_models.prompted_chat import GenProtocolChat

USAGE = {"input_tokens": 30, "output_tokens": 4, "total_tokens": 34, "input_token_details": {"cache_read": 10}}


class PlainChat(BaseChatModel):
    """A chat model of text alone; it remembers what it was asked."""

    model: str = "plain-1"
    lines: list[str] = []
    asked: list[list[BaseMessage]] = []
    options: list[dict[str, Any]] = []

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kw: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.lines[0]))])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        line = self.lines[len(self.asked)]
        self.asked.append(messages)
        self.options.append(kwargs)
        for letter in line:
            yield ChatGenerationChunk(message=AIMessageChunk(content=letter))
        end: Any = AIMessageChunk(content="", usage_metadata=USAGE, response_metadata={"finish_reason": "length"})
        yield ChatGenerationChunk(message=end)


def told(*lines: str, **fields: Any) -> tuple[GenProtocolChat, PlainChat]:
    plain = PlainChat(lines=list(lines), asked=[], options=[])
    return GenProtocolChat(chat_model=plain, **fields), plain


def prompts(message: Any) -> list[str]:
    return [call["args"]["prompt"] for call in message.tool_calls]


class TestUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return GenProtocolChat

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"chat_model": PlainChat()}


def test_the_protocol_is_told_and_read() -> None:
    model, plain = told("Here: <h> a fox </h>")
    answer = model.invoke([SystemMessage("Be kind."), HumanMessage("A <h>fox</h>!")], temperature=0.5)
    assert (answer.text, prompts(answer)) == ("Here:", ["a fox"])
    system, question = plain.asked[0]
    assert system.text.startswith("Be kind.\n\nYou can draw.") and "<h>" in system.text
    assert question.text == "A [h]fox[/h]!"
    assert plain.options == [{"temperature": 0.5}]
    assert answer.usage_metadata == {**USAGE, "input_token_details": {"cache_read": 10, "image": 0}}
    assert (answer.response_metadata["model_name"], answer.response_metadata["finish_reason"]) == ("plain-1", "length")


@pytest.mark.parametrize("rest", ["a fox </h>", "<h> a fox </h>", "Sure. <h> a fox </h> There.", "a fox"])
def test_a_missing_caption_is_asked_for(rest: str) -> None:
    model, plain = told("Sure.", rest)
    answer = model.invoke("A fox!", draw="always")
    assert (answer.text, prompts(answer)) == ("Sure.", ["a fox"])
    assert plain.asked[0][-1].text == "A fox! <GEN>"
    assert plain.asked[1][-2].text == "Sure. <h>"
    assert plain.asked[1][-1].text.startswith("Go on with your last message")


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 1}}</tool_call>',
        '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
        '{"name": "add", "arguments": {"a": 1}}',
    ],
)
def test_a_call_that_must_be_made_may_be_gone_on_with_or_written_again(line: str) -> None:
    tool = {"name": "add", "description": "Add.", "parameters": {"properties": {"a": {"type": "integer"}}}}
    model, _ = told(line)
    answer = model.bind_tools([tool], tool_choice="add").invoke("1")
    assert [call["args"] for call in answer.tool_calls] == [{"a": 1}]


@pytest.mark.parametrize("line", ['"a": 1}', '{"a": 1}'])
def test_json_may_be_gone_on_with_or_written_again(line: str) -> None:
    model, _ = told(line)
    assert model.with_structured_output({"title": "x"}, method="json_mode").invoke("1") == {"a": 1}


def test_pictures_are_passed_on_as_blocks() -> None:
    model, plain = told("Seen.", image_resolver=lambda name: Image.new("RGB", (3, 2), name))
    blocks = [
        {"type": "image", "base64": "AAAA", "mime_type": "image/jpeg"},
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "image", "file_id": "teal"},
        {"type": "text", "text": "What?"},
    ]
    model.invoke([HumanMessage(blocks)])
    sent = plain.asked[0][-1].content
    assert sent[0] == {"type": "image", "base64": "AAAA", "mime_type": "image/jpeg"}
    assert sent[1] == {"type": "image", "url": "https://example.org/a.png"}
    assert sent[2]["mime_type"] == "image/png" and sent[2]["base64"].startswith("iVBOR")
    assert sent[3] == {"type": "text", "text": "What?"}
