from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from PIL import Image

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorTimeoutError,
    GeneratorUnavailableError,
    InputError,
    MgemError,
    UnsupportedRequestError,
)
from mgem_agent.tools import GenerationProgress, ImageRequest, ImageResult, draw
from mgem_agent.tools.servers.comfyui import ComfyUIGenerator

FOX = ImageRequest(prompt="a red fox", width=64, height=64, seed=7)
SHOWN = {"filename": "mgem_1_.png", "subfolder": "", "type": "output"}


class Comfy:
    """ComfyUI's end points over the server of a test.

    `script` says what the websocket sends for a prompt: pairs of a type and data, or "finish" to write the history.
    """

    def __init__(self, server: Any, reply: Any, picture: bytes) -> None:
        self.server, self.reply, self.picture = server, reply, picture
        self.outputs: Any = {"output": {"images": [SHOWN]}}
        self.status: Any = {"status_str": "success", "completed": True, "messages": []}
        self.script: list[Any] = [
            ("status", {"status": {}}),
            b"preview",
            ("progress", {"value": 1, "max": 2}),
            ("progress", {"value": 2, "max": 2}),
            "finish",
            ("executing", {"node": None}),
        ]
        self.has_websocket = True
        self.prompts: list[Any] = []
        self.done: set[str] = set()
        self.removed: list[str] = []
        self.interrupted: list[Any] = []
        self.waiting = threading.Semaphore(0)
        server.answer = self.answer

    def answer(self, call: Any) -> Any:
        name = call.path.strip("/").split("/")[0]
        return getattr(self, f"on_{name}")(call)

    def on_ws(self, call: Any) -> Any:
        return self.reply(frames=self.speak) if self.has_websocket else self.reply(404)

    def speak(self, send: Any) -> None:
        self.waiting.acquire(timeout=5)
        self.play(send)
        self.server.ended.wait(0.02)

    def play(self, send: Any) -> None:
        prompt_id = str(len(self.prompts))
        send({"type": "progress", "data": {"value": 5, "max": 9, "prompt_id": "somebody else's"}})
        for line in self.script:
            if line == "finish":
                self.done.add(prompt_id)
            elif line == "drop":
                return
            elif isinstance(line, float):
                self.server.ended.wait(line)
            elif isinstance(line, bytes):
                send(line)
            else:
                send({"type": line[0], "data": line[1] | {"prompt_id": prompt_id}})

    def on_prompt(self, call: Any) -> Any:
        self.prompts.append(call.json)
        if not self.has_websocket:
            self.done.add(str(len(self.prompts)))
        self.waiting.release()
        return {"prompt_id": str(len(self.prompts)), "number": 1, "node_errors": {}}

    def on_history(self, call: Any) -> Any:
        prompt_id = call.path.rpartition("/")[2]
        return {prompt_id: {"outputs": self.outputs, "status": self.status}} if prompt_id in self.done else {}

    def on_queue(self, call: Any) -> Any:
        if call.method == "POST":
            self.removed += call.json["delete"]
            return b""
        return {"queue_running": [[1, str(len(self.prompts)), {}, {}, []]], "queue_pending": []}

    def on_interrupt(self, call: Any) -> Any:
        self.interrupted.append(call.json)
        return b""

    def on_view(self, call: Any) -> Any:
        assert parse_qs(call.query)["filename"] == ["mgem_1_.png"]
        return self.picture

    def on_upload(self, call: Any) -> Any:
        name = call.body.split(b'filename="')[1].split(b'"')[0].decode()
        return {"name": name, "subfolder": "", "type": "input"}

    def on_system_stats(self, call: Any) -> Any:
        return {"system": {"comfyui_version": "0.9.2"}}

    def on_free(self, call: Any) -> Any:
        return b""

    @property
    def nodes(self) -> Any:
        return self.prompts[-1]["prompt"]


@pytest.fixture
def comfy(server: Any, reply: Any, png: Any) -> Comfy:
    return Comfy(server, reply, png(size=(64, 64)))


