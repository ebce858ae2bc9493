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
    GeneratorRefusalError,
    GeneratorTimeoutError,
    GeneratorUnavailableError,
    InputError,
    MgemError,
    UnsupportedRequestError,
)
from mgem_agent.tools import ImageGenerator, ImageRequest, ImageResult, draw, make_generator
from mgem_agent.tools.image_usage import ImageUsage
from mgem_agent.tools.servers.openai_images import OpenAIImagesGenerator

FOX = ImageRequest(prompt="a red fox")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def make(server: Any, model: str = "toy", **options: Any) -> OpenAIImagesGenerator:
    settings: dict[str, Any] = {"api_key": "sk-1", "timeout_s": 5.0, "max_retries": 2, "backoff_s": 0.001, **options}
    return OpenAIImagesGenerator(model, base_url=server.url + "/v1", **settings)


def b64(data: bytes) -> dict[str, Any]:
    return {"data": [{"b64_json": base64.b64encode(data).decode()}]}


def results(generator: ImageGenerator, *requests: ImageRequest, **given: Any) -> list[ImageResult]:
    """Results in the order of the requests."""
    found = [event for event in draw(generator, requests, **given) if isinstance(event, ImageResult)]
    return sorted(found, key=lambda result: result.index)


def form(call: Any) -> dict[str, list[bytes]]:
    """Parts of a multipart body by name."""
    boundary = call.headers["Content-Type"].partition("boundary=")[2].encode()
    parts: dict[str, list[bytes]] = {}
    for part in call.body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        parts.setdefault(head.split(b'name="')[1].split(b'"')[0].decode(), []).append(content[:-2])
    return parts


def test_the_usage_of_the_server(server: Any, png: Any) -> None:
    usage = {"input_tokens": 70, "input_tokens_details": {"image_tokens": 60, "text_tokens": 10}, "output_tokens": 272}
    server.answer = lambda call: {**b64(png()), "usage": usage}
    [result] = results(make(server), ImageRequest(prompt="a fox"))
    assert result.usage == ImageUsage(10, 60, 272)


def test_what_is_sent_and_what_comes_back(server: Any, png: Any) -> None:
    server.answer = lambda call: b64(png(size=(1024, 1024)))
    request = ImageRequest(prompt="a red fox", width=1010, height=1010, seed=3, options={"quality": "low"})
    [result] = results(make(server, "gpt-image-2"), request)
    [call] = server.calls
    assert (call.method, call.path) == ("POST", "/v1/images/generations")
    assert call.headers["Authorization"] == "Bearer sk-1"
    assert call.json == {
        "model": "gpt-image-2", "prompt": "a red fox", "n": 1, "quality": "low", "size": "1008x1008",
    }  # fmt: skip
    assert result.error is None  # what was drawn, and paid for, is kept
    assert (result.executed.width, result.executed.height) == (1024, 1024)
    assert [notice.argument for notice in result.notices] == ["seed", "width", "height", "width", "height"]
    assert result.notices[-1].message == "height=1008 was requested; the server used 1024."


def test_a_picture_and_what_made_it(server: Any, png: Any) -> None:
    answer = b64(png())
    answer["data"][0]["revised_prompt"] = "a fox, red, in snow"
    server.answer = lambda call: answer
    [result] = results(make(server, "gpt-image-2"), FOX)
    assert result.error is None and result.image is not None
    assert result.image.getpixel((0, 0)) == (255, 0, 0)
    assert (result.executed.width, result.executed.height) == (64, 48)
    assert (result.model, result.generator) == ("gpt-image-2", f"openai:gpt-image-2@{server.url}/v1")
    assert [notice.message for notice in result.notices] == ["The server drew this prompt: a fox, red, in snow"]
    assert result.seconds > 0


def test_other_servers_answer_by_address_and_honour_more(server: Any, png: Any) -> None:
    server.answer = lambda call: png() if call.method == "GET" else {"data": [{"url": f"{server.url}/generated/1.png"}]}
    generator = make(server, api_key="", honours={"seed": "seed", "num_inference_steps": "step"})
    assert generator.capabilities.seed and not generator.capabilities.guidance_scale
    [result] = results(generator, ImageRequest(prompt="x", seed=7, num_inference_steps=9), strict=True)
    assert result.error is None and result.executed.seed == 7
    sent = server.calls[0].json
    assert (sent["seed"], sent["step"], sent["response_format"]) == (7, 9, "b64_json")
    assert "Authorization" not in server.calls[0].headers


