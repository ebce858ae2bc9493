"""vLLM-Omni, SGLang-Diffusion and Ray Serve behind `openai:`: servers on loopback that answer as these programs do.

Each stand-in follows the program's source: its checks, its defaults and its error bodies.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorTimeoutError,
    GeneratorUnavailableError,
    InputError,
    ToolError,
    UnsupportedRequestError,
)
from mgem_agent.tools import ImageRequest, ImageResult, draw
from mgem_agent.tools.servers.openai_images import OpenAIImagesGenerator

FOX = ImageRequest(prompt="a red fox", width=64, height=64)


def make(server: Any, model: str = "Qwen/Qwen-Image", **options: Any) -> OpenAIImagesGenerator:
    settings: dict[str, Any] = {"timeout_s": 5.0, "max_retries": 2, "backoff_s": 0.001, **options}
    return OpenAIImagesGenerator(model, base_url=server.url + "/v1", **settings)


def results(generator: Any, *requests: ImageRequest, **given: Any) -> list[ImageResult]:
    found = [event for event in draw(generator, requests, **given) if isinstance(event, ImageResult)]
    return sorted(found, key=lambda result: result.index)


def seeded(seed: int) -> bytes:
    """A picture whose colour is its seed."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (seed % 256, seed // 256 % 256, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def seed_of(result: ImageResult) -> int:
    assert result.image is not None
    red, green, _ = result.image.getpixel((0, 0))  # type: ignore[misc]
    return int(red + 256 * green)


def entry(data: bytes) -> dict[str, Any]:
    return {"b64_json": base64.b64encode(data).decode(), "url": None, "revised_prompt": None}


@dataclass
class VllmOmni:
    """`vllm serve MODEL --omni`: knows its fields, ignores others, and refuses values by pydantic's rules."""

    reply: Any
    model: str = "Qwen/Qwen-Image"
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, call: Any) -> Any:
        if call.path == "/v1/images/edits":
            named = b'name="model"\r\n\r\n' + self.model.encode() in call.body
            detail = f"Model mismatch: request specifies 'other' but server is running '{self.model}'."
            if not named:
                return self.reply(400, body=b'{"detail": "' + detail.encode() + b'"}')
            return {"created": 1, "data": [entry(seeded(1))], "output_format": "png", "size": "64x64"}
        body = call.json
        self.bodies.append(body)
        if body.get("response_format") not in (None, "b64_json", "file"):
            return self.wrong("response_format", "Only 'b64_json' or 'file' response format is supported")
        if not 1 <= body.get("n", 1) <= 10:
            return self.wrong("n", "Input should be less than or equal to 10")
        if body.get("guidance_scale", 1.0) > 20:
            return self.wrong("guidance_scale", "Input should be less than or equal to 20")
        return {"created": 1, "data": [entry(seeded(body.get("seed", 7)))] * body.get("n", 1)}

    def wrong(self, name: str, message: str) -> Any:
        body = f'{{"detail": [{{"type": "value_error", "loc": ["body", "{name}"], "msg": "{message}"}}]}}'
        return self.reply(422, body=body.encode())