def make(comfy: Comfy, **options: Any) -> ComfyUIGenerator:
    settings: dict[str, Any] = {
        "timeout_s": 5.0, "max_retries": 1, "backoff_s": 0.001, "poll_s": 0.02, **options,
    }  # fmt: skip
    return ComfyUIGenerator(comfy.server.url, **settings)


def run(
    generator: ComfyUIGenerator, *requests: ImageRequest, **given: Any
) -> tuple[list[tuple[int, int]], list[ImageResult]]:
    events = list(draw(generator, requests, **given))
    steps = [(event.step, event.num_steps) for event in events if isinstance(event, GenerationProgress)]
    return steps, [event for event in events if isinstance(event, ImageResult)]


def test_a_picture_by_the_shipped_workflow(comfy: Comfy) -> None:
    request = FOX.model_copy(update={"negative_prompt": "blurry", "num_inference_steps": 12, "guidance_scale": 4.5})
    steps, [result] = run(make(comfy, checkpoint="toy.safetensors"), request, strict=True)
    assert result.error is None and result.image is not None
    assert steps == [(1, 2), (2, 2)]
    assert comfy.nodes["prompt"]["inputs"]["text"] == "a red fox"
    assert comfy.nodes["negative_prompt"]["inputs"]["text"] == "blurry"
    assert comfy.nodes["checkpoint"]["inputs"]["ckpt_name"] == "toy.safetensors"
    assert comfy.nodes["size"]["inputs"] == {"width": 64, "height": 64, "batch_size": 1}
    sampler = comfy.nodes["sampler"]["inputs"]
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (7, 12, 4.5)
    assert result.model == "toy.safetensors"
    assert result.versions == {"comfyui": "0.9.2"}
    assert result.executed.options == {
        "checkpoint": "toy.safetensors", "sampler_name": "dpmpp_2m", "scheduler": "karras",
    }  # fmt: skip


def test_what_was_left_open_makes_the_same_workflow_again(comfy: Comfy) -> None:
    _, [result] = run(make(comfy), ImageRequest(prompt="a red fox"))
    first = comfy.nodes
    assert result.executed.seed is not None and result.executed.num_inference_steps == 25
    _, [again] = run(make(comfy), result.executed, strict=True)
    first["size"]["inputs"] |= {"width": 64, "height": 64}
    assert comfy.nodes == first
    assert again.executed == result.executed


def test_pictures_are_uploaded(comfy: Comfy) -> None:
    pictures = {"img-1": Image.new("RGB", (100, 60), "blue"), "img-2": Image.new("RGB", (100, 60), "white")}
    request = ImageRequest(prompt="x", task="inpaint", image="img-1", mask="img-2", strength=0.5)
    _, [result] = run(make(comfy), request, pictures=pictures)
    assert result.error is None
    uploads = [call.body for call in comfy.server.calls if call.path == "/upload/image"]
    data = uploads[0].split(b"Content-Type: image/png\r\n\r\n")[1]
    assert Image.open(io.BytesIO(data)).size == (100, 60)
    names = comfy.nodes["image"]["inputs"]["image"], comfy.nodes["mask"]["inputs"]["image"]
    assert names[0] != names[1] and all(name.startswith("mgem-") and name.endswith(".png") for name in names)
    assert comfy.nodes["sampler"]["inputs"]["denoise"] == 0.5
    assert (comfy.nodes["size"]["inputs"]["width"], comfy.nodes["size"]["inputs"]["height"]) == (96, 64)
    assert result.executed.strength == 0.5


def test_without_a_websocket_the_history_is_asked(comfy: Comfy) -> None:
    comfy.has_websocket = False
    steps, [result] = run(make(comfy), FOX)
    assert (steps, result.error) == ([], None)


def test_a_websocket_that_breaks_loses_no_picture(comfy: Comfy) -> None:
    comfy.script = [("progress", {"value": 1, "max": 2}), "finish", "drop"]
    steps, [result] = run(make(comfy), FOX)
    assert (steps, result.error) == ([(1, 2)], None)


