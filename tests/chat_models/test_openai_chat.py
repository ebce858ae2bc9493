"""Servers that speak OpenAI's protocol, with what real ones do: a scripted one on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import AgentNotice, TextPiece
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import (
    ContextOverflowError,
    MgemError,
    ReasonerOutputError,
    ReasonerRequestError,
    ReasonerUnavailableError,
)
from mgem_agent.reasoners import make_reasoner
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator

FOX = {"name": "generate_image", "arguments": '{"prompt": "a red fox"}'}
CALL = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": FOX}]}


@dataclass
class Reply:
    """What the server answers: a stream of deltas, or an error, or a page."""

    deltas: tuple[dict[str, Any], ...] = ()
    finish: str | None = "stop"
    status: int = 200
    error: Any = None
    page: str | None = None
    is_cut: bool = False


def says(*texts: str, **fields: Any) -> Reply:
    return Reply(tuple({"content": text} for text in texts), **fields)


def refuses(status: int, message: str, **fields: Any) -> Reply:
    return Reply(status=status, error={"error": {"message": message, **fields}})


class Server(ThreadingHTTPServer):
    """Answers by a list, over and over its last reply; a reply may also be a function of the request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[Any] = []
        self.asked: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.server.replies[min(len(self.server.asked), len(self.server.replies) - 1)]
        self.server.asked.append(asked)
        reply = reply(asked) if callable(reply) else reply
        if reply.is_cut and not reply.deltas:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()  # a reset
            return
        self.send_response(reply.status)
        page = reply.page if reply.page is not None else json.dumps(reply.error) if reply.error is not None else None
        if page is not None:
            self.send_header("Content-Type", "text/html" if reply.page is not None else "application/json")
            self.end_headers()
            self.wfile.write(page.encode())
            return
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta in reply.deltas:
            self.event(choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        if reply.is_cut:
            return
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": reply.finish}])
        if (asked.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
            self.event(choices=[], usage=usage)
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, **fields: Any) -> None:
        event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", **fields}
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def model_at(address: str, **options: Any) -> Any:
    return make_reasoner(f"{address}#tiny", **{"max_retries": 0, "tool_calling": "native", **options})


@pytest.fixture
def agent_at(tmp_path: Path) -> Any:
    def make(address: str, tool_calling: Any = "native", **options: Any) -> MgemAgent:
        reasoner = model_at(address, tool_calling=tool_calling)
        generator = FlatColourGenerator(size=(32, 32))
        return MgemAgent(reasoner, generator, store=ArtifactStore(tmp_path), sessions=Sessions.in_memory(), **options)

    return make


def roles(asked: dict[str, Any]) -> list[str]:
    return [message["role"] for message in asked["messages"]]


def num_pictures(asked: dict[str, Any]) -> int:
    return json.dumps(asked["messages"]).count('"image_url":')


def length(asked: dict[str, Any]) -> int:
    """Tokens as a server may count them: 1,000 a picture, and one for four letters."""
    texts = [
        part["text"]
        for message in asked["messages"]
        for part in (
            [{"text": message["content"]}] if isinstance(message["content"], str) else message["content"] or []
        )
        if "text" in part
    ]
    return 1_000 * num_pictures(asked) + sum(map(len, texts)) // 4


def card(colour: str = "red") -> Image.Image:
    return Image.new("RGB", (8, 8), colour)


def notices(events: list[Any]) -> list[str]:
    return [event.message for event in events if isinstance(event, AgentNotice)]


class TestUsageAndEnds:
    @pytest.mark.parametrize("tool_calling", ["native", "prompt"])
    def test_usage_is_asked_for(self, server: Server, tool_calling: Any) -> None:
        server.replies = [says("Half an ans", finish="length")]
        model = model_at(server.address, tool_calling=tool_calling, streaming=True)
        answer = model.invoke("Hello.")
        assert answer.usage_metadata["total_tokens"] == 13
        assert answer.response_metadata["finish_reason"] == "length"

    @pytest.mark.parametrize("tool_calling", ["native", "prompt"])
    def test_a_server_that_refuses_the_option_is_asked_without_it(self, server: Server, tool_calling: Any) -> None:
        def reply(asked: dict[str, Any]) -> Reply:
            if "stream_options" in asked:
                return refuses(400, "Unknown parameter: stream_options")
            return says("Hel", "lo.", finish="length")

        server.replies = [reply]
        model = model_at(server.address, tool_calling=tool_calling, streaming=True)
        for _ in range(2):
            answer = model.invoke("Hello.")
            assert (answer.text, answer.usage_metadata) == ("Hello.", None)
            assert answer.response_metadata["finish_reason"] == "length"
        assert ["stream_options" in asked for asked in server.asked] == [True, False, False]

    @pytest.mark.parametrize("tool_calling", ["native", "prompt"])
    @pytest.mark.parametrize(
        ("reply", "outcome", "reason", "notice"),
        [
            (says("Half", finish="length"), "answered", "length", "The answer reached its token limit and was cut"),
            (says(finish="content_filter"), "refused", "content_filter", "The provider withheld the answer: its cont"),
            (
                Reply(({"refusal": "I can"}, {"refusal": "not."})),
                "refused",
                "refusal",
                "The model refused to answer: I",
            ),
            (says(""), "answered", "stop", "The answer is empty."),
        ],
    )
    def test_why_an_answer_ended_is_told(
        self, server: Server, agent_at: Any, tool_calling: Any, reply: Reply, outcome: str, reason: str, notice: str
    ) -> None:
        server.replies = [reply]
        events = list(agent_at(server.address, tool_calling).stream("Hello."))
        turn = events[-1].turn
        assert (turn.outcome, turn.finish_reason) == (outcome, reason)
        [said] = notices(events)
        assert said.startswith(notice) and turn.notices == (said,)


class TestFailures:
    @pytest.mark.parametrize("tool_calling", ["native", "prompt"])
    @pytest.mark.parametrize(
        ("reply", "kind", "message"),
        [
            (
                refuses(500, "out of memory"),
                ReasonerUnavailableError,
                "answered with HTTP 500: out of memory. Try again",
            ),
            (refuses(429, "slow down"), ReasonerUnavailableError, "answered with HTTP 429: slow down. Wait and try"),
            (refuses(404, "no model tiny"), ReasonerRequestError, "answered with HTTP 404: no model tiny. Check the"),
            (refuses(401, "bad key"), ReasonerRequestError, "answered with HTTP 401: bad key. Check the API key"),
            (
                Reply(status=404, page="<!doctype html><title>Not\nFound</title>"),
                ReasonerRequestError,
                "answered with HTTP 404: a web page, 'Not Found'. Check",
            ),
            (
                Reply(page="<html>Hello</html>"),
                ReasonerOutputError,
                "sent no answer. Check the address",
            ),
            (Reply(is_cut=True), ReasonerOutputError, "ended its answer early"),
            (says("One ", "two", is_cut=True), ReasonerOutputError, "ended its answer early. Try again"),
        ],
    )
    def test_each_is_our_own_error_with_the_address(
        self, server: Server, agent_at: Any, tool_calling: Any, reply: Reply, kind: type[MgemError], message: str
    ) -> None:
        server.replies = [reply]
        agent = agent_at(server.address, tool_calling)
        with pytest.raises(kind) as caught:
            agent.invoke("Hello.")
        assert server.address in str(caught.value) and message in str(caught.value)
        server.replies = [says("Hello.")]
        assert agent.resume().text == "Hello."

    def test_nobody_is_there(self, agent_at: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
            with pytest.raises(
                ReasonerUnavailableError, match=r"cannot be reached \(.*refused.*\) Check that the serv"
            ):
                agent_at(address).invoke("Hello.")


OVERFLOWS = {
    "openai": lambda asked, limit: refuses(
        400,
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {asked} tokens. "
        "Please reduce the length of the messages.",
        code="context_length_exceeded",
    ),
    "openai_without_numbers": lambda asked, limit: refuses(
        400, "Your input exceeds the context window of this model. Please adjust your input and try again."
    ),
    "vllm": lambda asked, limit: refuses(
        400,
        f"This model's maximum context length is {limit} tokens. However, you requested {asked + 10} tokens ({asked} "
        "in the messages, 10 in the completion). Please reduce the length of the messages or completion.",
    ),
    "vllm_pictures": lambda asked, limit: refuses(
        400,
        f"The decoder prompt (length {asked}) is longer than the maximum model length of {limit}. Make sure that "
        "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens.",
    ),
    "llama.cpp": lambda asked, limit: Reply(
        status=400,
        error={
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": asked,
                "n_ctx": limit,
            }
        },
    ),
    "llama.cpp_in_words": lambda asked, limit: refuses(
        500, f"request ({asked} tokens) exceeds the available context size ({limit} tokens), try increasing it"
    ),
}


class TestContext:
    @pytest.mark.parametrize("wording", OVERFLOWS)
    @pytest.mark.parametrize("tool_calling", ["native", "prompt"])
    def test_the_newest_that_fits_is_told_and_the_limit_is_learned(
        self, server: Server, agent_at: Any, tool_calling: Any, wording: str
    ) -> None:
        limit = 2_600

        def reply(asked: dict[str, Any]) -> Reply:
            tokens = length(asked)
            return OVERFLOWS[wording](tokens, limit) if tokens > limit else says("I see.")

        server.replies = [reply]
        agent = agent_at(server.address, tool_calling)
        for colour in ("red", "green", "blue", "grey"):
            events = list(agent.stream("What is it? " * 20, [card(colour)]))
            assert events[-1].turn.text == "I see."
        assert len(server.asked) <= 4 + 4  # it is not found out anew in each turn
        last = server.asked[-1]
        assert 1 <= num_pictures(last) <= 2 and "not shown again]" in json.dumps(last["messages"])
        told = [notice for turn in agent.turns() for notice in turn.notices]
        assert any(notice.startswith("The context of ") for notice in told)

    def test_a_question_that_is_too_long_alone_is_an_error_and_nothing_is_unfinished(
        self, server: Server, agent_at: Any
    ) -> None:
        server.replies = [says("Hello."), OVERFLOWS["openai"](9_000, 4_096), says("Hello again.")]
        agent = agent_at(server.address)
        agent.invoke("Hello.")
        server.replies[2:2] = [OVERFLOWS["openai"](9_000, 4_096)] * 2
        with pytest.raises(
            ContextOverflowError,
            match=r"^The request is too long for the reasoner 'tiny' at .*: its context holds 4096 tokens\. The serv",
        ):
            agent.invoke("word " * 9_000)
        assert agent.sessions.open_turn("default") is None
        server.replies = [says("Hello again.")]
        assert agent.invoke("Hello?").text == "Hello again."


BLIND = {
    "llama.cpp": refuses(500, "image input is not supported - hint: you may need to provide the mmproj"),
    "vllm": refuses(400, "tiny is not a multimodal model"),
    "openai": refuses(400, "Invalid content type. image_url is only supported by certain models."),
    "deepseek": refuses(422, "messages[0]: unknown variant `image_url`, expected `text`"),
    "openrouter": refuses(404, "No endpoints found that support image input"),
}


class TestSight:
    @pytest.mark.parametrize("server_name", BLIND)
    @pytest.mark.parametrize("tool_calling", ["native", "prompt"])
    def test_a_model_of_text_alone_is_found_out_once(
        self, server: Server, agent_at: Any, server_name: str, tool_calling: Any
    ) -> None:
        server.replies = [lambda asked: BLIND[server_name] if num_pictures(asked) else says("Words.")]
        agent = agent_at(server.address, tool_calling)
        first = list(agent.stream("What is it?", [card()]))
        second = list(agent.stream("And this?", [card("blue")]))
        assert [events[-1].turn.text for events in (first, second)] == ["Words.", "Words."]
        assert len(notices(first)) == 1 and "takes no pictures" in notices(first)[0] and not notices(second)
        assert [num_pictures(asked) for asked in server.asked] == [1, 0, 0]
        assert "not shown]" in json.dumps(server.asked[-1])

    def test_the_turn_goes_on_after_drawing(self, server: Server, agent_at: Any) -> None:
        def reply(asked: dict[str, Any]) -> Reply:
            if num_pictures(asked):
                return BLIND["vllm"]
            return says("Done.") if roles(asked)[-1] == "tool" else Reply((CALL,), finish="tool_calls")

        server.replies = [reply]
        turn = agent_at(server.address, look=1).invoke("A fox.")
        assert (turn.text, len(turn.pictures)) == ("Done.", 1)

    def test_a_model_that_takes_one_picture_is_shown_the_newest(self, server: Server, agent_at: Any) -> None:
        few = refuses(400, "At most 1 image(s) may be provided in one prompt.")
        server.replies = [lambda asked: few if num_pictures(asked) > 1 else says("I see.")]
        agent = agent_at(server.address)
        agent.invoke("What is it?", [card()])
        turns = [agent.invoke("And this?", [card(colour)]) for colour in ("blue", "grey")]
        assert [turn.text for turn in turns] == ["I see."] * 2
        assert [num_pictures(asked) for asked in server.asked] == [1, 2, 1, 1]

    def test_it_can_be_said(self, server: Server, agent_at: Any) -> None:
        server.replies = [says("Words.")]
        agent_at(server.address, sees=False).invoke("What is it?", [card()])
        assert num_pictures(server.asked[0]) == 0

    def test_a_picture_that_is_bad_is_no_blindness(self, server: Server, agent_at: Any) -> None:
        server.replies = [refuses(400, "You uploaded an unsupported image. Please use png, jpeg or webp.")]
        with pytest.raises(ReasonerRequestError, match="unsupported image"):
            agent_at(server.address).invoke("What is it?", [card()])


def test_a_drawn_picture_is_shown_by_the_user_after_the_results_of_all_calls(server: Server, agent_at: Any) -> None:
    second = {"tool_calls": [{"index": 1, "id": "call_2", "type": "function", "function": FOX}]}
    server.replies = [Reply((CALL, second), finish="tool_calls"), says("Two foxes.")]
    agent = agent_at(server.address)
    assert agent.invoke("Two foxes.").text == "Two foxes."
    agent.invoke("Thank you.")
    first, later = server.asked[1:]
    assert roles(first) == ["user", "assistant", "tool", "tool", "user"]
    assert all(isinstance(message["content"], str) for message in first["messages"] if message["role"] == "tool")
    assert [part["type"] for part in first["messages"][-1]["content"]] == ["text", "image_url"] * 2
    assert roles(later) == ["user", "assistant", "tool", "tool", "user", "assistant", "user"]


@pytest.mark.parametrize("tool_calling", ["native", "prompt"])
@pytest.mark.parametrize("opening", ["<think>", ""])
def test_thinking_is_no_part_of_the_answer(server: Server, agent_at: Any, tool_calling: Any, opening: str) -> None:
    server.replies = [says(f"{opening}Maybe the <h> key </h>.</thi", "nk>The Lost ", "Key")]
    agent = agent_at(server.address, tool_calling)
    events = list(agent.stream("A title."))
    assert (events[-1].turn.text, events[-1].turn.pictures) == ("The Lost Key", ())
    shown = [event.text for event in events if isinstance(event, TextPiece)]
    assert ("".join(shown), notices(events)) == ("The Lost Key", [])
    again = [event.text for event in agent.stream("Another.") if isinstance(event, TextPiece)]
    assert "".join(again) == "The Lost Key"