def test_an_edit_sends_its_pictures(server: Any, png: Any) -> None:
    server.answer = lambda call: b64(png())
    pictures = {"img-1": Image.new("RGB", (8, 6), "blue"), "img-2": Image.new("RGB", (4, 4), "green")}
    request = ImageRequest(prompt="make it night", task="edit", image="img-1", references=("img-2",))
    [result] = results(make(server, "gpt-image-2"), request, pictures=pictures)
    assert result.error is None
    parts = form(server.calls[0])
    assert server.calls[0].path == "/v1/images/edits"
    assert (parts["model"], parts["n"]) == ([b"gpt-image-2"], [b"1"])
    assert [Image.open(io.BytesIO(data)).size for data in parts["image[]"]] == [(8, 6), (4, 4)]


def test_a_mask_becomes_holes(server: Any, png: Any) -> None:
    server.answer = lambda call: b64(png())
    mask = Image.new("L", (8, 6), 0)
    mask.paste(255, (0, 0, 4, 6))
    pictures = {"img-1": Image.new("RGB", (8, 6), "blue"), "img-2": mask.convert("RGB")}
    request = ImageRequest(prompt="a hat", task="inpaint", image="img-1", mask="img-2")
    results(make(server, "gpt-image-2"), request, pictures=pictures)
    parts = form(server.calls[0])
    holed = Image.open(io.BytesIO(parts["mask"][0]))
    assert len(parts["image"]) == 1
    assert (holed.getpixel((0, 0)), holed.getpixel((7, 0))) == ((255, 255, 255, 0), (0, 0, 0, 255))


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (
            400,
            {"error": {"code": "moderation_blocked", "message": "no."}},
            GeneratorRefusalError,
            "declined .*no. Change",
        ),
        (429, {"error": {"code": "insufficient_quota", "message": "pay"}}, GeneratorUnavailableError, "no credit left"),
        (
            401,
            {"error": {"message": "bad"}},
            GeneratorUnavailableError,
            "refused access .*the option api_key",
        ),
        (400, {"error": {"message": "bad size"}}, UnsupportedRequestError, "does not accept .*bad size"),
        (200, {"data": []}, GeneratorOutputError, "returned no picture"),
        (200, {"data": [{}]}, GeneratorOutputError, "returned no picture"),
        (200, ["?"], GeneratorOutputError, "returned no picture"),
        (200, {"data": [{"b64_json": "§"}]}, GeneratorOutputError, "instead of a picture in base64"),
        (200, {"data": [{"b64_json": "aGVsbG8="}]}, GeneratorOutputError, "is not a picture of a known format"),
        (200, {"data": [{"url": "file:///etc/passwd"}]}, GeneratorOutputError, "http and https alone"),
    ],
)
def test_what_goes_wrong_is_said(
    server: Any, reply: Any, status: int, body: Any, kind: type[MgemError], message: str
) -> None:
    server.answer = lambda call: reply(status, json.dumps(body).encode())
    [result] = results(make(server), FOX)
    assert isinstance(result.error, kind)
    with pytest.raises(kind, match=message):
        raise result.error
    assert len(server.calls) == 1


@pytest.mark.parametrize("body", [b"<html>Gateway</html>", b"", b'{"data": [{'])
def test_what_is_no_answer(server: Any, body: bytes) -> None:
    server.answer = lambda call: body
    [result] = results(make(server), FOX)
    assert isinstance(result.error, GeneratorOutputError)
    assert "not JSON" in str(result.error)


def test_a_retired_model_is_named(server: Any, reply: Any) -> None:
    server.answer = lambda call: reply(404, b'{"error": {"message": "The model does not exist."}}')
    [result] = results(make(server, "dall-e-3"), FOX)
    assert "no longer has the model 'dall-e-3': The model does not exist. Use 'openai:gpt-image-2'." in str(
        result.error
    )


def test_busy_then_well(server: Any, reply: Any, png: Any) -> None:
    answers = [reply(429), reply(500), b64(png())]
    server.answer = lambda call: answers.pop(0)
    [result] = results(make(server), FOX)
    assert result.error is None


def test_one_that_fails_leaves_the_others(server: Any, reply: Any, png: Any) -> None:
    server.answer = lambda call: reply(400, b"{}") if call.json["prompt"] == "1" else b64(png())
    found = results(make(server), *(ImageRequest(prompt=str(number)) for number in range(3)))
    assert [result.error is None for result in found] == [True, False, True]