def test_a_lost_message_loses_no_picture(comfy: Comfy) -> None:
    comfy.script = ["finish", 2.0]
    _, [result] = run(make(comfy), FOX)
    assert result.error is None


def test_the_end_may_be_announced_before_it_is_written(comfy: Comfy) -> None:
    comfy.script = [("execution_success", {}), 0.1, "finish"]
    _, [result] = run(make(comfy), FOX)
    assert result.error is None


def test_a_node_that_fails_is_named(comfy: Comfy) -> None:
    failure = {"node_id": "sampler", "node_type": "KSampler", "exception_message": "CUDA out of\nmemory."}
    comfy.script = [("execution_error", failure)]
    _, [result] = run(make(comfy), FOX)
    assert isinstance(result.error, GeneratorOutputError)
    assert str(result.error) == "ComfyUI failed in node 'sampler' (KSampler): CUDA out of memory. Its log says more."
    comfy.has_websocket = False
    comfy.status = {"status_str": "error", "messages": [["execution_start", {}], ["execution_error", failure]]}
    _, [polled] = run(make(comfy), FOX)
    assert str(polled.error) == str(result.error)


def test_somebody_interrupts_it_on_the_server(comfy: Comfy) -> None:
    comfy.script = [("execution_interrupted", {})]
    _, [result] = run(make(comfy), FOX)
    assert isinstance(result.error, GenerationCancelledError)
    assert "interrupted on the server" in str(result.error)


def test_what_is_wrong_with_a_workflow_is_said_by_node(comfy: Comfy, reply: Any) -> None:
    fault = {"message": "Value not in list", "details": "ckpt_name: 'sd_xl_base_1.0.safetensors' not in ['toy.ckpt']"}
    body = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"},
        "node_errors": {"checkpoint": {"class_type": "CheckpointLoaderSimple", "errors": [fault]}},
    }
    comfy.on_prompt = lambda call: reply(400, json.dumps(body).encode())  # type: ignore[method-assign]
    _, [result] = run(make(comfy), FOX)
    assert isinstance(result.error, UnsupportedRequestError)
    assert (
        "ComfyUI does not accept the workflow: Prompt outputs failed validation. node 'checkpoint' "
        "(CheckpointLoaderSimple): Value not in list (ckpt_name: 'sd_xl_base_1.0.safetensors' not in ['toy.ckpt'])"
    ) in str(result.error)


def test_cancel_takes_the_prompt_back(comfy: Comfy) -> None:
    cancel = threading.Event()
    comfy.script = [("progress", {"value": 1, "max": 9}), 2.0]
    results = []
    for event in draw(make(comfy), [FOX, FOX], cancel=cancel):
        if isinstance(event, GenerationProgress):
            cancel.set()
        else:
            results.append(event)
    assert all(isinstance(result.error, GenerationCancelledError) for result in results) and len(results) == 2
    assert (comfy.removed, comfy.interrupted) == (["1"], [{"prompt_id": "1"}])
    assert len(comfy.prompts) == 1


def test_leaving_early_takes_the_prompt_back(comfy: Comfy) -> None:
    comfy.script = [("progress", {"value": 1, "max": 9}), 2.0]
    events: Any = make(comfy).generate([FOX])
    next(events)
    events.close()
    assert comfy.removed == ["1"]


def test_a_prompt_that_hangs_is_given_up_and_taken_back(comfy: Comfy) -> None:
    comfy.script = [2.0]
    began = time.monotonic()
    _, [result] = run(make(comfy, timeout_s=0.2), FOX)
    assert isinstance(result.error, GeneratorTimeoutError)
    assert "did not finish within 0.2 s" in str(result.error)
    assert time.monotonic() - began < 2
    assert comfy.removed == ["1"]


