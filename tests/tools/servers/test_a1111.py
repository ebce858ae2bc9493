from __future__ import annotations

import base64
import io
import json
import threading
import time
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorTimeoutError,
    GeneratorUnavailableError,
    UnsupportedRequestError,
)
from mgem_agent.tools import GenerationProgress, ImageRequest, ImageResult, draw
from mgem_agent.tools.servers.a1111 import A1111Generator

INFO = {
    "seed": 1234, "steps": 20, "cfg_scale": 7.0, "sampler_name": "Euler a", "sd_model_name": "sd_xl_base_1.0",
    "sd_model_hash": "31e35c80fc", "version": "v1.10.1", "denoising_strength": 0.4,
}  # fmt: skip


def make(server: Any, **options: Any) -> A1111Generator:
    settings: dict[str, Any] = {
        "timeout_s": 5.0, "max_retries": 2, "backoff_s": 0.001, "poll_s": 0.01, **options,
    }  # fmt: skip
    return A1111Generator(server.url, **settings)


def answer(data: bytes, **info: Any) -> dict[str, Any]:
    return {"images": [base64.b64encode(data).decode()], "parameters": {}, "info": json.dumps(INFO | info)}


def run(
    generator: A1111Generator, *requests: ImageRequest, **given: Any
) -> tuple[list[tuple[int, int]], list[ImageResult]]:
    events = list(draw(generator, requests, **given))
    steps = [(event.step, event.num_steps) for event in events if isinstance(event, GenerationProgress)]
    return steps, [event for event in events if isinstance(event, ImageResult)]


def drawings(server: Any) -> list[Any]:
    """Bodies of the calls that draw."""
    return [call.json for call in server.calls if call.method == "POST"]


def decoded(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_what_is_sent_and_what_comes_back(server: Any, png: Any) -> None:
    server.answer = lambda call: answer(png(size=(64, 64)))
    request = ImageRequest(
        prompt="a red fox", negative_prompt="blurry", width=64, height=64, seed=1234, num_inference_steps=20,
        guidance_scale=6.5, options={"sampler_name": "Euler", "sd_model_checkpoint": "other"},
    )  # fmt: skip
    _, [result] = run(make(server), request)
    [call] = [call for call in server.calls if call.method == "POST"]
    assert call.path == "/sdapi/v1/txt2img"
    assert call.json == {
        "prompt": "a red fox", "negative_prompt": "blurry", "seed": 1234, "batch_size": 1, "n_iter": 1, "width": 64,
        "height": 64, "steps": 20, "cfg_scale": 6.5, "sampler_name": "Euler",
        "override_settings": {"sd_model_checkpoint": "other"},
    }  # fmt: skip
    assert result.error is None and result.image is not None
    assert result.image.size == (64, 64)
    assert result.model == "sd_xl_base_1.0 [31e35c80fc]"
    assert result.versions == {"stable-diffusion-webui": "v1.10.1"}
    assert [notice.message for notice in result.notices] == [
        "guidance_scale=6.5 was requested; the server used 7.0.",
        "sampler_name='Euler' was requested; the server used 'Euler a'.",
        "sd_model_checkpoint='other' was requested; the server used 'sd_xl_base_1.0'.",
    ]
    assert result.executed.options == {"sampler_name": "Euler a", "sd_model_checkpoint": "sd_xl_base_1.0"}


def test_what_was_left_open_is_read_back_and_makes_the_same_call(server: Any, png: Any) -> None:
    server.answer = lambda call: answer(png(size=(64, 64)))
    _, [result] = run(make(server), ImageRequest(prompt="a red fox"))
    executed = result.executed
    assert 0 <= drawings(server)[0]["seed"] < 2**32
    assert (executed.seed, executed.num_inference_steps, executed.guidance_scale) == (1234, 20, 7.0)
    assert executed.options == {"sampler_name": "Euler a", "sd_model_checkpoint": "sd_xl_base_1.0"}
    server.calls.clear()
    _, [again] = run(make(server), executed, strict=True)
    assert drawings(server)[0]["override_settings"] == {"sd_model_checkpoint": "sd_xl_base_1.0"}
    assert again.executed == executed


def test_image_to_image_and_inpaint(server: Any, png: Any) -> None:
    server.answer = lambda call: answer(png())
    pictures = {"img-1": Image.new("RGB", (100, 60), "blue"), "img-2": Image.new("RGB", (100, 60), "white")}
    start = ImageRequest(prompt="x", task="image_to_image", image="img-1", strength=0.4)
    masked = ImageRequest(prompt="x", task="inpaint", image="img-1", mask="img-2", options={"inpainting_fill": 2})
    run(make(server), start, masked, pictures=pictures)
    first, second = (call.json for call in server.calls if call.method == "POST")
    assert {call.path for call in server.calls if call.method == "POST"} == {"/sdapi/v1/img2img"}
    assert (first["width"], first["height"], first["denoising_strength"]) == (96, 64, 0.4)
    assert decoded(first["init_images"][0]).size == (100, 60)
    assert "mask" not in first
    assert decoded(second["mask"]).mode == "L"
    assert (second["inpainting_fill"], second["inpaint_full_res"]) == (2, False)


def test_steps_are_polled(server: Any, png: Any) -> None:
    released = threading.Event()
    looks = iter([(0, 20), (5, 20), (5, 20), (19, 20)])

    def reply_to(call: Any) -> Any:
        if call.path != "/sdapi/v1/progress":
            assert released.wait(5)
            return answer(png())
        assert call.query == "skip_current_image=true"
        step = next(looks, None)
        if step is None:
            released.set()
            return {"state": None}
        return {"progress": 0.2, "state": {"sampling_step": step[0], "sampling_steps": step[1]}}

    server.answer = reply_to
    steps, [result] = run(make(server), ImageRequest(prompt="x"))
    assert steps == [(5, 20), (19, 20)]
    assert result.error is None


def test_cancel_interrupts_the_server(server: Any, png: Any) -> None:
    cancel, interrupted = threading.Event(), threading.Event()

    def reply_to(call: Any) -> Any:
        if call.path == "/sdapi/v1/interrupt":
            interrupted.set()
            return {}
        if call.path == "/sdapi/v1/txt2img":
            if call.json["prompt"] == "second":
                cancel.set()
                assert interrupted.wait(5)
            return answer(png())
        return {}

    server.answer = reply_to
    _, results = run(make(server), *(ImageRequest(prompt=word) for word in ("first", "second", "third")), cancel=cancel)
    assert results[0].error is None
    assert all(isinstance(result.error, GenerationCancelledError) for result in results[1:])
    assert server.paths().count("/sdapi/v1/interrupt") == 1
    assert server.paths().count("/sdapi/v1/txt2img") == 2


def test_leaving_early_interrupts_the_server(server: Any, png: Any) -> None:
    interrupted = threading.Event()

    def reply_to(call: Any) -> Any:
        if call.path == "/sdapi/v1/txt2img":
            interrupted.wait(5)
            return answer(png())
        if call.path == "/sdapi/v1/interrupt":
            interrupted.set()
        return {"state": {"sampling_step": 1, "sampling_steps": 20}}

    server.answer = reply_to
    events: Any = make(server).generate([ImageRequest(prompt="x")])
    assert next(events).step == 1
    events.close()
    assert interrupted.is_set()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "with an HTML page, not JSON"),
        (b'{"images": []}', "returned no picture"),
        (b'{"images": ["aGVsbG8="]}', "is not a picture of a known format"),
        (b'{"images": "iVBO"}', "returned no picture"),
        (b"[]", "returned no picture"),
    ],
)
def test_what_is_no_picture(server: Any, body: bytes, message: str) -> None:
    server.answer = lambda call: body
    _, [result] = run(make(server), ImageRequest(prompt="x"))
    assert isinstance(result.error, GeneratorOutputError)
    assert message in str(result.error)


