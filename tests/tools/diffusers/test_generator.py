import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorRefusalError,
    ImageError,
    InputError,
    ToolError,
    UnsupportedRequestError,
)
from mgem_agent.tools.diffusers.call import DiffusersCall
from mgem_agent.tools.diffusers.generator import DiffusersGenerator
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_result import GenerationProgress, ImageResult


def difference(first: Any, second: Any) -> int:
    """Largest difference of two pictures, of 255."""
    return int(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max())


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that are drawn, and whether two threads were ever in a pipeline."""
    sizes: list[int] = []
    inside = threading.Lock()
    draw = DiffusersCall.draw

    def watched(self: Any, plans: Any, on_step: Any) -> Any:
        assert inside.acquire(blocking=False), "two threads in one pipeline"
        try:
            sizes.append(len(plans))
            return draw(self, plans, on_step)
        finally:
            inside.release()

    monkeypatch.setattr(DiffusersCall, "draw", watched)
    return sizes


def test_it_is_an_image_generator_and_its_name_makes_it_again() -> None:
    generator = DiffusersGenerator.from_name("sdxl-turbo")
    assert isinstance(generator, ImageGenerator)
    assert generator.name == "diffusers:sdxl-turbo"
    assert generator.model == "stabilityai/sdxl-turbo"
    assert not generator.loaded


def test_making_one_imports_neither_torch_nor_diffusers() -> None:
    code = (
        "import sys; from mgem_agent.tools.diffusers.generator import DiffusersGenerator\n"
        "generator = DiffusersGenerator.from_name('sdxl', offload='model'); generator.unload()\n"
        "print(sorted({'torch', 'diffusers', 'transformers'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"


def test_what_was_really_done_is_all_there_and_draws_the_same_again(make_generator: Any, draw: Any, ask: Any) -> None:
    generator = make_generator("sdxl")
    (first,) = draw(generator, [ask(seed=None, width=None, height=None, negative_prompt="x")])
    done = first.executed
    assert first.request.seed is None
    assert isinstance(done.seed, int)
    assert (done.width, done.height) == first.image.size == (64, 64)
    assert (done.num_inference_steps, done.guidance_scale) == (2, 5.0)
    assert done.options == {"eta": 0.0, "guidance_rescale": 0.0, "scheduler": "EulerDiscreteScheduler"}
    assert first.generator == generator.name
    assert first.model == generator.model
    assert {"diffusers", "torch", "transformers"} == first.versions.keys()
    assert first.seconds > 0
    (again,) = draw(generator, [done])
    assert again.image.tobytes() == first.image.tobytes()
    assert again.executed == done


def test_steps_that_are_not_given_are_the_pipelines_own(make_generator: Any, draw: Any, ask: Any) -> None:
    requests = [ask("sdxl", num_inference_steps=None), ask("sdxl", num_inference_steps=None, width=16, height=16)]
    cancel = threading.Event()
    for event in make_generator("sdxl").generate(requests, cancel=cancel):
        cancel.set()
        if isinstance(event, ImageResult) and event.executed.num_inference_steps is not None:
            assert event.executed.num_inference_steps == 50
            return
    pytest.fail("no request was ever planned")


def test_seeds_that_are_not_given_differ(make_generator: Any, draw: Any, ask: Any) -> None:
    first, second = draw(make_generator("sdxl"), [ask(seed=None), ask(seed=None)])
    assert first.executed.seed != second.executed.seed
    assert difference(first.image, second.image) > 1


def test_equal_requests_are_one_batch_and_others_are_not(
    make_generator: Any, draw: Any, ask: Any, calls: list[int]
) -> None:
    generator = make_generator("sdxl")
    requests = [ask(seed=1), ask(seed=2, width=64), ask(seed=3), ask(seed=4, num_inference_steps=1), ask(seed=5)]
    results = draw(generator, requests)
    assert [result.error for result in results] == [None] * 5
    assert sorted(calls) == [1, 1, 3]
    assert [result.image.size for result in results] == [(32, 32), (64, 32), (32, 32), (32, 32), (32, 32)]


def test_no_batch_is_larger_than_told(make_generator: Any, draw: Any, ask: Any, calls: list[int]) -> None:
    generator = make_generator("sdxl", max_batch_size=2)
    assert generator.capabilities.max_batch_size == 2
    draw(generator, [ask(seed=seed) for seed in range(5)])
    assert calls == [2, 2, 1]


def test_threads_share_batches_and_each_gets_its_own(make_generator: Any, draw: Any, ask: Any, calls: Any) -> None:
    generator = make_generator("sdxl", gather_s=0.5)
    alone = [draw(make_generator("sdxl"), [ask(seed=seed)])[0].image for seed in range(6)]
    calls.clear()
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda seed: draw(generator, [ask(seed=seed)])[0], range(6)))
    assert calls == [6]
    assert [result.index for result in results] == [0] * 6
    assert [result.executed.seed for result in results] == list(range(6))
    for result, image in zip(results, alone, strict=True):
        assert difference(result.image, image) <= 1


def test_every_step_is_told_to_its_caller(make_generator: Any, ask: Any) -> None:
    events = list(make_generator("sdxl").generate([ask(seed=1, num_inference_steps=3), ask(seed=2)]))
    progress = [event for event in events if isinstance(event, GenerationProgress)]
    steps = {index: [(each.step, each.num_steps) for each in progress if each.index == index] for index in (0, 1)}
    assert steps == {0: [(1, 3), (2, 3), (3, 3)], 1: [(1, 2), (2, 2)]}
    assert sorted(event.index for event in events if isinstance(event, ImageResult)) == [0, 1]


def test_nothing_asked_is_nothing_drawn(make_generator: Any, draw: Any) -> None:
    assert draw(make_generator("sdxl"), []) == []


def test_cancel_stops_within_a_step_and_leaves_what_was_drawn(make_generator: Any, ask: Any) -> None:
    cancel = threading.Event()
    requests = [ask(seed=1, num_inference_steps=1), ask(seed=2, num_inference_steps=900)]
    results, seen = {}, 0
    for event in make_generator("sdxl").generate(requests, cancel=cancel):
        if isinstance(event, ImageResult):
            results[event.index] = event
        elif event.index == 1:
            seen = event.step
            cancel.set()
    assert results[0].image is not None
    assert results[1].image is None
    assert isinstance(results[1].error, GenerationCancelledError)
    assert 0 < seen < 900


def test_cancel_of_one_caller_leaves_the_other_of_its_batch(make_generator: Any, draw: Any, ask: Any) -> None:
    generator = make_generator("sdxl", gather_s=0.5)
    cancel = threading.Event()
    cancel.set()
    with ThreadPoolExecutor(2) as pool:
        stopped = pool.submit(draw, generator, [ask(seed=1)], cancel=cancel)
        other = pool.submit(draw, generator, [ask(seed=2)])
        assert isinstance(stopped.result()[0].error, GenerationCancelledError)
        assert other.result()[0].image is not None


def test_a_caller_who_stops_listening_stops_the_drawing(make_generator: Any, draw: Any, ask: Any) -> None:
    generator = make_generator("sdxl")
    events = generator.generate([ask(num_inference_steps=1000)])
    assert isinstance(next(events), GenerationProgress)
    events.close()
    # A thousand steps take longer than any test may.
    assert draw(generator, [ask(num_inference_steps=1)])[0].image is not None


def test_cancelled_while_another_draws_does_not_wait(make_generator: Any, ask: Any) -> None:
    generator = make_generator("sdxl")
    busy = generator.generate([ask(num_inference_steps=1000)])
    next(busy)
    cancel = threading.Event()
    cancel.set()
    (event,) = generator.generate([ask(seed=2)], cancel=cancel)
    assert isinstance(event, ImageResult)
    assert str(event.error) == "The request was cancelled before drawing began."
    busy.close()


def test_unload_frees_and_the_next_call_loads_the_same(make_generator: Any, draw: Any, ask: Any) -> None:
    generator = make_generator("sdxl", fresh=True)
    generator.unload()
    (first,) = draw(generator, [ask()])
    assert generator.loaded
    generator.unload()
    assert not generator.loaded
    (second,) = draw(generator, [ask()])
    assert first.image.tobytes() == second.image.tobytes()
    generator.unload()


def test_a_batch_that_does_not_fit_is_halved_and_stays_so(
    make_generator: Any, draw: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    whole = DiffusersCall.draw

    def small(self: Any, plans: Any, on_step: Any) -> Any:
        sizes.append(len(plans))
        if len(plans) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(self, plans, on_step)

    alone = [draw(make_generator("sdxl"), [ask(seed=seed)])[0].image for seed in range(5)]
    monkeypatch.setattr(DiffusersCall, "draw", small)
    generator = make_generator("sdxl", fresh=True)
    results = draw(generator, [ask(seed=seed) for seed in range(5)])
    assert sizes == [5, 2, 2, 1]
    for result, image in zip(results, alone, strict=True):
        assert difference(result.image, image) <= 1
    draw(generator, [ask(seed=seed) for seed in range(4)])
    assert sizes[4:] == [2, 2]
    generator.unload()


@pytest.mark.parametrize(
    "failure", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory"), MemoryError()]
)
def test_one_picture_that_does_not_fit_says_what_helps(
    make_generator: Any, draw: Any, ask: Any, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(self: Any, plans: Any, on_step: Any) -> Any:
        raise failure

    monkeypatch.setattr(DiffusersCall, "draw", fail)
    (result,) = draw(make_generator("sdxl"), [ask()])
    assert str(result.error) == (
        "There is not enough memory to draw one picture of 32x32. Request a smaller one, or set the options "
        "offload='model', quantization=8 or vae_tiling=True."
    )


def test_one_that_fails_does_not_take_the_others_with_it(
    make_generator: Any, draw: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = DiffusersCall.draw

    def picky(self: Any, plans: Any, on_step: Any) -> Any:
        if any(plan.request.seed == 2 for plan in plans):
            raise ValueError("no such shape\nand a long story")
        return whole(self, plans, on_step)

    monkeypatch.setattr(DiffusersCall, "draw", picky)
    results = draw(make_generator("sdxl"), [ask(seed=seed) for seed in (1, 2, 3)])
    assert [result.image is None for result in results] == [False, True, False]
    assert isinstance(results[1].error, ToolError)
    assert str(results[1].error) == "The pipeline failed: ValueError: no such shape"


@pytest.mark.parametrize(
    ("pixels", "flags", "error", "message"),
    [
        (np.full((1, 32, 32, 3), np.nan), None, GeneratorOutputError, "model's output is NaN"),
        (np.full((1, 32, 32, 3), 0.5), [True], GeneratorRefusalError, "safety checker"),
        (np.full((2, 32, 32, 3), 0.5), None, GeneratorOutputError, r"asked for 1 picture\(s\) and returned \(2, 32"),
        (None, None, GeneratorOutputError, "returned NoneType"),
    ],
)
def test_what_is_no_picture_is_an_error(
    make_generator: Any,
    draw: Any,
    ask: Any,
    monkeypatch: pytest.MonkeyPatch,
    pixels: Any,
    flags: Any,
    error: Any,
    message: Any,
) -> None:
    import types

    import diffusers

    output = types.SimpleNamespace(images=pixels, nsfw_content_detected=flags)
    monkeypatch.setattr(diffusers.StableDiffusionXLPipeline, "__call__", lambda self, **arguments: output)
    (result,) = draw(make_generator("sdxl"), [ask()])
    assert isinstance(result.error, error)
    with pytest.raises(error, match=message):
        raise result.error


def test_a_black_picture_or_another_size_is_reported(
    make_generator: Any, draw: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import types

    import diffusers

    output = types.SimpleNamespace(images=np.zeros((1, 24, 32, 3)))
    monkeypatch.setattr(diffusers.StableDiffusionXLPipeline, "__call__", lambda self, **arguments: output)
    (result,) = draw(make_generator("sdxl"), [ask()])
    assert [(notice.argument, notice.message) for notice in result.notices] == [
        ("height", "32 was requested; 24 was drawn."),
        ("prompt", "the picture is all black, which some models produce in float16; set the option dtype."),
    ]
    assert (result.executed.width, result.executed.height) == (32, 24)


def test_what_cannot_be_honoured_is_refused_or_reported(make_generator: Any, draw: Any, ask: Any) -> None:
    generator = make_generator("sdxl")
    edit, unknown, missing, size, unread = draw(
        generator,
        [
            ask(task="edit", image="img-1"),
            ask(options={"sampler": "x"}),
            ask(task="image_to_image", image="img-1"),
            ask(width=37),
            ask(guidance_scale=1.0, negative_prompt="blurry"),
        ],
    )
    assert isinstance(edit.error, UnsupportedRequestError)
    assert "task='edit' is not supported; supported: image_to_image, inpaint, text_to_image." in str(edit.error)
    assert isinstance(unknown.error, UnsupportedRequestError)
    assert "options 'sampler' are unknown" in str(unknown.error)
    assert isinstance(missing.error, ImageError)
    assert str(missing.error) == "Pictures 'img-1' are missing. Pass them in `pictures`, by id."
    assert [notice.argument for notice in size.notices] == ["width"]
    assert size.image.size == (40, 32)
    assert unread.executed.negative_prompt is None
    assert [notice.message for notice in unread.notices] == [
        "a negative prompt has no effect with guidance_scale=1; it was left out."
    ]


def test_options_that_are_wrong_are_named() -> None:
    with pytest.raises(
        InputError, match=r"'diffusers:sdxl' cannot be created: offlaod: Extra inputs .* Options: cache"
    ):
        DiffusersGenerator.from_name("sdxl", offlaod="model")
    with pytest.raises(InputError, match="quantization: Input should be 4 or 8"):
        DiffusersGenerator.from_name("sdxl", quantization="3")
    with pytest.raises(InputError, match="must be given together"):
        DiffusersGenerator.from_name("sdxl", ip_adapter="h94/IP-Adapter")
    with pytest.raises(InputError, match="'diffusers:' names no model"):
        DiffusersGenerator.from_name(" ")


def test_what_fails_between_two_batches_is_told_to_who_asked(
    make_generator: Any, draw: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = make_generator("sdxl", fresh=True)
    draw(generator, [ask(num_inference_steps=1)])

    def fail() -> None:
        raise RuntimeError("CUDA error")

    with monkeypatch.context() as patch:
        patch.setattr("mgem_agent.tools.diffusers.generator.gc.collect", fail)
        with pytest.raises(RuntimeError, match="CUDA error"):
            generator.unload()
    assert draw(generator, [ask(num_inference_steps=1)])[0].image is not None


def test_the_thread_ends_when_there_is_nothing_to_draw(make_generator: Any, draw: Any, ask: Any) -> None:
    generator = make_generator("sdxl")
    draw(generator, [ask(num_inference_steps=1)])
    (thread,) = [each for each in threading.enumerate() if each.name == "mgem-diffusers"][:1]
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert draw(generator, [ask(num_inference_steps=1)])[0].image is not None


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["list(events)", "next(events)", "next(events); events.close()"])
def test_a_program_may_end_while_the_thread_is_there(make_generator: Any, ending: str) -> None:
    code = (
        "from mgem_agent.tools.diffusers.generator import DiffusersGenerator\n"
        "from mgem_agent.tools.image_request import ImageRequest\n"
        f"generator = DiffusersGenerator({make_generator('sdxl').model!r})\n"
        "requests = [ImageRequest(prompt='a fox', width=32, height=32, num_inference_steps=50)]\n"
        f"events = generator.generate(requests); {ending}; print('end')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout) == (0, "end\n")
    assert "terminate" not in run.stderr
    assert "Traceback" not in run.stderr
