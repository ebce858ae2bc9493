from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from PIL import Image

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorUnavailableError,
    InputError,
    MgemError,
    ToolError,
    UnsupportedRequestError,
)
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import Capabilities, GenerationProgress, ImageRequest, ImageResult, draw

Behaviour = Callable[[int, Sequence[ImageRequest]], Iterator[Any]]


class Wild:
    """A generator that does what a test says: `behaviour(number of the call, requests)`."""

    name = "wild"

    def __init__(self, behaviour: Behaviour, capabilities: Capabilities | None = None) -> None:
        self.behaviour = behaviour
        self.capabilities = capabilities or Capabilities(seed=True)
        self.num_calls = 0

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Any]:
        self.num_calls += 1
        return self.behaviour(self.num_calls, requests)

    def unload(self) -> None: ...


def good(index: int, request: ImageRequest, image: Any = None) -> ImageResult:
    picture = image if image is not None else Image.new("RGB", (32, 32), "red")
    return ImageResult(index, request, request, "wild", "toy", image=picture)


def requests(*prompts: str, **fields: Any) -> list[ImageRequest]:
    return [ImageRequest(prompt=prompt, **fields) for prompt in prompts]


def run(generator: Any, asked: Sequence[ImageRequest], **given: Any) -> list[ImageResult]:
    """Results in the order of the requests, after seeing that there is one for each."""
    found = [event for event in draw(generator, asked, **given) if isinstance(event, ImageResult)]
    found.sort(key=lambda result: result.index)
    assert [result.index for result in found] == list(range(len(asked)))
    assert [result.request for result in found] == list(asked)
    assert all((result.image is None) != (result.error is None) for result in found)
    return found


def errors(results: Sequence[ImageResult]) -> list[type[MgemError] | None]:
    return [type(result.error) if result.error else None for result in results]


def test_batches_are_cut_and_places_kept() -> None:
    able = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_batch_size": 2})
    generator = FlatColourGenerator(size=(32, 32), num_steps=1, capabilities=able)
    events = list(draw(generator, requests("a", "b", "c", "d", "e")))
    assert generator.num_batches == 3
    assert [event.index for event in events if isinstance(event, GenerationProgress)] == [0, 1, 2, 3, 4]
    assert [event.request.prompt for event in events if isinstance(event, ImageResult)] == ["a", "b", "c", "d", "e"]


def test_nothing_asked_nothing_called() -> None:
    generator = FlatColourGenerator()
    assert list(draw(generator, [])) == []
    assert generator.num_batches == 0


def test_what_is_not_honoured_is_in_the_result() -> None:
    generator = FlatColourGenerator(size=(32, 32), capabilities=Capabilities(size_multiple=16))
    [result] = run(generator, requests("a", seed=7, width=100))
    assert [notice.argument for notice in result.notices] == ["seed", "width"]
    assert result.executed.seed is None
    assert (result.executed.width, result.executed.height) == (96, 32)


def test_one_refused_request_leaves_the_others() -> None:
    generator = FlatColourGenerator(size=(32, 32), capabilities=Capabilities())
    asked = [ImageRequest(prompt="a"), ImageRequest(prompt="b", seed=1), ImageRequest(prompt="c", options={"x": 1})]
    assert errors(run(generator, asked)) == [None, None, UnsupportedRequestError]
    assert errors(run(generator, asked, strict=True)) == [None, UnsupportedRequestError, UnsupportedRequestError]


def test_a_picture_that_was_not_given() -> None:
    [result] = run(FlatColourGenerator(), requests("a", task="edit", image="img-1"), pictures={})
    assert isinstance(result.error, InputError)
    assert "names picture(s) 'img-1', which are missing" in str(result.error)


def test_raising_half_way_costs_the_rest_of_the_batch_only() -> None:
    generator = FlatColourGenerator(size=(32, 32), crash_on="boom")
    found = run(generator, requests("a", "boom", "c"))
    assert errors(found) == [None, ToolError, ToolError]
    assert "Generator 'flat' failed (RuntimeError: the card caught fire)" in str(found[1].error)
    assert isinstance(found[1].error and found[1].error.__cause__, RuntimeError)


def test_raising_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        raise KeyError("weights")

    assert errors(run(Wild(at_once), requests("a", "b"))) == [ToolError, ToolError]


def test_capabilities_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(FlatColourGenerator):
        @property
        def capabilities(self) -> Capabilities:
            raise GeneratorUnavailableError("gone")

    assert errors(run(Dead(), requests("a", "b"))) == [GeneratorUnavailableError] * 2