def test_half_a_picture(server: Any, png: Any) -> None:
    server.answer = lambda call: answer(png()[:-40])
    _, [result] = run(make(server), ImageRequest(prompt="x"))
    assert "cut off or damaged" in str(result.error)


@pytest.mark.parametrize("info", [None, "{", "[]", {"seed": -7, "steps": "many"}, {"seed": True}])
def test_a_picture_without_its_data_is_still_a_picture(server: Any, png: Any, info: Any) -> None:
    server.answer = lambda call: answer(png()) | {"info": info}
    _, [result] = run(make(server), ImageRequest(prompt="x", seed=5))
    assert result.error is None
    assert (result.executed.width, result.executed.seed) == (64, 5)


def test_a_server_that_draws_larger_says_so(server: Any, png: Any) -> None:
    server.answer = lambda call: answer(png(size=(128, 128)))
    _, [result] = run(
        make(server), ImageRequest(prompt="x", width=64, height=64, seed=1234, options={"enable_hr": True})
    )
    assert [notice.argument for notice in result.notices] == ["width", "height"]
    assert (result.executed.width, result.executed.height) == (128, 128)


def test_a_failure_on_the_server_leaves_the_next_picture(server: Any, reply: Any, png: Any) -> None:
    def reply_to(call: Any) -> Any:
        if call.method == "POST" and call.json["prompt"] == "1":
            return reply(500, b'{"error": "OutOfMemoryError", "errors": "CUDA out of memory."}')
        return answer(png())

    server.answer = reply_to
    _, results = run(make(server), *(ImageRequest(prompt=str(number)) for number in range(3)))
    assert [result.error is None for result in results] == [True, False, True]
    assert "failed (status 500): CUDA out of memory. Its log says more." in str(results[1].error)


def test_busy_then_well(server: Any, reply: Any, png: Any) -> None:
    answers = [reply(429), answer(png())]
    server.answer = lambda call: answers.pop(0) if call.method == "POST" else {}
    _, [result] = run(make(server), ImageRequest(prompt="x"))
    assert result.error is None


