"""Reasoners by name, and over a server that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from mgem_agent import ChatMiniGemini
from mgem_agent.chat_models.prompted_chat import GenProtocolChat
from mgem_agent.errors import InputError, MissingDependencyError, ReasonerUnavailableError
from mgem_agent.reasoners import make_reasoner

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


class Server(ThreadingHTTPServer):
    """Answers each chat completion with the next line, in pieces, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lines: list[str] = []
        self.models = [{"id": "tiny", "root": "/weights/tiny"}]
        self.asked: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        body = json.dumps({"object": "list", "data": self.server.models}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        line = self.server.lines[len(self.server.asked)]
        self.server.asked.append(asked)
        deltas: list[dict[str, Any]] = [{"content": line[at : at + 4]} for at in range(0, len(line), 4)]
        if "tools" in asked:
            function = {"name": "generate_image", "arguments": '{"prompt": "a native fox"}'}
            deltas = [{"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta in [*deltas, {}]:
            choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
            self.event({"choices": [choice]})
        self.event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, fields: dict[str, Any]) -> None:
        event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", **fields}
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_server_behind_an_address_is_told_the_protocol(server: Server) -> None:
    server.lines = ["Sure.", "a red fox </h>"]
    model = make_reasoner(f"{server.address}#tiny", temperature=0)
    answer = model.invoke("A fox!", draw="always")
    assert (answer.text, answer.tool_calls[0]["args"]["prompt"]) == ("Sure.", "a red fox")
    assert answer.response_metadata["model_name"] == "tiny"
    first, second = server.asked
    assert (first["model"], first["temperature"], "tools" in first) == ("tiny", 0, False)
    assert first["messages"][0]["role"] == "system" and "<h>" in first["messages"][0]["content"]
    assert first["messages"][-1] == {"role": "user", "content": "A fox! <GEN>"}
    assert second["messages"][-2] == {"role": "assistant", "content": "Sure. <h>"}


@pytest.mark.parametrize("name", ["mgm-7b", "YanweiLi/MGM-34B-HD", "/weights/my-mini-gemini", "nano"])
def test_a_served_mini_gemini_is_asked_in_its_own_form(server: Server, name: str) -> None:
    server.lines = ["Sure.", " a red fox </h>"]
    model = make_reasoner(f"{server.address}#{name}", temperature=0)
    assert isinstance(model, ChatMiniGemini)
    picture = {"type": "image", "base64": PIXEL, "mime_type": "image/png"}
    shown = HumanMessage([picture, {"type": "text", "text": "A fox like this!"}])
    answer = model.invoke([shown], draw="always")
    assert (answer.text, answer.tool_calls[0]["args"]["prompt"]) == ("Sure.", "a red fox")
    first, second = server.asked
    assert (first["model"], first["temperature"], first["skip_special_tokens"]) == (name, 0, False)
    (turn,) = first["messages"]  # the protocol is not explained
    assert turn["content"][0]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    assert turn["content"][1] == {"type": "text", "text": "A fox like this! <GEN>"}
    assert second["messages"][1:] == [{"role": "assistant", "content": "Sure. <h>"}]
    assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
    assert second["skip_special_tokens"] is False


def test_a_server_names_its_only_model(server: Server) -> None:
    assert isinstance(make_reasoner(server.address), GenProtocolChat)
    server.models = [{"id": "default", "root": "/weights/MGM-7B/"}]
    server.lines = ["A fox."]
    model = make_reasoner(server.address)
    assert isinstance(model, ChatMiniGemini) and model.default_model_name() == f"{server.address}#default"
    assert model.invoke("What is it?").text == "A fox."
    assert server.asked[0]["model"] == "default"
    server.lines.append("An owl.")
    assert model.invoke("What is it?", model="other").text == "An owl."
    assert server.asked[1]["model"] == "other"
    assert isinstance(make_reasoner(server.address, tool_calling="prompt"), GenProtocolChat)


def test_a_server_that_cannot_name_one_model(server: Server) -> None:
    server.models.append({"id": "large"})
    with pytest.raises(InputError, match=r"has 2 models: 'tiny', 'large'\. Write the name of one after a '#', as in"):
        make_reasoner(server.address)
    with pytest.raises(ReasonerUnavailableError, match="does not say which models it has"):
        make_reasoner("http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match="does not name a model"):
        ChatMiniGemini(model=server.address).invoke("Hello")


@pytest.mark.parametrize("name", ["gpt-5-nano", "gemini-3", "nano-banana", "qwen3-vl", "mgmt-7b"])
def test_other_models_are_told_the_protocol(server: Server, name: str) -> None:
    assert isinstance(make_reasoner(f"{server.address}#{name}"), GenProtocolChat)


def test_native_tool_calling_is_used_where_it_is_asked_for(server: Server) -> None:
    server.lines = [""]
    model = make_reasoner(f"{server.address}#tiny", tool_calling="native", streaming=True)
    tool = {"name": "generate_image", "description": "Draw.", "parameters": {"type": "object", "properties": {}}}
    answer = model.bind_tools([tool]).invoke("A fox!")
    assert [call["args"]["prompt"] for call in answer.tool_calls] == ["a native fox"]


def test_a_provider_calls_tools_natively_unless_told_otherwise() -> None:
    native = make_reasoner("openai:gpt-5", api_key="x")
    assert type(native).__name__ == "OpenAIProtocolChat"
    told = make_reasoner("openai:gpt-5", api_key="x", tool_calling="prompt")
    assert isinstance(told, GenProtocolChat)
    assert told.default_model_name() == "gpt-5"


def test_other_names_are_those_of_the_core_model(tmp_path: Path) -> None:
    for name in ("YanweiLi/MGM-2B", str(tmp_path), tmp_path):
        model = make_reasoner(name, temperature=0)
        assert isinstance(model, ChatMiniGemini)
        assert model.default_model_name() == str(name)


def test_a_provider_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_ollama", None)
    message = r"^The reasoner 'ollama:llama3' needs the package 'langchain-ollama'\. Run: pip install langchain-ollama$"
    with pytest.raises(MissingDependencyError, match=message):
        make_reasoner("ollama:llama3")


def test_a_provider_whose_key_is_missing() -> None:
    message = r"^The reasoner 'openai:gpt-5' needs an API key\. Set OPENAI_API_KEY in "
    with pytest.raises(InputError, match=message):
        make_reasoner("openai:gpt-5")


def test_another_error_of_a_provider_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("langchain.chat_models.init_chat_model", fail)
    with pytest.raises(RuntimeError, match="out of order"):
        make_reasoner("anthropic:claude-5", api_key="x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt", r"^There is no reasoner 'gpt', and no such folder\. Allowed: 'openai:gpt-5', 'ollama:llama3' "),
        ("./nowhere", r"^There is no reasoner './nowhere', and no such folder\. Allowed: "),
        ("", r"^There is no reasoner '', and no such folder\."),
        ("opnai:gpt-5", r"^There is no provider 'opnai', in the reasoner 'opnai:gpt-5'\. Allowed: "),
        ("ftp://host/v1#m", r"^The reasoner 'ftp://host/v1#m' is not an address with a model\."),
    ],
)
def test_a_name_of_no_known_form_is_answered_with_the_forms(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_reasoner(name)


def test_tool_calling_is_one_of_three() -> None:
    with pytest.raises(InputError, match=r"^tool_calling is 'never'\. Allowed: 'auto', 'native', 'prompt'\.$"):
        make_reasoner("openai:gpt-5", tool_calling="never")
