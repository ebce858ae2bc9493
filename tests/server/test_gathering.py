"""Batches across clients: who shares them, that pictures stay the same, and that nobody suffers from another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from mgem_agent.errors import GenerationCancelledError, GeneratorUnavailableError, ToolError
from mgem_agent.server.gathering import GatheringGenerator
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, ImageResult
from mgem_agent.tools.drawing import draw


class Recorded(FlatColourGenerator):
    """Cards whose batches are recorded, and which begin only when they may."""

    def __init__(self, **options: Any) -> None:
        super().__init__(size=(16, 16), **options)
        self.batches: list[list[str]] = []
        self.may_draw = threading.Event()
        self.may_draw.set()
        self.saw_cancel = False

    def generate(self, requests: Sequence[ImageRequest], *, cancel: Any = None, **options: Any) -> Iterator[Any]:
        self.batches.append([request.prompt for request in requests])
        while not self.may_draw.wait(0.005):
            self.saw_cancel = self.saw_cancel or cancel.is_set()
            if self.saw_cancel:
                break
        yield from super().generate(requests, cancel=cancel, **options)


@pytest.fixture
def gathered() -> Iterator[Callable[..., GatheringGenerator]]:
    made: list[GatheringGenerator] = []

    def make(generator: Any, **options: Any) -> GatheringGenerator:
        made.append(GatheringGenerator(generator, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def drawn(generator: Any, *requests: ImageRequest, cancel: threading.Event | None = None) -> list[ImageResult]:
    events = draw(generator, requests, cancel=cancel)
    return sorted((event for event in events if isinstance(event, ImageResult)), key=lambda result: result.index)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def card(prompt: str, **fields: Any) -> ImageRequest:
    return ImageRequest(prompt=prompt, seed=1, **fields)


def test_what_waits_becomes_one_batch_and_each_client_gets_its_own(gathered: Any) -> None:
    inner = Recorded()
    generator = gathered(inner, max_batch=8)
    inner.may_draw.clear()
    prompts = [f"card {number}" for number in range(9)]
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(drawn, generator, card(prompts[0]))
        wait_until(lambda: len(inner.batches) == 1)
        others = [pool.submit(drawn, generator, card(prompt)) for prompt in prompts[1:]]
        wait_until(lambda: generator.num_waiting == 8)
        inner.may_draw.set()
        results = [future.result(5)[0] for future in (first, *others)]
    assert [sorted(batch) for batch in inner.batches] == [prompts[:1], prompts[1:]]
    alone = [drawn(FlatColourGenerator(size=(16, 16)), card(prompt))[0] for prompt in prompts]
    assert [result.request.prompt for result in results] == prompts
    for ours, other in zip(results, alone, strict=True):
        assert ours.image is not None and other.image is not None
        assert ours.image.tobytes() == other.image.tobytes()


def test_shapes_are_not_mixed_and_the_generators_limit_holds(gathered: Any) -> None:
    inner = Recorded(capabilities=FlatColourGenerator.CAPABILITIES.model_copy(update={"max_batch_size": 3}))
    generator = gathered(inner, max_batch=8)
    inner.may_draw.clear()
    asked = [card("begin"), *(card(f"small {n}") for n in range(4)), card("wide", width=32), card("quick", num_inference_steps=2)]  # fmt: skip  # noqa: E501
    with ThreadPoolExecutor(9) as pool:
        futures = [pool.submit(drawn, generator, asked[0])]
        wait_until(lambda: len(inner.batches) == 1)
        for number, request in enumerate(asked[1:], 1):
            futures.append(pool.submit(drawn, generator, request))
            wait_until(partial(lambda most: generator.num_waiting == most, number))
        inner.may_draw.set()
        for future, request in zip(futures, asked, strict=True):
            [result] = future.result(5)
            assert result.request == request and result.image is not None
    assert inner.batches == [["begin"], ["small 0", "small 1", "small 2"], ["small 3"], ["wide"], ["quick"]]


def test_it_waits_for_those_that_are_expected(gathered: Any) -> None:
    inner, num_expected = Recorded(), 2
    generator = gathered(inner, wait_s=5, expects_more=lambda num_waiting: num_waiting < num_expected)
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(drawn, generator, card(prompt)) for prompt in ("a", "b")]
        assert all(future.result(5)[0].image is not None for future in futures)
    assert len(inner.batches) == 1 and time.monotonic() - started < 4


def test_a_cancelled_client_leaves_the_batch_to_the_others(gathered: Any) -> None:
    inner = Recorded()
    generator = gathered(inner, wait_s=5, expects_more=lambda num_waiting: num_waiting < 2)
    inner.may_draw.clear()
    cancel = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        mine = pool.submit(drawn, generator, card("mine"), cancel=cancel)
        hers = pool.submit(drawn, generator, card("hers"))
        wait_until(lambda: len(inner.batches) == 1)
        late = threading.Event()
        waiting = pool.submit(drawn, generator, card("waiting"), cancel=late)
        wait_until(lambda: generator.num_waiting == 1)
        late.set()
        cancel.set()
        assert isinstance(mine.result(5)[0].error, GenerationCancelledError)
        assert isinstance(waiting.result(5)[0].error, GenerationCancelledError)
        assert not hers.done() and not inner.saw_cancel
        inner.may_draw.set()
        assert hers.result(5)[0].image is not None
    assert [each.prompt for each in inner.drawn if each.prompt == "waiting"] == []


def test_a_batch_that_nobody_wants_is_stopped(gathered: Any) -> None:
    inner = Recorded()
    generator = gathered(inner)
    inner.may_draw.clear()
    cancel = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(drawn, generator, card("mine"), cancel=cancel)
        wait_until(lambda: len(inner.batches) == 1)
        cancel.set()
        assert isinstance(future.result(5)[0].error, GenerationCancelledError)
        wait_until(lambda: inner.saw_cancel)
    assert inner.drawn == []


def test_one_clients_failure_is_not_anothers(gathered: Any) -> None:
    inner = Recorded(crash_on="fire", fail_on="blank")
    generator = gathered(inner, wait_s=5, expects_more=lambda num_waiting: num_waiting < 3)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(drawn, generator, card(prompt)) for prompt in ("on fire", "a hen", "left blank")]
        crashed, fine, blank = [future.result(5)[0] for future in futures]
    assert isinstance(crashed.error, ToolError) and "caught fire" in str(crashed.error)
    assert fine.image is not None
    assert "came out blank" in str(blank.error)


def test_an_unavailable_generator_is_asked_once(gathered: Any) -> None:
    class Gone(Recorded):
        def generate(self, requests: Any, **options: Any) -> Iterator[Any]:
            self.num_batches += 1
            raise GeneratorUnavailableError("It is not there. Start it.")

    inner = Gone()
    generator = gathered(inner, wait_s=5, expects_more=lambda num_waiting: num_waiting < 2)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(drawn, generator, card(prompt)) for prompt in ("a", "b")]
        assert all("It is not there" in str(future.result(5)[0].error) for future in futures)
    assert inner.num_batches == 1


def test_a_closed_generator_draws_nothing(gathered: Any) -> None:
    generator = gathered(Recorded())
    generator.close()
    assert "being stopped" in str(drawn(generator, card("late"))[0].error)


def test_each_client_of_a_batch_gets_as_many_previews_as_it_asked_for(gathered: Any) -> None:
    inner = Recorded(num_steps=8)
    inner.may_draw.clear()
    generator = gathered(inner)

    def shown(prompt: str, num_previews: int) -> int:
        events = list(draw(generator, [card(prompt)], num_previews=num_previews))
        return sum(getattr(event, "preview", None) is not None for event in events)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shown, "first", 0)
        wait_until(lambda: len(inner.batches) == 1)
        others = [pool.submit(shown, f"fox {number}", number) for number in (0, 1, 3)]
        wait_until(lambda: generator.num_waiting == 3)
        inner.may_draw.set()
        assert [each.result() for each in (first, *others)] == [0, 0, 1, 3]
    assert sorted(map(len, inner.batches)) == [1, 3]