def test_a_server_that_dies_in_a_batch_costs_only_what_is_left(server: Any, reply: Any, png: Any) -> None:
    server.answer = lambda call: b64(png()) if call.json["prompt"] == "0" else reply(body=b"{}", cut=0)
    found = results(
        make(server, max_parallel=1, max_retries=0), *(ImageRequest(prompt=str(number)) for number in range(3))
    )
    assert [result.error is None for result in found] == [True, False, False]
    assert isinstance(found[1].error, GeneratorUnavailableError)


def test_few_calls_at_a_time(server: Any, png: Any) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def answer(call: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.03)
        with lock:
            running -= 1
        return b64(png())

    server.answer = answer
    found = results(make(server, max_parallel=2), *(ImageRequest(prompt=str(number)) for number in range(5)))
    assert [result.error for result in found] == [None] * 5
    assert most == 2


def test_a_server_that_hangs(server: Any, reply: Any) -> None:
    server.answer = lambda call: reply(hang=True)
    [result] = results(make(server, timeout_s=0.1), FOX)
    assert isinstance(result.error, GeneratorTimeoutError)


def test_cancelling_does_not_wait_for_the_server(server: Any, reply: Any, png: Any) -> None:
    cancel = threading.Event()

    def answer(call: Any) -> Any:
        if call.json["prompt"] == "0":
            return b64(png())
        cancel.set()
        return reply(hang=True)

    server.answer = answer
    began = time.monotonic()
    found = results(
        make(server, max_parallel=1), *(ImageRequest(prompt=str(number)) for number in range(3)), cancel=cancel
    )
    assert time.monotonic() - began < 2
    assert found[0].error is None
    assert all(isinstance(result.error, GenerationCancelledError) for result in found[1:])
    assert len(server.calls) == 2


def test_openai_itself_needs_a_key() -> None:
    with pytest.raises(GeneratorUnavailableError, match="needs a key. Set OPENAI_API_KEY, or OPENAI_BASE_URL"):
        list(OpenAIImagesGenerator("gpt-image-2").generate([FOX]))


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_generator("openai:gpt-image-2").name == make_generator("openai").name == "openai:gpt-image-2"
    elsewhere = "openai:@cf/flux@http://127.0.0.1:8080/v1"
    assert make_generator(elsewhere).name == elsewhere
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1/")
    assert make_generator(elsewhere).name == "openai:@cf/flux"


def test_models_of_three_sizes() -> None:
    assert len(OpenAIImagesGenerator("gpt-image-1.5").capabilities.sizes) == 3
    assert OpenAIImagesGenerator("gpt-image-2.6-flare").capabilities.sizes == ()


def test_options_that_make_no_sense() -> None:
    with pytest.raises(
        InputError, match=r"honours has the unknown name\(s\) \['mask'\]. Allowed: negative_prompt, seed"
    ):
        OpenAIImagesGenerator(honours={"mask": "m"})
    with pytest.raises(InputError, match="max_parallel=0 is too low"):
        OpenAIImagesGenerator(max_parallel=0)


SD_CPP = (
    "a fox\nSteps: 20, CFG scale: 7.0, Seed: 482231814, Size: 64x48, Sampler: euler_a, Version: stable-diffusion.cpp"
)


def drawn_by_sd_cpp(seed: int = 482231814) -> dict[str, Any]:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", SD_CPP.replace("482231814", str(seed)))
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "PNG", pnginfo=chunks)
    return b64(buffer.getvalue())


@pytest.mark.parametrize(
    "refusal",
    [
        {"error": {"message": "Unknown parameter: 'response_format'.", "code": "unknown_parameter"}},
        {"error": {"message": "Unrecognized request argument supplied: response_format"}},
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "response_format"], "msg": "Extra inputs"}]},
        {"error": "litellm.UnsupportedParamsError: azure does not support parameters: ['response_format']"},
    ],
)
def test_a_field_that_the_server_does_not_know_is_left_out_from_then_on(
    server: Any, reply: Any, png: Any, refusal: Any
) -> None:
    server.answer = lambda call: (
        reply(400, json.dumps(refusal).encode()) if "response_format" in call.json else b64(png())
    )
    for _ in range(2):  # a generator that is made anew knows it as well
        [result] = results(make(server, "my-deployment"), FOX)
        assert result.error is None and result.notices == ()
    assert ["response_format" in call.json for call in server.calls] == [True, False, False]