@dataclass
class SGLang:
    """`sglang serve`: URLs by default, seed 1024 by default, `n` up to 10 with consecutive seeds."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    lost: int = 0
    """Pictures that a call with several does not return."""

    def __call__(self, call: Any) -> Any:
        body = call.json
        self.bodies.append(body)
        if body.get("response_format", "url") != "b64_json":
            return {"id": "x", "data": [{"url": "/v1/images/x/content", "revised_prompt": body["prompt"]}]}
        count = max(1, min(int(body.get("n") or 1), 10))
        first = body.get("seed", 1024)
        kept = count if count == 1 else count - self.lost
        data = [{**entry(seeded(first + place)), "revised_prompt": body["prompt"]} for place in range(kept)]
        return {"id": "x", "created": 1, "data": data, "inference_time_s": 0.1, "peak_memory_mb": 1.0}


@pytest.fixture
def omni(server: Any, reply: Any) -> VllmOmni:
    server.answer = VllmOmni(reply)
    return server.answer  # type: ignore[no-any-return]


@pytest.fixture
def sglang(server: Any) -> SGLang:
    server.answer = SGLang()
    return server.answer  # type: ignore[no-any-return]


@pytest.fixture
def reply(server: Any) -> Callable[..., Any]:
    """The class of answers of the server."""
    import sys

    return sys.modules[type(server).__module__].Reply  # type: ignore[no-any-return]


class TestVllmOmni:
    def test_seed_steps_guidance_and_negative_prompt_are_sent_by_their_names(self, server: Any, omni: VllmOmni) -> None:
        asked = FOX.model_copy(
            update={"seed": 5, "num_inference_steps": 9, "guidance_scale": 3.5, "negative_prompt": "snow"}
        )
        [result] = results(make(server, honours="vllm-omni"), asked)
        assert seed_of(result) == 5 and result.executed.seed == 5 and not result.notices
        assert omni.bodies == [
            {
                "model": "Qwen/Qwen-Image", "prompt": "a red fox", "n": 1, "size": "64x64",
                "response_format": "b64_json", "seed": 5, "num_inference_steps": 9, "guidance_scale": 3.5,
                "negative_prompt": "snow",
            }
        ]  # fmt: skip

    def test_pictures_of_a_seed_are_never_joined_in_one_call(self, server: Any, omni: VllmOmni) -> None:
        """Its pictures of one call share one random generator, so none could be drawn again alone."""
        asked = [FOX.model_copy(update={"seed": seed}) for seed in (5, 6)]
        found = results(make(server, honours="vllm-omni", max_n=4), *asked)
        assert [seed_of(result) for result in found] == [5, 6]
        assert [body["n"] for body in omni.bodies] == [1, 1]

    def test_a_value_that_it_refuses_is_told_and_the_others_are_drawn(self, server: Any, omni: VllmOmni) -> None:
        wild = FOX.model_copy(update={"guidance_scale": 30.0})
        bad, good = results(make(server, honours="vllm-omni"), wild, FOX)
        assert good.image is not None
        assert "guidance_scale: Input should be less than or equal to 20" in str(bad.error)

    def test_an_option_that_it_would_ignore_is_refused(self, server: Any, omni: VllmOmni) -> None:
        [result] = results(make(server, honours="vllm-omni"), FOX.model_copy(update={"options": {"quality": "high"}}))
        assert isinstance(result.error, UnsupportedRequestError) and "quality" in str(result.error)
        assert not omni.bodies

    def test_a_mask_that_it_would_ignore_is_refused(self, server: Any, omni: VllmOmni) -> None:
        pictures = {"p": Image.new("RGB", (64, 64)), "m": Image.new("L", (64, 64), 255)}
        asked = ImageRequest(prompt="a hat", task="inpaint", image="p", mask="m")
        [result] = results(make(server, honours="vllm-omni"), asked, pictures=pictures)
        assert "vLLM-Omni does not read OpenAI's field mask" in str(result.error)

    def test_an_edit_names_the_model_that_it_serves(self, server: Any, omni: VllmOmni) -> None:
        pictures = {"p": Image.new("RGB", (64, 64))}
        asked = ImageRequest(prompt="make it night", task="edit", image="p")
        [fine] = results(make(server, honours="vllm-omni"), asked, pictures=pictures)
        [other] = results(make(server, "other", honours="vllm-omni"), asked, pictures=pictures)
        assert fine.image is not None
        assert "server is running 'Qwen/Qwen-Image'" in str(other.error)


class TestSGLang:
    def test_a_seed_is_always_sent_so_that_pictures_differ(self, server: Any, sglang: SGLang) -> None:
        found = results(make(server, honours="sglang"), FOX, FOX)
        seeds = [body["seed"] for body in sglang.bodies]
        assert len(set(seeds)) == 2 and 1024 not in seeds
        assert sorted(result.executed.seed for result in found if result.executed.seed is not None) == sorted(seeds)

    def test_consecutive_seeds_are_drawn_in_one_call(self, server: Any, sglang: SGLang) -> None:
        asked = [FOX.model_copy(update={"seed": seed}) for seed in (5, 6, 7, 20, 21)]
        found = results(make(server, honours="sglang", max_n=8), *asked)
        assert [seed_of(result) for result in found] == [5, 6, 7, 20, 21]
        assert [result.executed.seed for result in found] == [5, 6, 7, 20, 21]
        assert sorted((body["seed"], body["n"]) for body in sglang.bodies) == [(5, 3), (20, 2)]

    def test_at_most_ten_go_into_a_call(self, server: Any, sglang: SGLang) -> None:
        asked = [FOX.model_copy(update={"seed": seed}) for seed in range(12)]
        found = results(make(server, honours="sglang", max_n=50), *asked)
        assert [seed_of(result) for result in found] == list(range(12))
        assert sorted(body["n"] for body in sglang.bodies) == [2, 10]

    def test_pictures_that_a_call_does_not_return_are_requested_alone(self, server: Any, sglang: SGLang) -> None:
        sglang.lost = 2
        asked = [FOX.model_copy(update={"seed": seed}) for seed in (5, 6, 7)]
        found = results(make(server, honours="sglang", max_n=3), *asked)
        assert [seed_of(result) for result in found] == [5, 6, 7]
        assert [(body["seed"], body["n"]) for body in sglang.bodies] == [(5, 3), (6, 1), (7, 1)]

    def test_a_call_that_fails_is_repeated_one_by_one(self, server: Any, sglang: SGLang, reply: Any) -> None:
        def answer(call: Any) -> Any:
            if call.json["n"] > 1 or call.json["seed"] == 6:
                return reply(400, body=b'{"detail": "out of memory"}')
            return sglang(call)

        server.answer = answer
        asked = [FOX.model_copy(update={"seed": seed}) for seed in (5, 6, 7)]
        first, second, third = results(make(server, honours="sglang", max_n=3), *asked)
        assert (seed_of(first), seed_of(third)) == (5, 7)
        assert isinstance(second.error, ToolError) or "out of memory" in str(second.error)

    def test_a_mask_that_it_would_ignore_is_refused(self, server: Any, sglang: SGLang) -> None:
        pictures = {"p": Image.new("RGB", (64, 64)), "m": Image.new("L", (64, 64), 255)}
        asked = ImageRequest(prompt="a hat", task="inpaint", image="p", mask="m")
        [result] = results(make(server, honours="sglang"), asked, pictures=pictures)
        assert "SGLang accepts a mask and does not read it" in str(result.error) and not sglang.bodies


class TestRayServe:
    """Ray Serve's proxy in front of any of these: full queues, time limits, replicas that die and redeployments."""

    def test_a_full_queue_and_a_dead_replica_are_tried_again(self, server: Any, reply: Any) -> None:
        answers = iter(
            [reply(503, body=b"Request dropped due to backpressure"), reply(500, body=b"Internal Server Error")]
        )
        server.answer = lambda call: next(answers, None) or {"data": [entry(seeded(3))]}
        [result] = results(make(server), FOX)
        assert seed_of(result) == 3 and len(server.calls) == 3

    def test_its_own_time_limit_is_told_and_not_tried_again(self, server: Any, reply: Any) -> None:
        server.answer = lambda call: reply(408, body=b"Request 1 timed out after 5s.")
        [result] = results(make(server), FOX)
        assert isinstance(result.error, GeneratorTimeoutError) and len(server.calls) == 1
        assert "Ray Serve: request_timeout_s" in str(result.error)

    def test_a_redeployment_has_no_such_path(self, server: Any, reply: Any) -> None:
        server.answer = lambda call: reply(404, body=b"Path '/v1/images/generations' not found.")
        [result] = results(make(server), FOX)
        assert isinstance(result.error, GeneratorUnavailableError)