def test_a_generator_that_is_not_there_is_not_asked_again() -> None:
    def gone(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        if call == 2:
            raise GeneratorUnavailableError("gone")
        yield good(0, asked[0])

    generator = Wild(gone, Capabilities(max_batch_size=1))
    assert errors(run(generator, requests("a", "b", "c", "d"))) == [None, *[GeneratorUnavailableError] * 3]
    assert generator.num_calls == 2


def test_other_failures_do_not_stop_the_next_batch() -> None:
    def once(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        if call == 1:
            raise ValueError("hiccup")
        yield good(0, asked[0])

    assert errors(run(Wild(once, Capabilities(max_batch_size=1)), requests("a", "b"))) == [ToolError, None]


def test_answering_twice_strangely_or_not_at_all() -> None:
    def wild(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        yield "hello"
        yield GenerationProgress(9, 1, 2)
        yield good(7, asked[0])
        yield good(0, asked[0])
        yield good(0, asked[0])

    found = run(Wild(wild), requests("a", "b"))
    assert errors(found) == [None, GeneratorOutputError]
    assert "Generator 'wild' gave no result for this request." in str(found[1].error)


def test_neither_picture_nor_error() -> None:
    def empty(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        yield ImageResult(0, asked[0], asked[0], "wild", "toy")

    [result] = run(Wild(empty), requests("a"))
    assert isinstance(result.error, GeneratorOutputError)
    assert "returned no picture and no error" in str(result.error)


def test_any_mode_becomes_rgb() -> None:
    def clear(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        for index, mode in enumerate(("RGBA", "L", "P", "CMYK", "I;16")):
            yield good(index, asked[index], Image.new(mode, (20, 20)))

    found = run(Wild(clear), requests(*"abcde"))
    assert [result.image and result.image.mode for result in found] == ["RGB"] * 5


@pytest.mark.parametrize("image", ["no picture", Image.new("RGB", (0, 5)), Image.new("RGB", (8, 8))])
def test_what_is_no_usable_picture(image: Any) -> None:
    def wild(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        yield good(0, asked[0], image)

    assert errors(run(Wild(wild), requests("a"))) == [GeneratorOutputError]


def test_a_size_that_is_not_the_one_claimed() -> None:
    found = run(FlatColourGenerator(size=(32, 32), wrong_size=True), requests("a", "b"))
    assert errors(found) == [GeneratorOutputError] * 2
    assert "returned a picture with a width of 33 but reports 32" in str(found[0].error)


def test_a_size_that_is_not_the_one_asked_for_is_kept_and_reported() -> None:
    def other(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        executed = asked[0].model_copy(update={"width": 32, "height": None})
        yield ImageResult(0, asked[0], executed, "wild", "toy", image=Image.new("RGB", (32, 32)))

    [result] = run(Wild(other), requests("a", width=64))
    assert [notice.message for notice in result.notices] == ["A width of 64 was requested; the picture has 32."]
    assert (result.executed.width, result.executed.height) == (32, 32)
    assert errors(run(Wild(other), requests("a", width=64), strict=True)) == [GeneratorOutputError]


def test_an_executed_request_that_cannot_be() -> None:
    def impossible(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        executed = asked[0].model_copy(update={"seed": -5})
        yield ImageResult(0, asked[0], executed, "wild", "toy", image=Image.new("RGB", (32, 32)))

    [result] = run(Wild(impossible), requests("a"))
    assert "reports an impossible request: Input should be greater than or equal to 0" in str(result.error)


def test_cancel_keeps_what_is_drawn() -> None:
    cancel = threading.Event()
    able = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_batch_size": 2})
    generator = FlatColourGenerator(size=(32, 32), num_steps=1, capabilities=able)
    found = []
    for event in draw(generator, requests(*"abcde"), cancel=cancel):
        if isinstance(event, ImageResult):
            found.append(event)
            cancel.set()
    assert errors(found) == [None, *[GenerationCancelledError] * 4]
    assert generator.num_batches == 1


def test_a_generator_that_is_silent_after_cancel() -> None:
    cancel = threading.Event()

    def silent(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        cancel.set()
        yield good(0, asked[0])

    assert errors(run(Wild(silent), requests("a", "b"), cancel=cancel)) == [None, GenerationCancelledError]


def test_leaving_early_closes_the_generator() -> None:
    closed = []

    def slow(call: int, asked: Sequence[ImageRequest]) -> Iterator[Any]:
        try:
            for index, request in enumerate(asked):
                yield good(index, request)
        finally:
            closed.append(True)

    events: Any = draw(Wild(slow), requests("a", "b"))
    next(events)
    events.close()
    assert closed == [True]


def test_previews_come_from_the_generators_that_can_show_them() -> None:
    request = ImageRequest(prompt="a fox", num_inference_steps=4)
    shown = [
        (event.step, event.preview.size)
        for event in draw(FlatColourGenerator(size=(64, 32)), [request], num_previews=2)
        if isinstance(event, GenerationProgress) and event.preview is not None
    ]
    assert shown == [(1, (64, 32)), (3, (64, 32))]


def test_a_generator_without_previews_is_not_asked_for_them() -> None:
    unable = FlatColourGenerator.CAPABILITIES.model_copy(update={"previews": False})
    events = list(draw(FlatColourGenerator(capabilities=unable), [ImageRequest(prompt="a fox")], num_previews=2))
    assert [event.preview for event in events if isinstance(event, GenerationProgress)] == [None] * 4
