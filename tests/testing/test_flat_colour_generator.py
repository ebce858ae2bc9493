from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from PIL import Image

from mgem_agent.errors import GenerationCancelledError, GeneratorOutputError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import GenerationProgress, ImageGenerator, ImageRequest, ImageResult, draw
from mgem_agent.tools.servers.wire_pictures import png_bytes


def results(generator: FlatColourGenerator, *requests: ImageRequest, **given: Any) -> list[ImageResult]:
    return [event for event in draw(generator, requests, **given) if isinstance(event, ImageResult)]


def drawn(result: ImageResult) -> bytes:
    assert result.image is not None
    return png_bytes(result.image)


def test_it_keeps_the_contract() -> None:
    assert isinstance(FlatColourGenerator(), ImageGenerator)


def test_the_same_request_gives_the_same_bytes_alone_and_in_a_batch() -> None:
    fox, owl = ImageRequest(prompt="a red fox", seed=7), ImageRequest(prompt="an owl", seed=7)
    [alone] = results(FlatColourGenerator(), fox)
    batch = results(FlatColourGenerator(), owl, fox)
    assert drawn(alone) == drawn(batch[1]) != drawn(batch[0])
    [again] = results(FlatColourGenerator(), alone.executed)
    assert drawn(again) == drawn(alone)
    [other] = results(FlatColourGenerator(), ImageRequest(prompt="a red fox", seed=8))
    assert drawn(other) != drawn(alone)


def test_a_seed_is_chosen_and_told() -> None:
    [result] = results(FlatColourGenerator(), ImageRequest(prompt="a red fox"))
    [again] = results(FlatColourGenerator(), ImageRequest(prompt="a red fox", seed=result.executed.seed))
    assert drawn(result) == drawn(again)


def test_every_task_shows_the_pictures_it_was_given() -> None:
    red, half = Image.new("RGB", (32, 32), "red"), Image.new("L", (32, 32), 0)
    half.paste(255, (0, 0, 16, 32))
    pictures = {"img-1": red, "img-2": half.convert("RGB")}
    generator = FlatColourGenerator(size=(64, 64))
    [inpainted] = results(
        generator, ImageRequest(prompt="x", task="inpaint", image="img-1", mask="img-2"), pictures=pictures
    )
    assert inpainted.image is not None
    assert inpainted.image.getpixel((60, 60)) == (255, 0, 0) != inpainted.image.getpixel((2, 60))
    [edited] = results(generator, ImageRequest(prompt="x", task="edit", image="img-1"), pictures=pictures)
    [referring] = results(generator, ImageRequest(prompt="x", references=("img-1",)), pictures=pictures)
    assert edited.error is None
    assert referring.image is not None and referring.image.getpixel((16, 40)) == (255, 0, 0)


def test_steps_are_reported() -> None:
    events = draw(FlatColourGenerator(), [ImageRequest(prompt="x", num_inference_steps=3)])
    steps = [(event.step, event.num_steps) for event in events if isinstance(event, GenerationProgress)]
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_some_fail_and_the_others_do_not() -> None:
    found = results(FlatColourGenerator(fail_on="owl"), ImageRequest(prompt="an owl"), ImageRequest(prompt="a fox"))
    assert isinstance(found[0].error, GeneratorOutputError) and found[0].error.retryable
    assert found[1].error is None


def test_a_batch_takes_as_long_as_it_is_said_to() -> None:
    generator = FlatColourGenerator(delay_s=0.07, extra_delay_s=0.01)
    began = time.monotonic()
    results(generator, *(ImageRequest(prompt=str(number)) for number in range(8)))
    assert 0.14 <= time.monotonic() - began < 0.5
    assert len(generator.drawn) == 8 and generator.num_batches == 1


def test_it_can_be_cancelled_within_a_picture() -> None:
    cancel = threading.Event()
    threading.Timer(0.05, cancel.set).start()
    began = time.monotonic()
    [result] = results(FlatColourGenerator(delay_s=20), ImageRequest(prompt="x"), cancel=cancel)
    assert isinstance(result.error, GenerationCancelledError)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("prompt", ["x" * 10_000, "日本語 🦊", "many\n\nlines"])
def test_any_prompt_can_be_written_on_a_card(prompt: str) -> None:
    [result] = results(FlatColourGenerator(), ImageRequest(prompt=prompt))
    assert result.error is None


def test_threads_may_share_one() -> None:
    generator = FlatColourGenerator(size=(32, 32), delay_s=0.01)
    threads = [
        threading.Thread(target=results, args=(generator, ImageRequest(prompt=str(number)))) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(request.prompt for request in generator.drawn) == list("01234567")