def test_without_seeds_equal_requests_share_a_call(server: Any) -> None:
    """As with OpenAI: nothing tells two requests apart."""
    server.answer = lambda call: {"data": [entry(seeded(place)) for place in range(call.json["n"])]}
    found = results(make(server, "toy", max_n=4), FOX, FOX, ImageRequest(prompt="a hen"), FOX)
    assert [seed_of(result) for result in found] == [0, 1, 0, 0]
    assert sorted(call.json["n"] for call in server.calls) == [1, 1, 2]


def test_a_cancelled_call_of_several_ends_each(server: Any, reply: Any) -> None:
    server.answer = lambda call: reply(hang=True)
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    found = results(make(server, "toy", max_n=4), FOX, FOX, cancel=cancel)
    assert [type(result.error) for result in found] == [GenerationCancelledError] * 2


def test_an_unknown_program_is_refused() -> None:
    with pytest.raises(InputError, match=r"^honours is 'vllm'\. Allowed: 'sd.cpp', 'sglang', 'vllm-omni', or a table"):
        OpenAIImagesGenerator("x", base_url="http://127.0.0.1:9/v1", honours="vllm")
    with pytest.raises(InputError, match=r"^max_n=0 is too low"):
        OpenAIImagesGenerator("x", base_url="http://127.0.0.1:9/v1", max_n=0)
