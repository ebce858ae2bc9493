"""The models of a server, used by other processes as if they ran there."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from langchain_core.messages import HumanMessage
from PIL import Image

from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.chat_models.text_engine import ChoosingEngine, PromptSize, SizingEngine, TextEnd, TextRequest
from mgem_agent.errors import (
    ContextOverflowError,
    GenerationCancelledError,
    GeneratorUnavailableError,
    InputError,
    ReasonerUnavailableError,
)
from mgem_agent.resident.conversation import ResidentConversation
from mgem_agent.resident.generator import ResidentGenerator
from mgem_agent.resident.text_engine import make_resident_engine
from mgem_agent.resident.wire import encode_text_request
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult


class Engine:
    """Writes what it was asked, word by word; `wait` makes it wait until it is cancelled."""

    follows_grammar = True

    def __init__(self) -> None:
        self.seen: list[TextRequest] = []
        self.stopped = threading.Event()

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        self.seen.append(request)
        content: Any = request.dialogue[-1]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        if text == "overflow":
            raise ContextOverflowError(num_text_tokens=3, max_context=2)
        yield " Said"
        if text == "wait":
            request.cancel.wait(20)
            self.stopped.set()
        yield f" {text} \n"
        yield TextEnd(5, 2, 64, 1, "length")

    def prompt_size(self, request: TextRequest) -> PromptSize:
        return PromptSize(len(request.dialogue), 64, 64, 100)

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        return [0.25 * place for place, _ in enumerate(choices, 1)]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def reasoner(engine: Engine) -> ChatMiniGemini:
    return ChatMiniGemini(model="core", engine_factory=lambda name: engine)


def asked(text: str, **fields: Any) -> TextRequest:
    return TextRequest([{"role": "user", "content": text}], **fields)


def test_an_answer_is_the_one_of_the_engine(open_service: Any, running: Any, reasoner: Any, engine: Engine) -> None:
    request = asked("that", seed=3, temperature=0, max_tokens=9, thread_id="one", grammar="start: /a/")
    with running(open_service(reasoner=reasoner)) as address:
        resident: Any = make_resident_engine(address)
        assert [*resident.stream(request)] == [" Said", " that \n", TextEnd(5, 2, 64, 1, "length")]
        assert resident.follows_grammar
        assert isinstance(resident, SizingEngine) and isinstance(resident, ChoosingEngine)
        assert resident.prompt_size(request) == PromptSize(1, 64, 64, 100)
        assert resident.choice_probabilities(request, ["yes", "no"]) == [0.25, 0.5]
    (seen,) = engine.seen
    fields = ("dialogue", "seed", "temperature", "max_tokens", "thread_id", "grammar")
    assert [getattr(seen, name) for name in fields] == [getattr(request, name) for name in fields]


def test_a_chat_model_answers_through_a_server(open_service: Any, running: Any, reasoner: Any) -> None:
    picture = Image.new("RGB", (8, 8), "red")
    content: Any = [{"type": "image", "file_id": "one"}, {"type": "text", "text": "this"}]
    with running(open_service(reasoner=reasoner)) as address:
        here = ChatMiniGemini(
            model="core",
            engine_factory=lambda name: make_resident_engine(address),
            image_resolver=lambda name: picture,
        )
        answer = here.invoke([HumanMessage(content)])
    assert answer.text.strip() == "Said this"
    assert answer.usage_metadata is not None and answer.usage_metadata["input_tokens"] == 5


def test_an_error_is_the_one_of_the_engine(open_service: Any, running: Any, reasoner: Any) -> None:
    with running(open_service(reasoner=reasoner)) as address:
        with pytest.raises(ContextOverflowError) as caught:
            list(make_resident_engine(address).stream(asked("overflow")))
        assert (caught.value.num_text_tokens, caught.value.max_context) == (3, 2)


@pytest.mark.parametrize("fields", [{}, {"choices": "yes"}, {"choices": None}])
def test_choices_that_are_no_list_are_told(
    open_service: Any, running: Any, reasoner: Any, fields: dict[str, Any]
) -> None:
    with running(open_service(reasoner=reasoner)) as address:
        body = {**encode_text_request(asked("that")), **fields}
        answer = httpx.post(f"{address}/engines/text/choices", json=body)
    assert answer.status_code == 200, answer.text  # the answer is a stream, whose last event is the error
    assert "choices must be a list of words, got" in answer.text


@pytest.mark.parametrize("by", ["event", "closing"])
def test_a_cancellation_stops_the_engine(
    open_service: Any, running: Any, reasoner: Any, engine: Engine, by: str
) -> None:
    request = asked("wait")
    with running(open_service(reasoner=reasoner)) as address:
        pieces = make_resident_engine(address).stream(request)
        assert next(pieces) == " Said"
        if by == "event":
            request.cancel.set()
            assert [*pieces] == [TextEnd(finish_reason="cancelled")]
        else:
            pieces.close()  # type: ignore[attr-defined]
        assert engine.stopped.wait(10)


def test_a_question_about_a_picture(open_service: Any, running: Any, reasoner: Any, engine: Engine) -> None:
    with running(open_service(reasoner=reasoner)) as address:
        conversation = ResidentConversation(address)
        pieces = [*conversation.stream("seen", [Image.new("RGB", (8, 8))], max_new_tokens=4, seed=1, top_k=None)]
    assert "".join(pieces) == "Said seen"
    assert (conversation.finish_reason, conversation.usage) == ("length", TextEnd(5, 2, 64, 1, "length"))
    assert (engine.seen[0].temperature, engine.seen[0].max_tokens, engine.seen[0].options) == (0, 4, {})


def test_a_reasoner_elsewhere_is_not_offered(open_service: Any, running: Any) -> None:
    with running(open_service()) as address, pytest.raises(InputError, match="does not run in this server"):
        make_resident_engine(address)


def test_a_server_that_is_gone_is_told() -> None:
    with pytest.raises(ReasonerUnavailableError, match="127.0.0.1:9 did not finish"):
        make_resident_engine("http://127.0.0.1:9")
    with pytest.raises(GeneratorUnavailableError, match="did not finish"):
        _ = ResidentGenerator("http://127.0.0.1:9", "flat").capabilities


def test_a_drawing_is_the_one_of_the_generator(open_service: Any, running: Any) -> None:
    own = FlatColourGenerator(size=(64, 48))
    start = Image.linear_gradient("L").resize((16, 16)).convert("RGB")
    requests = [
        ImageRequest(prompt="a fox", seed=3),
        ImageRequest(prompt="a cat", task="image_to_image", image="start", strength=0.5, seed=4),
    ]
    with running(open_service(generator=FlatColourGenerator(size=(64, 48)))) as address:
        resident = ResidentGenerator(address, "flat")
        assert (resident.name, resident.capabilities) == ("flat", own.capabilities)
        events = [*draw(resident, requests, pictures={"start": start, "other": start})]
    expected = {
        each.index: each for each in draw(own, requests, pictures={"start": start}) if isinstance(each, ImageResult)
    }
    found = {each.index: each for each in events if isinstance(each, ImageResult)}
    assert any(isinstance(each, GenerationProgress) for each in events)
    assert found.keys() == expected.keys() == {0, 1}
    for index, result in found.items():
        assert result.error is None
        assert (result.executed, result.notices) == (expected[index].executed, expected[index].notices)
        images = result.image, expected[index].image
        assert images[0] is not None and images[1] is not None
        assert images[0].tobytes() == images[1].tobytes()


def test_a_failed_drawing_leaves_the_others(open_service: Any, running: Any) -> None:
    requests = [ImageRequest(prompt="a fox"), ImageRequest(prompt="broken")]
    with running(open_service(generator=FlatColourGenerator(fail_on="broken"))) as address:
        results = [
            each for each in ResidentGenerator(address, "flat").generate(requests) if isinstance(each, ImageResult)
        ]
    assert [results[index].error is None for index in range(2)] == [True, False]


def test_a_cancelled_drawing_has_a_result_for_each_request(open_service: Any, running: Any) -> None:
    cancel = threading.Event()
    with running(open_service(generator=FlatColourGenerator(delay_s=20))) as address:
        events = ResidentGenerator(address, "flat").generate([ImageRequest(prompt="a fox")], cancel=cancel)
        threading.Timer(0.2, cancel.set).start()
        begun = time.monotonic()
        results = [each for each in events if isinstance(each, ImageResult)]
        assert time.monotonic() - begun < 10
    assert [type(each.error) for each in results] == [GenerationCancelledError]


@pytest.mark.parametrize("body", [{"generator": "flat"}, {"generator": "flat", "requests": [{}], "num_previews": 0}])
async def test_a_request_of_another_form_is_refused(open_service: Any, client_of: Any, body: Any) -> None:
    async with client_of(open_service()) as client:
        answer = await client.post("/engines/images", json=body)
        assert "not one of this release" in answer.text
        assert (await client.post("/engines/text", json=[])).status_code == 400
        assert (await client.post("/engines/images", json={"generator": "other"})).status_code == 404