def test_a_server_that_is_gone_fails_the_rest_at_once(server: Any) -> None:
    server.http.shutdown()
    server.http.server_close()
    generator = make(server, max_retries=0)
    results = [event for event in generator.generate([ImageRequest(prompt=word) for word in "abc"])]
    assert [type(result.error) for result in results if isinstance(result, ImageResult)] == [
        GeneratorUnavailableError
    ] * 3
    generator.unload()


def test_a_server_that_hangs(server: Any, reply: Any) -> None:
    server.answer = lambda call: reply(hang=True) if call.method == "POST" else {}
    began = time.monotonic()
    _, [result] = run(make(server, timeout_s=0.15), ImageRequest(prompt="x"))
    assert isinstance(result.error, GeneratorTimeoutError)
    assert time.monotonic() - began < 3


def test_without_its_api(server: Any) -> None:
    _, [result] = run(make(server), ImageRequest(prompt="x"))
    assert isinstance(result.error, GeneratorUnavailableError)
    assert "has no API at this address (status 404). Start it with --api" in str(result.error)


def test_a_checkpoint_that_is_not_there(server: Any, reply: Any) -> None:
    server.answer = lambda call: reply(404, b'{"detail": "Model not found"}') if call.method == "POST" else {}
    _, [result] = run(make(server), ImageRequest(prompt="x", options={"sd_model_checkpoint": "no"}))
    assert isinstance(result.error, UnsupportedRequestError)
    assert "did not find something in the request: Model not found" in str(result.error)


def test_unload_and_load_again(server: Any, png: Any) -> None:
    server.answer = lambda call: answer(png()) if call.path.endswith("txt2img") else {}
    generator = make(server)
    generator.unload()
    run(generator, ImageRequest(prompt="x"))
    run(generator, ImageRequest(prompt="x"))
    assert [path for path in server.paths() if not path.endswith("progress")] == [
        "/sdapi/v1/unload-checkpoint", "/sdapi/v1/reload-checkpoint", "/sdapi/v1/txt2img", "/sdapi/v1/txt2img",
    ]  # fmt: skip


def test_a_name_has_no_password() -> None:
    assert A1111Generator("http://ann:s3cret@host:7860").name == "a1111:http://host:7860"


def test_progress_that_hangs_does_not_hold_up_a_finished_picture(server: Any, reply: Any, png: Any) -> None:
    def reply_to(call: Any) -> Any:
        if call.path == "/sdapi/v1/progress":
            return reply(hang=True)
        server.ended.wait(0.1)
        return answer(png())

    server.answer = reply_to
    began = time.monotonic()
    _, [result] = run(make(server), ImageRequest(prompt="x"))
    assert result.error is None
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("has_interrupt", [False, None])
def test_cancelling_waits_for_no_server_that_cannot_be_interrupted(
    server: Any, reply: Any, has_interrupt: bool | None
) -> None:
    cancel = threading.Event()

    def reply_to(call: Any) -> Any:
        if call.path == "/sdapi/v1/interrupt" and has_interrupt is False:
            return reply(404)
        if call.path == "/sdapi/v1/txt2img":
            cancel.set()
        return reply(hang=True)

    server.answer = reply_to
    began = time.monotonic()
    _, [result] = run(make(server), ImageRequest(prompt="x"), cancel=cancel)
    assert isinstance(result.error, GenerationCancelledError)
    assert time.monotonic() - began < 2.5
    assert "/sdapi/v1/interrupt" in server.paths()


def with_parameters(text: str) -> bytes:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", text)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def test_a_server_that_says_nothing_was_given_our_seed(server: Any, png: Any) -> None:
    server.answer = lambda call: answer(png()) | {"info": ""}
    _, [result] = run(make(server), ImageRequest(prompt="x"))
    assert result.executed.seed == drawings(server)[0]["seed"]
    assert result.notices == ()


def test_what_the_picture_says_wins(server: Any) -> None:
    text = "x\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 9, Size: 64x64, Model: toy"
    server.answer = lambda call: answer(with_parameters(text), sampler_name="nope", seed=5)
    request = ImageRequest(
        prompt="x", seed=5, options={"sampler_name": "nope", "sd_model_checkpoint": "a/toy.gguf [1f]"}
    )
    _, [result] = run(make(server), request)
    assert result.executed.seed == 9
    assert result.executed.options == {
        "sampler_name": "DPM++ 2M", "scheduler": "Karras", "sd_model_checkpoint": "a/toy.gguf [1f]",
    }  # fmt: skip
    assert [notice.message for notice in result.notices] == [
        "seed=5 was requested; the server used 9.",
        "sampler_name='nope' was requested; the server used 'DPM++ 2M'.",
    ]


@pytest.mark.parametrize("asked", ["DPM++ 2M", "DPM++ 2M Karras", "k_dpmpp_2m", "dpmpp_2m"])
def test_a_sampler_has_several_names(server: Any, asked: str) -> None:
    text = "x\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1234, Size: 64x64"
    server.answer = lambda call: answer(with_parameters(text))
    _, [result] = run(make(server), ImageRequest(prompt="x", seed=1234, options={"sampler_name": asked}))
    assert result.executed.options["sampler_name"] == asked
    assert result.notices == ()