def test_a_server_that_has_forgotten_the_prompt(comfy: Comfy) -> None:
    comfy.script = ["drop"]
    comfy.on_queue = lambda call: {"queue_running": [], "queue_pending": []}  # type: ignore[method-assign]
    _, [result] = run(make(comfy), FOX)
    assert isinstance(result.error, GeneratorOutputError) and result.error.retryable
    assert "no longer knows the prompt. It may have been restarted" in str(result.error)


def test_a_server_that_dies_in_a_batch(comfy: Comfy, reply: Any) -> None:
    alive = comfy.on_prompt
    comfy.on_prompt = lambda call: reply(body=b"{}", cut=0) if comfy.prompts else alive(call)  # type: ignore[method-assign]
    _, results = run(make(comfy), FOX, FOX, FOX)
    assert results[0].error is None
    assert [type(result.error) for result in results[1:]] == [GeneratorUnavailableError] * 2


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "but it returned no picture. Check that it ends in a SaveImage node"),
        ({"output": {"images": []}}, "but it returned no picture"),
        ({"output": {"text": ["x"]}}, "but it returned no picture"),
        ({"output": {"images": ["x", {}]}}, "but it returned no picture"),
        (None, "but it returned no picture"),
    ],
)
def test_a_workflow_without_a_picture(comfy: Comfy, outputs: Any, message: str) -> None:
    comfy.outputs = outputs
    _, [result] = run(make(comfy), FOX)
    assert isinstance(result.error, GeneratorOutputError)
    assert message in str(result.error)


@pytest.mark.parametrize(
    ("picture", "kind", "message"),
    [
        (b"<html>", GeneratorOutputError, "is not a picture of a known format"),
        (b"", GeneratorOutputError, "is empty"),
    ],
)
def test_what_is_no_picture(comfy: Comfy, picture: bytes, kind: type[MgemError], message: str) -> None:
    comfy.picture = picture
    _, [result] = run(make(comfy), FOX)
    assert isinstance(result.error, kind) and message in str(result.error)


def test_half_a_picture(comfy: Comfy) -> None:
    comfy.picture = comfy.picture[:-40]
    _, [result] = run(make(comfy), FOX)
    assert "cut off or damaged" in str(result.error)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"prompt_id": 5}'])
def test_what_is_no_answer(comfy: Comfy, body: bytes) -> None:
    comfy.on_prompt = lambda call: body  # type: ignore[method-assign]
    _, [result] = run(make(comfy), FOX)
    assert isinstance(result.error, GeneratorOutputError)


def test_previews_count_where_nothing_was_kept(comfy: Comfy) -> None:
    comfy.outputs = {"p": {"images": [SHOWN | {"type": "temp"}, SHOWN]}, "output": {"images": [SHOWN, SHOWN]}}
    _, [result] = run(make(comfy), FOX)
    assert [notice.message for notice in result.notices] == ["The workflow returned 2 pictures; one is kept."]


def test_a_workflow_of_ones_own(comfy: Comfy, tmp_path: Path, png: Any) -> None:
    path = tmp_path / "flow.json"
    nodes: dict[str, Any] = {
        "3": {"class_type": "Sampler", "inputs": {"noise_seed": 1, "lora": "a.safetensors", "model": ["1", 0]}},
        "6": {"class_type": "Text", "inputs": {"text": ""}, "_meta": {"title": "mgem: prompt"}},
        "7": {"class_type": "LoadImage", "inputs": {"image": "x.png"}, "_meta": {"title": "mgem: reference_1"}},
        "8": {"class_type": "LoadImage", "inputs": {"image": "y.png"}, "_meta": {"title": "mgem: reference_2"}},
    }
    path.write_text(json.dumps(nodes))
    (tmp_path / "flow.slots.json").write_text('{"seed": "3.noise_seed", "lora": ["3.lora"]}')
    comfy.outputs = {"9": {"images": [SHOWN]}}
    comfy.picture = png(size=(80, 40))
    generator = ComfyUIGenerator(f"{comfy.server.url}#{path}", poll_s=0.02)
    able = generator.capabilities
    assert generator.name == f"comfyui:{comfy.server.url}#{path}"
    assert ([*able.tasks], able.max_references, [*able.options]) == (["text_to_image"], 2, ["lora"])
    assert able.seed and not able.guidance_scale
    request = ImageRequest(prompt="x", seed=5, width=64, references=("img-1",), options={"lora": "b.safetensors"})
    _, [result] = run(generator, request, pictures={"img-1": Image.new("RGB", (9, 9))})
    assert result.error is None
    assert comfy.nodes["3"]["inputs"] == {"noise_seed": 5, "lora": "b.safetensors", "model": ["1", 0]}
    assert comfy.nodes["7"]["inputs"] == comfy.nodes["8"]["inputs"]
    assert (result.executed.width, result.executed.height, result.model) == (80, 40, "flow")
    assert [notice.message for notice in result.notices] == ["width=64 was requested; the workflow returned 80."]
    _, [bare] = run(generator, ImageRequest(prompt="x"))
    assert "takes 2 reference picture(s); 0 were given" in str(bare.error)


