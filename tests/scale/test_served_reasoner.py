from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image

from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.chat_models.text_engine import PromptSize, TextEnd, TextRequest
from mgem_agent.errors import ContextOverflowError
from mgem_agent.scale.served_reasoner import ReasonerReplica, open_handle_engine, with_handle


class RecordingEngine:
    """Says what it was asked; `slow` says words until it is cancelled."""

    follows_grammar = True

    def __init__(self) -> None:
        self.requests: list[TextRequest] = []

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        self.requests.append(request)
        asked = str(request.dialogue[-1]["content"])
        if "too long" in asked:
            raise ContextOverflowError(num_text_tokens=9, max_context=4)
        while "slow" in asked and not request.cancel.wait(0.01):
            yield "word "
        yield from ("Here: ", "<h> a red", " fox </h>")
        yield TextEnd(5, 6)

    def prompt_size(self, request: TextRequest) -> PromptSize:
        return PromptSize(len(request.dialogue), 0, 0, 100)

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        return [0.25 * len(choice) for choice in choices]


@pytest.fixture
def engine() -> RecordingEngine:
    return RecordingEngine()


@pytest.fixture
def served(engine: RecordingEngine, local_handle: Any) -> Callable[[], ChatMiniGemini]:
    def make() -> ChatMiniGemini:
        replica = ReasonerReplica(lambda: ChatMiniGemini(model="weights", engine_factory=lambda name: engine))
        return with_handle(ChatMiniGemini(model="weights"), local_handle(replica))

    return make


def test_an_answer_is_that_of_the_replica(engine: RecordingEngine, served: Callable[[], ChatMiniGemini]) -> None:
    model = served()
    answer = model.invoke("Draw a fox.", temperature=0, thread_id="one")
    assert answer.text == "Here:" and answer.tool_calls[0]["args"]["prompt"] == "a red fox"
    assert answer.usage_metadata is not None and answer.usage_metadata["output_tokens"] == 6
    assert (engine.requests[0].temperature, engine.requests[0].thread_id) == (0, "one")
    assert model.follows_grammar()
    size = model.prompt_size([HumanMessage("Hi.")])
    assert size is not None and size.max_context == 100
    assert model.probability_of_yes([HumanMessage("Is it?")]) == pytest.approx(0.6)


def test_the_error_of_a_replica_is_raised(served: Callable[[], ChatMiniGemini]) -> None:
    with pytest.raises(ContextOverflowError, match="the context holds 4") as caught:
        served().invoke("This is too long.")
    assert caught.value.max_context == 4


def test_cancelling_stops_the_replica(
    engine: RecordingEngine, served: Callable[[], ChatMiniGemini], local_handle: Any
) -> None:
    stream = served().stream("A slow one.")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert engine.requests[0].cancel.wait(5)
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    started = time.monotonic()
    replica = ReasonerReplica(lambda: ChatMiniGemini(model="weights", engine_factory=lambda name: engine))
    request = TextRequest([{"role": "user", "content": "slow"}], cancel=cancel)
    events = list(open_handle_engine(local_handle(replica)).stream(request))
    assert isinstance(events[-1], TextEnd) and events[-1].finish_reason == "cancelled"
    assert time.monotonic() - started < 3


class _PlainEngine:
    def stream(self, request: TextRequest) -> Iterator[str]:
        yield "Hello."


def test_an_engine_can_do_what_that_of_the_replica_can(local_handle: Any) -> None:
    replica = ReasonerReplica(lambda: ChatMiniGemini(model="x", engine_factory=lambda name: _PlainEngine()))
    model = with_handle(ChatMiniGemini(model="x"), local_handle(replica))
    assert model.invoke("Hi.").text == "Hello." and not model.follows_grammar()
    assert model.prompt_size([HumanMessage("Hi.")]) is None
    assert model.probability_of_yes([HumanMessage("Is it?")]) is None


def test_a_picture_of_a_file_is_sent_as_bytes(
    tmp_path: Path, engine: RecordingEngine, served: Callable[[], ChatMiniGemini]
) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (8, 8), "red").save(path)
    model = served().model_copy(update={"image_resolver": lambda name: path})
    model.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, {"type": "image", "file_id": "img-1"}])])
    sent = [part for part in engine.requests[0].dialogue[-1]["content"] if part["type"] == "image"]
    assert sent[0]["image"] == path.read_bytes()