def test_what_meant_something_is_left_out_with_a_notice(server: Any, reply: Any, png: Any) -> None:
    def answer(call: Any) -> Any:
        known = {"model", "prompt", "n", "response_format"}
        strange = sorted(call.json.keys() - known)
        return reply(422, f"unexpected field {strange[0]}".encode()) if strange else b64(png())

    server.answer = answer
    request = ImageRequest(prompt="x", seed=7, options={"quality": "low", "style": "vivid"})
    [result] = results(make(server, honours={"seed": "seed"}), request)
    assert result.error is None
    assert (result.executed.seed, result.executed.options) == (None, {})
    assert [(notice.argument, notice.message) for notice in result.notices] == [
        ("options", "The server does not know 'quality'; it was left out."),
        ("seed", "The server does not know 'seed'; it was left out."),
        ("options", "The server does not know 'style'; it was left out."),
    ]


def test_a_value_that_is_refused_is_not_left_out(server: Any, reply: Any) -> None:
    body = {"error": {"message": "Invalid value: '8x8'. Supported values are: '9x9'.", "param": "size"}}
    server.answer = lambda call: reply(400, json.dumps(body).encode())
    [result] = results(make(server), ImageRequest(prompt="x", width=64, height=64))
    assert isinstance(result.error, UnsupportedRequestError)
    assert len(server.calls) == 1


@pytest.mark.parametrize("model", ["openai/gpt-image-1", "azure/gpt-image-1.5", "gpt-image-2"])
def test_a_model_is_known_behind_a_route(server: Any, png: Any, model: str) -> None:
    server.answer = lambda call: b64(png())
    results(make(server, model), FOX)
    assert "response_format" not in server.calls[0].json
    assert server.calls[0].json["model"] == model


def test_fields_can_be_left_out_by_option(server: Any, png: Any) -> None:
    server.answer = lambda call: b64(png())
    results(make(server, omit=["response_format", "n"]), FOX)
    assert server.calls[0].json == {"model": "toy", "prompt": "a red fox"}


def test_a_data_url_is_an_address_too(server: Any, png: Any) -> None:
    data = base64.b64encode(png()).decode()
    server.answer = lambda call: {"data": [{"url": f"data:image/png;base64,{data}"}]}
    [result] = results(make(server), FOX)
    assert result.image is not None and result.image.size == (64, 48)


def test_transparency_that_is_not_kept_is_said(server: Any) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 48), (255, 0, 0, 0)).save(buffer, "PNG")
    server.answer = lambda call: b64(buffer.getvalue())
    [result] = results(make(server), ImageRequest(prompt="x", options={"background": "transparent"}))
    assert [notice.message for notice in result.notices] == [
        "The picture is partly transparent; it is stored on white."
    ]


def test_a_seed_is_chosen_where_the_server_takes_one(server: Any, png: Any) -> None:
    server.answer = lambda call: b64(png())
    [result] = results(make(server, honours={"seed": "seed"}), FOX)
    assert result.executed.seed == server.calls[0].json["seed"]


def test_stable_diffusion_cpp_is_known_by_its_pictures(server: Any) -> None:
    server.answer = lambda call: drawn_by_sd_cpp()
    generator = make(server, "sd-cpp")
    [result] = results(generator, FOX)
    assert (result.executed.seed, result.executed.num_inference_steps) == (482231814, 20)
    assert generator.capabilities.seed
    [again] = results(generator, result.executed, strict=True)
    assert again.executed == result.executed and again.notices == ()
    prompt = server.calls[1].json["prompt"]
    assert prompt.startswith("a red fox <sd_cpp_extra_args>") and prompt.endswith("</sd_cpp_extra_args>")
    extra = json.loads(prompt.partition(">")[2].partition("<")[0])
    assert extra == {"seed": 482231814, "sample_params": {"sample_steps": 20, "guidance": {"txt_cfg": 7.0}}}
    assert set(server.calls[1].json) == {"model", "prompt", "n", "response_format", "size"}


def test_stable_diffusion_cpp_can_be_named(server: Any) -> None:
    server.answer = lambda call: drawn_by_sd_cpp(seed=3)
    [result] = results(make(server, honours="sd.cpp"), ImageRequest(prompt="x", seed=5))
    assert result.executed.seed == 3
    assert [notice.message for notice in result.notices] == ["seed=5 was requested; the server used 3."]
