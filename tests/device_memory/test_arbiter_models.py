"""A real language model and a real pipeline that share a device: what is on it is counted while they compute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.messages import HumanMessage
from torch.nn.modules.module import register_module_forward_pre_hook

from mgem_agent import ChatMiniGemini
from mgem_agent.core_model.checkpoints.size import checkpoint_size
from mgem_agent.device_memory.arbiter import DeviceArbiter
from mgem_agent.device_memory.device_access import storage_bytes, tensors_of
from mgem_agent.errors import DeviceMemoryError, MgemError
from mgem_agent.tools.diffusers.generator import DiffusersGenerator
from mgem_agent.tools.diffusers.options import DiffusersOptions
from mgem_agent.tools.diffusers.pipeline_size import pipeline_size
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

Share = Callable[..., DeviceArbiter]


class Pair:
    """A chat model and a generator, and the most bytes of both that were on the device while either computed."""

    def __init__(self, vlm: Path, pipeline: Path) -> None:
        options: dict[str, Any] = {"dtype": torch.float32}
        self.chat: Any = ChatMiniGemini(model=str(vlm), model_options=options, temperature=0, max_tokens=12)
        self.generator: Any = DiffusersGenerator(
            str(pipeline), DiffusersOptions(num_inference_steps=2, max_batch_size=1)
        )
        self.vlm_size, self.pipeline_size = (
            checkpoint_size(vlm, options),
            pipeline_size(str(pipeline), DiffusersOptions()),
        )
        self.most = 0

    @property
    def modules(self) -> list[Any]:
        engines: Any = self.chat._engines.values()
        return [*(engine.model for engine in engines), *self.generator._modules()]

    def resident(self) -> int:
        return storage_bytes(tensors_of(self.modules))

    def ask(self, text: str = "hi", **options: Any) -> str:
        return str(self.chat.invoke([HumanMessage(text)], draw="never", **options).text)

    def draw(self, seed: int = 1) -> Any:
        request = ImageRequest(prompt="fox", seed=seed, width=32, height=32, num_inference_steps=2)
        [result] = [each for each in self.generator.generate([request]) if isinstance(each, ImageResult)]
        if result.error is not None:
            raise result.error
        assert result.image is not None
        return result.image.tobytes()

    def watch(self, module: Any, *_: Any) -> None:
        """Count what is on the device when one of the two computes; a global hook of torch."""
        if type(module).__name__ in ("LlamaModel", "UNet2DConditionModel"):
            self.most = max(self.most, self.resident())


@pytest.fixture
def pair(vlm_folder: Path, pipeline_folder: Path) -> Iterator[Callable[[], Pair]]:
    hooks = []

    def make() -> Pair:
        made = Pair(vlm_folder, pipeline_folder)
        hooks.append(register_module_forward_pre_hook(made.watch))
        return made

    yield make
    for hook in hooks:
        hook.remove()


@pytest.fixture
def expected(share: Share, pair: Callable[[], Pair]) -> tuple[str, Any]:
    share("keep")
    alone = pair()
    return alone.ask(), alone.draw()


def test_sizes_from_headers_are_those_of_the_loaded_weights(share: Share, pair: Callable[[], Pair]) -> None:
    share("keep")
    made = pair()
    assert made.vlm_size is not None and made.pipeline_size is not None
    made.ask()
    assert storage_bytes(tensors_of(made.modules)) == pytest.approx(made.vlm_size.weight_bytes, rel=0.02)
    before = made.resident()
    made.draw()
    assert made.resident() - before == pytest.approx(made.pipeline_size.weight_bytes, rel=0.02)
    assert set(made.pipeline_size.parts) == {"text_encoder", "unet", "vae"}
    assert {"language model", "mining", "vision encoder"} <= set(made.vlm_size.parts)


def test_auto_keeps_both_where_they_fit(share: Share, pair: Callable[[], Pair], expected: Any) -> None:
    arbiter = share("auto", available=2**40)
    made = pair()
    assert (made.ask(), made.draw(), made.ask()) == (expected[0], expected[1], expected[0])
    assert not arbiter.moves and made.resident() > made.vlm_size.weight_bytes  # type: ignore[union-attr]


@pytest.mark.parametrize(("rest", "away"), [(None, "rest"), (2**40, "rest"), (10, "unloaded")])
def test_auto_moves_the_idle_one_where_they_do_not_fit(
    share: Share, pair: Callable[[], Pair], expected: Any, rest: int | None, away: str
) -> None:
    made = pair()
    sizes = (made.vlm_size, made.pipeline_size)
    room = max(size.total_bytes for size in sizes if size) + 100
    arbiter = share("auto", available=room, rest=rest)
    made = pair()
    for _ in range(2):
        assert (made.ask(), made.draw()) == expected
    assert {move.to for move in arbiter.moves} == ({"rest", "home"} if away == "rest" else {"unloaded"})
    assert 0 < made.most < room, "both were on the device while one of them computed"


@pytest.mark.parametrize("policy", ["swap", "unload"])
def test_a_policy_applies_also_where_both_fit(
    share: Share, pair: Callable[[], Pair], expected: Any, policy: str
) -> None:
    arbiter = share(policy)
    made = pair()
    assert (made.ask(), made.draw(), made.ask(), made.draw()) == expected * 2
    assert 0 < made.most <= max(size.weight_bytes for size in (made.vlm_size, made.pipeline_size) if size) * 1.02
    assert {move.to for move in arbiter.moves} == ({"rest", "home"} if policy == "swap" else {"unloaded"})


def test_keep_moves_nothing(share: Share, pair: Callable[[], Pair], expected: Any) -> None:
    arbiter = share("keep", available=1)
    made = pair()
    assert (made.ask(), made.draw()) == expected and not arbiter.moves


def test_a_limit_counts_as_the_device(share: Share, pair: Callable[[], Pair], expected: Any) -> None:
    arbiter = share("auto", 1, available=2**40)
    made = pair()
    assert (made.ask(), made.draw(), made.ask()) == (*expected, expected[0])
    assert arbiter.moves


def test_where_the_device_is_main_memory_swapping_frees_nothing_so_the_model_is_unloaded(
    share: Share, pair: Callable[[], Pair], expected: Any
) -> None:
    arbiter = share("auto", 1, can_rest=False)
    made = pair()
    assert (made.ask(), made.draw()) == expected
    assert [move.to for move in arbiter.moves] == ["unloaded"]
    arbiter = share("swap", can_rest=False)
    made = pair()
    assert (made.ask(), made.draw()) == expected and not arbiter.moves


def test_the_caches_of_a_dialogue_survive_a_swap(share: Share, pair: Callable[[], Pair]) -> None:
    share("swap")
    made = pair()
    first = made.chat.invoke([HumanMessage("hi")], draw="never")
    made.draw()
    later = [HumanMessage("hi"), first, HumanMessage("and?")]
    answer: Any = made.chat.invoke(later, draw="never")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_token_details"]["cache_read"] > 0
    share("keep")
    assert pair().chat.invoke(later, draw="never").text == answer.text


def test_two_threads_never_move_both(share: Share, pair: Callable[[], Pair], expected: Any) -> None:
    share("swap")
    made = pair()
    made.ask()
    made.draw()
    made.most = 0
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(made.ask) for _ in range(6)]
        pictures = [pool.submit(made.draw) for _ in range(6)]
        assert {future.result() for future in answers} == {expected[0]}
        assert {future.result() for future in pictures} == {expected[1]}
    assert 0 < made.most <= max(size.weight_bytes for size in (made.vlm_size, made.pipeline_size) if size) * 1.02


def test_a_model_that_cannot_move_to_main_memory_is_unloaded(
    share: Share, pair: Callable[[], Pair], expected: Any
) -> None:
    arbiter = share("swap")
    made = pair()
    made.draw()

    def fail(direction: str, number: int) -> None:
        if direction == "rest" and number == 1:  # the first part has moved
            raise RuntimeError("main memory is full")

    arbiter.access.fail = fail  # type: ignore[attr-defined]
    assert made.ask() == expected[0]
    assert made.generator._call is None, "half a pipeline was kept"
    arbiter.access.fail = lambda *_: None  # type: ignore[attr-defined]
    assert (made.draw(), made.ask()) == (expected[1], expected[0])


def test_a_model_that_cannot_move_to_its_device_stays_in_main_memory(
    share: Share, pair: Callable[[], Pair], expected: Any
) -> None:
    arbiter = share("swap")
    made = pair()
    made.draw()
    made.ask()

    def fail(direction: str, number: int) -> None:
        if direction == "home" and number == 1:
            raise RuntimeError("out of memory")

    arbiter.access.fail = fail  # type: ignore[attr-defined]
    with pytest.raises(DeviceMemoryError, match=r"cannot move to cpu: out of memory\. Set memory_policy to 'unload'"):
        made.draw()
    assert made.generator.loaded
    arbiter.access.fail = lambda *_: None  # type: ignore[attr-defined]
    assert (made.draw(), made.ask(), made.draw()) == (expected[1], expected[0], expected[1])


def test_a_model_of_the_caller_is_never_dropped(share: Share, pair: Callable[[], Pair], expected: Any) -> None:
    share("keep")
    made = pair()
    made.ask()
    [engine] = made.chat._engines.values()
    core: Any = engine
    arbiter = share("unload")
    made = pair()
    made.chat = ChatMiniGemini(model=core.model, processor=core.processor, temperature=0, max_tokens=12)
    assert (made.ask(), made.draw(), made.ask()) == (*expected, expected[0])
    assert [move.to for move in arbiter.moves] == ["unloaded", "unloaded", "home"]


def test_a_pipeline_that_runs_out_of_memory_gets_the_room_of_the_idle_model(
    share: Share, pair: Callable[[], Pair], expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arbiter = share("auto", available=2**40)
    made = pair()
    made.ask()
    tried: list[int] = []
    draw = made.generator._draw

    def short(*arguments: Any) -> Any:
        tried.append(made.resident())
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return draw(*arguments)

    monkeypatch.setattr(made.generator._worker, "_draw", short)
    assert made.draw() == expected[1]
    assert len(tried) == 2 and tried[1] < tried[0], "the idle model did not leave"
    assert [move.to for move in arbiter.moves] == ["rest"]
    assert made.ask() == expected[0]


def test_a_drawing_that_waits_can_be_cancelled(share: Share, pair: Callable[[], Pair]) -> None:
    arbiter = share("swap")
    made = pair()
    made.ask()
    [engine] = made.chat._engines.values()
    core: Any = engine
    with core.hold(lambda: False):  # as an answer that takes long
        cancel = threading.Event()
        request = ImageRequest(prompt="fox", width=32, height=32)
        threading.Timer(0.2, cancel.set).start()
        [result] = [each for each in made.generator.generate([request], cancel=cancel) if isinstance(each, ImageResult)]
    assert isinstance(result.error, MgemError) and "cancelled" in str(result.error)
    assert not arbiter.moves
    made.draw()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("CRITICAL", logger="mgem_agent.device_memory"):
        yield