def test_two_workflows_for_one_task(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(
            '{"6": {"class_type": "T", "inputs": {"text": ""}, "_meta": {"title": "mgem:prompt"}}}'
        )
    with pytest.raises(InputError, match=r"a.json' and '.*b.json' both do 'text_to_image'. Give only one"):
        ComfyUIGenerator(workflow=[tmp_path / "a.json", tmp_path / "b.json"])


def test_unload_frees_the_server(comfy: Comfy) -> None:
    make(comfy).unload()
    assert comfy.server.calls[-1].json == {"unload_models": True, "free_memory": True}
    comfy.server.http.shutdown()
    comfy.server.http.server_close()
    make(comfy, max_retries=0).unload()


def test_what_the_shipped_workflows_honour_is_stated() -> None:
    assert ComfyUIGenerator().capabilities == ComfyUIGenerator.CAPABILITIES
    assert ComfyUIGenerator("http://ann:s3cret@h:1").name == "comfyui:http://h:1"


def test_a_password_opens_the_websocket_too(comfy: Comfy) -> None:
    comfy.server.calls.clear()
    generator = ComfyUIGenerator(comfy.server.url.replace("//", "//ann:pw@"), poll_s=0.02)
    run(generator, FOX)
    assert {call.headers.get("Authorization") for call in comfy.server.calls} == {"Basic YW5uOnB3"}


def test_a_server_that_hangs_at_its_end_costs_no_more_than_its_time(comfy: Comfy, reply: Any) -> None:
    hang = lambda call: reply(hang=True)  # noqa: E731
    comfy.script = [5.0]
    comfy.on_history = comfy.on_queue = comfy.on_system_stats = hang  # type: ignore[method-assign]
    began = time.monotonic()
    _, [result] = run(make(comfy, timeout_s=0.3), FOX)
    assert isinstance(result.error, GeneratorTimeoutError)
    assert time.monotonic() - began < 4


def test_a_prompt_that_is_never_accepted_is_taken_back_by_our_own_name(comfy: Comfy, reply: Any) -> None:
    asked: list[str] = []

    def on_prompt(call: Any) -> Any:
        asked.append(call.json["prompt_id"])
        return reply(hang=True)

    comfy.on_prompt = on_prompt  # type: ignore[method-assign]
    _, [result] = run(make(comfy, timeout_s=0.3), FOX)
    assert isinstance(result.error, GeneratorTimeoutError)
    assert comfy.removed == asked


def test_messages_of_others_without_a_pause_lose_no_picture(comfy: Comfy) -> None:
    other = ("progress", {"value": 1, "max": 2})

    def flood(send: Any) -> None:
        comfy.waiting.acquire(timeout=5)
        comfy.done.add(str(len(comfy.prompts)))
        while not comfy.server.ended.wait(0.005):
            send({"type": other[0], "data": other[1] | {"prompt_id": "somebody else's"}})

    comfy.speak = flood  # type: ignore[method-assign]
    _, [result] = run(make(comfy, timeout_s=4), FOX)
    assert result.error is None
