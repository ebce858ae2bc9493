"""Servers on this machine that share the accelerator with a model of this process: when they are asked to free it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from mgem_agent.device_memory import arbiter as arbiter_module
from mgem_agent.device_memory.arbiter import DeviceArbiter
from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.tools import ImageRequest, ImageResult, draw
from mgem_agent.tools.servers.a1111 import A1111Generator
from mgem_agent.tools.servers.comfyui import ComfyUIGenerator
from mgem_agent.tools.servers.server_memory import ServerMemory


class Device:
    def available_bytes(self, device: str) -> int | None:
        return 100

    def can_rest(self, device: str) -> bool:
        return True

    def free_rest_bytes(self) -> int | None:
        return None


class Model:
    """A model of this process on the GPU."""

    name, device, is_served, is_movable = "model", "cuda:0", False, True

    def __init__(self) -> None:
        self.is_resting = False

    def size(self) -> ModelSize:
        return ModelSize({"weights": 50})

    def resident_bytes(self) -> int:
        return 0 if self.is_resting else 50

    def to_home(self) -> None:
        self.is_resting = False

    def to_rest(self) -> None:
        self.is_resting = True

    def unload(self) -> None:
        raise AssertionError


@pytest.fixture
def arbiter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], DeviceArbiter]:
    def make(policy: Any) -> DeviceArbiter:
        made = DeviceArbiter(policy, access=Device())  # type: ignore[arg-type]
        monkeypatch.setattr(arbiter_module, "_shared", made)
        return made

    return make


@pytest.fixture
def a1111(server: Any, png: Any) -> A1111Generator:
    data = {"images": [base64.b64encode(png()).decode()], "parameters": {}, "info": json.dumps({"seed": 1})}
    server.answer = lambda call: data
    return A1111Generator(server.url, timeout_s=5.0, poll_s=5.0)


def draw_one(generator: Any) -> None:
    [result] = [event for event in draw(generator, [ImageRequest(prompt="a fox")]) if isinstance(event, ImageResult)]
    assert result.image is not None


def use(arbiter: DeviceArbiter, model: Model) -> None:
    with arbiter.use(model):
        assert not model.is_resting


def test_the_web_ui_and_the_model_take_turns(server: Any, a1111: A1111Generator, arbiter: Any) -> None:
    made, model = arbiter("swap"), Model()
    use(made, model)
    draw_one(a1111)
    assert model.is_resting, "the server drew beside the model"
    use(made, model)
    draw_one(a1111)
    assert server.paths() == [
        "/sdapi/v1/txt2img", "/sdapi/v1/unload-checkpoint", "/sdapi/v1/reload-checkpoint", "/sdapi/v1/txt2img",
    ]  # fmt: skip


@pytest.mark.parametrize("policy", ["keep", "auto"])
def test_it_is_left_alone_where_the_model_fits(server: Any, a1111: A1111Generator, arbiter: Any, policy: str) -> None:
    made, model = arbiter(policy), Model()
    use(made, model)
    draw_one(a1111)
    use(made, model)
    assert server.paths() == ["/sdapi/v1/txt2img"] and not model.is_resting


def test_comfyui_frees_its_memory_by_free(server: Any, arbiter: Any) -> None:
    server.answer = lambda call: {}
    comfyui: Any = ComfyUIGenerator(server.url, timeout_s=5.0)
    with comfyui._memory.held(lambda: False):
        pass
    use(arbiter("swap"), Model())
    assert server.paths() == [], "another arbiter's server"
    made = arbiter("swap")
    with comfyui._memory.held(lambda: False):
        pass
    use(made, Model())
    [call] = server.calls
    assert (call.path, call.json) == ("/free", {"unload_models": True, "free_memory": True})


def test_a_server_elsewhere_is_never_asked(arbiter: Any) -> None:
    made = arbiter("unload")
    memory = ServerMemory("http://192.168.1.5:7860", "a1111", lambda: pytest.fail("it was asked"))
    with memory.held(lambda: False):
        pass
    use(made, Model())
    assert not memory.is_on_this_machine
    assert ServerMemory("http://localhost:7860", "a1111", lambda: None).is_on_this_machine
