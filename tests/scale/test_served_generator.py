from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from mgem_agent.errors import GenerationCancelledError, GeneratorUnavailableError
from mgem_agent.scale.served_generator import GeneratorReplica, HandleGenerator
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

Served = Callable[[ImageGenerator], HandleGenerator]


@pytest.fixture
def served(local_handle: Any) -> Served:
    return lambda generator: HandleGenerator("flat", local_handle(GeneratorReplica(lambda: generator)))


def test_pictures_are_those_of_the_replica(served: Served) -> None:
    generator = FlatColourGenerator(size=(32, 32), fail_on="ghost")
    remote = served(generator)
    assert isinstance(remote, ImageGenerator) and not remote.costs_money
    assert remote.capabilities == generator.capabilities
    requests = [ImageRequest(prompt=prompt, seed=1) for prompt in ("a fox", "a ghost", "a hen")]
    events = list(draw(remote, requests, num_previews=1))
    results = {event.index: event for event in events if isinstance(event, ImageResult)}
    alone = [event for event in draw(FlatColourGenerator(size=(32, 32)), requests) if isinstance(event, ImageResult)]
    for place in (0, 2):
        picture, same = results[place].image, alone[place].image
        assert picture is not None and same is not None and picture.tobytes() == same.tobytes()
    assert "came out blank" in str(results[1].error) and generator.num_batches == 1
    assert any(isinstance(event, GenerationProgress) and event.preview is not None for event in events)


def test_pictures_of_a_request_are_sent(served: Served) -> None:
    start = Image.new("RGB", (32, 32), "red")
    request = ImageRequest(prompt="at night", task="edit", image="img-1")
    *_, result = draw(served(FlatColourGenerator(size=(32, 32))), [request], pictures={"img-1": start})
    assert isinstance(result, ImageResult) and result.image is not None


def test_cancelling_reaches_the_replica(served: Served) -> None:
    cancel, generator = threading.Event(), FlatColourGenerator(size=(32, 32), delay_s=30)
    threading.Timer(0.1, cancel.set).start()
    *_, result = draw(served(generator), [ImageRequest(prompt="a fox")], cancel=cancel)
    assert isinstance(result, ImageResult) and isinstance(result.error, GenerationCancelledError)
    assert generator.drawn == []


class _Unavailable(FlatColourGenerator):
    def generate(self, requests: object, **options: object) -> object:  # type: ignore[override]
        raise GeneratorUnavailableError("The server is away. Start it.", retryable=True)


def test_the_error_of_a_replica_is_raised(served: Served) -> None:
    with pytest.raises(GeneratorUnavailableError, match="The server is away") as caught:
        list(served(_Unavailable()).generate([ImageRequest(prompt="a fox")]))
    assert caught.value.retryable
