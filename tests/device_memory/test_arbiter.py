"""The arbiter over models that only count: turns, fairness, servers, and what it records."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from mgem_agent.device_memory.arbiter import DeviceArbiter
from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.device_memory.served_memory import ServedMemory
from mgem_agent.errors import GenerationCancelledError


class Model:
    """A model of some bytes that is where the arbiter put it."""

    is_served = False
    is_movable = True

    def __init__(self, name: str, size: int, device: str = "cuda:0") -> None:
        self.name, self.bytes, self.device = name, size, device
        self.place = "home"

    @property
    def is_resting(self) -> bool:
        return self.place == "rest"

    def size(self) -> ModelSize:
        return ModelSize({"weights": self.bytes}, working_bytes=1)

    def resident_bytes(self) -> int:
        return self.bytes if self.place == "home" else 0

    def to_home(self) -> None:
        self.place = "home"

    def to_rest(self) -> None:
        self.place = "rest"

    def unload(self) -> None:
        self.place = "unloaded"


class Device:
    """A device that says what is available."""

    def __init__(self, available: int | None) -> None:
        self.available = available
        self.released = 0

    def available_bytes(self, device: str) -> int | None:
        return self.available

    def can_rest(self, device: str) -> bool:
        return not device.startswith("cpu")

    def free_rest_bytes(self) -> int | None:
        return None

    def release(self, device: str) -> None:
        self.released += 1

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def used(arbiter: DeviceArbiter, *models: Any) -> DeviceArbiter:
    for model in models:
        with arbiter.use(model):
            if model.place == "unloaded":
                model.place = "home"  # a model loads itself within its call
    return arbiter


def test_only_as_many_leave_as_needed_the_longest_idle_first() -> None:
    old, new, large = Model("old", 40), Model("new", 40), Model("large", 50)
    large.place = "unloaded"
    arbiter = used(DeviceArbiter("auto", access=Device(100)), old, new, large)  # type: ignore[arg-type]
    assert (old.place, new.place, large.place) == ("rest", "home", "home")
    assert [(move.model, move.to, move.num_bytes) for move in arbiter.moves] == [("old", "rest", 40)]


def test_models_on_other_devices_stay() -> None:
    here, there, cpu = Model("here", 90), Model("there", 90, "cuda:1"), Model("cpu", 90, "cpu")
    arbiter = used(DeviceArbiter("auto", access=Device(100)), there, cpu, here)  # type: ignore[arg-type]
    assert {each.place for each in (here, there, cpu)} == {"home"} and not arbiter.moves
    plain = Model("plain", 90, "cuda")
    used(arbiter, plain)
    assert (here.place, there.place, plain.place) == ("rest", "home", "home"), "cuda is cuda:0"


def test_a_model_on_several_devices_is_never_swapped() -> None:
    wide, small = Model("wide", 90), Model("small", 50)
    wide.is_movable = False
    used(DeviceArbiter("auto", access=Device(100)), wide, small)  # type: ignore[arg-type]
    assert wide.place == "home"
    used(DeviceArbiter("swap", access=Device(100)), wide, small)  # type: ignore[arg-type]
    assert wide.place == "home"
    used(DeviceArbiter("unload", access=Device(100)), wide, small)  # type: ignore[arg-type]
    assert wide.place == "unloaded"


def test_a_server_on_this_machine_is_asked_to_free_its_memory_first() -> None:
    device, freed = Device(30), []
    model = Model("model", 50)
    model.place = "unloaded"

    def free() -> None:
        freed.append(True)
        device.available = 100

    server = ServedMemory("comfyui", free)
    arbiter = DeviceArbiter("auto", access=device)  # type: ignore[arg-type]
    used(arbiter, model)
    assert not freed, "it has not drawn, so there is nothing to free"
    with arbiter.use(server):
        server.note_work()
    assert model.place == "home", "auto does not know what a server needs"
    device.available = 30
    used(arbiter, model, model)
    assert freed == [True]
    on_cpu = Model("on the CPU", 50, "cpu")
    server.note_work()
    used(arbiter, on_cpu)
    assert freed == [True]
    arbiter.configure("swap")
    with arbiter.use(server):
        assert model.place == "rest", "the server gets the device"


def test_a_busy_model_is_waited_for_and_turns_are_fair() -> None:
    one, other = Model("one", 60), Model("other", 60)
    other.place = "rest"
    arbiter = DeviceArbiter("swap", access=Device(100))  # type: ignore[arg-type]
    order: list[str] = []
    started = threading.Event()

    def work(model: Model, name: str, held_s: float = 0.0) -> None:
        with arbiter.use(model):
            assert (one.place, other.place).count("home") == 1
            order.append(name)
            started.set()
            time.sleep(held_s)

    first = threading.Thread(target=work, args=(one, "first", 0.3))
    first.start()
    assert started.wait(5)
    threads = [first]
    for model, name in ((other, "drawing"), (one, "later")):
        threads.append(threading.Thread(target=work, args=(model, name)))
        threads[-1].start()
        time.sleep(0.1)
    for thread in threads:
        thread.join(5)
    assert order == ["first", "drawing", "later"], "a model that is used all the time starves the other"


def test_a_thread_within_a_call_may_call_the_other_model() -> None:
    one, other = Model("one", 60), Model("other", 60)
    other.place = "unloaded"
    arbiter = DeviceArbiter("swap", access=Device(100))  # type: ignore[arg-type]
    with arbiter.use(one), arbiter.use(one):
        with arbiter.use(other):
            assert one.place == "rest"
    with arbiter.use(other):
        assert one.place == "rest", "it is not held any more"


def test_a_waiting_call_can_be_cancelled_and_leaves_no_trace() -> None:
    one, other = Model("one", 60), Model("other", 60)
    arbiter = DeviceArbiter("swap", access=Device(100))  # type: ignore[arg-type]
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with arbiter.use(one):
            entered.set()
            leave.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(5)
    with pytest.raises(GenerationCancelledError, match="cancelled while it waited for the memory of the device"):
        with arbiter.use(other, lambda: True):
            raise AssertionError
    leave.set()
    thread.join(5)
    used(arbiter, other)
    assert (one.place, other.place) == ("rest", "home")


def test_models_that_are_gone_are_forgotten() -> None:
    arbiter = DeviceArbiter("swap", access=Device(100))  # type: ignore[arg-type]
    used(arbiter, Model("gone", 60))
    used(arbiter, Model("other", 60))
    assert not arbiter.moves
