"""Compiled blocks, caches and tiles on tiny pipelines: what a class offers, what is refused, what pictures say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diffusers import AutoencoderTiny

from mgem_agent.device_memory.arbiter import DeviceArbiter
from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.errors import GeneratorUnavailableError, InputError
from mgem_agent.nano import NanoGenerator
from mgem_agent.tools.diffusers.families import describe_class
from mgem_agent.tools.diffusers.generator import DiffusersGenerator
from mgem_agent.tools.diffusers.options import DiffusersOptions
from mgem_agent.tools.diffusers.pipeline_size import largest_batch
from mgem_agent.tools.diffusers.speed import apply_speed, describe_speed, with_advice
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult


def refusal(generator: DiffusersGenerator, request: Any) -> str:
    with pytest.raises(GeneratorUnavailableError) as caught:
        list(generator.generate([request]))
    return str(caught.value)


@pytest.mark.parametrize(
    ("class_name", "caches", "blocks"),
    [
        ("FluxPipeline", ("first_block", "taylorseer"), ("transformer",)),
        ("QwenImagePipeline", ("first_block", "taylorseer"), ("transformer",)),
        ("StableDiffusionXLPipeline", (), ("unet",)),
        ("StableDiffusion3Pipeline", (), ()),
        ("StableCascadeCombinedPipeline", (), ()),
    ],
)
def test_what_a_class_offers(class_name: str, caches: tuple[str, ...], blocks: tuple[str, ...]) -> None:
    found = describe_speed(describe_class(class_name))
    assert (found.caches, found.blocks) == (caches, blocks)


def test_what_is_advised_depends_on_the_family_the_steps_and_the_device() -> None:
    flux = describe_class("FluxPipeline")
    many, few = describe_speed(flux, 28), describe_speed(flux, 4)
    assert many.advised == {"compile": "blocks", "cache": "first_block", "cache_options": {"threshold": 0.08}}
    assert few.advised == {"compile": "blocks"}
    fast = DiffusersOptions(speed="fast")
    assert with_advice(fast, many, "cuda").cache == "first_block"
    assert with_advice(fast, many, "cuda").cache_options == {"threshold": 0.08}
    assert with_advice(fast, many, "cpu") == fast
    assert with_advice(DiffusersOptions(), many, "cuda").cache == "none"
    own = DiffusersOptions(speed="fast", cache="taylorseer", compile="none")
    assert with_advice(own, many, "cuda") == own, "what is set stays, and another cache has other settings"


def test_generators_describe_themselves_without_weights() -> None:
    found = DiffusersGenerator("flux-dev").describe_speed()
    assert found == {
        "defaults": "steps 28, guidance 3.5",
        "compile": "blocks, whole",
        "cache": "first_block, taylorseer",
        "quantization": "4, 8",
        "speed=fast": "compile=blocks, cache=first_block, cache_options={'threshold': 0.08}",
    }
    assert DiffusersGenerator("sdxl").describe_speed()["cache"] == "none: UNet2DConditionModel supports no cache"


@pytest.mark.parametrize("cache", ["first_block", "taylorseer"])
def test_a_cache_skips_work_and_a_new_picture_starts_without_it(
    make_generator: Any, draw: Any, ask: Any, cache: str
) -> None:
    request = ask("flux", seed=1, num_inference_steps=6)
    [plain] = draw(make_generator("flux"), [request])
    settings = {"threshold": 1e9} if cache == "first_block" else {"cache_interval": 3, "disable_cache_before_step": 1}
    cached = make_generator("flux", cache=cache, cache_options=settings)
    [first], [second] = draw(cached, [request]), draw(cached, [request])
    assert np.any(np.asarray(first.image) != np.asarray(plain.image)), "nothing was skipped"
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image)), "the cache outlived the picture"


def test_a_threshold_of_zero_skips_nothing(make_generator: Any, draw: Any, ask: Any) -> None:
    request = ask("flux", seed=1, num_inference_steps=3)
    [plain] = draw(make_generator("flux"), [request])
    [cached] = draw(make_generator("flux", cache="first_block", cache_options={"threshold": 0.0}), [request])
    assert np.array_equal(np.asarray(plain.image), np.asarray(cached.image))


def test_compiled_blocks_draw_the_same_picture(make_generator: Any, draw: Any, ask: Any) -> None:
    """With the backend `eager`, which needs no compiler of the machine."""
    request = ask("sd", seed=1, num_inference_steps=2)
    [plain] = draw(make_generator("sd"), [request])
    compiled = make_generator("sd", compile="blocks", compile_options={"backend": "eager"})
    [drawn] = draw(compiled, [request])
    blocks = [part for part in compiled._call.pipeline.unet.modules() if part._compiled_call_impl is not None]
    assert {type(block).__name__ for block in blocks} == {"BasicTransformerBlock"}
    assert np.abs(np.asarray(plain.image, dtype=int) - np.asarray(drawn.image, dtype=int)).max() <= 1


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        (
            "sd",
            {"cache": "first_block"},
            "cache='first_block' does not apply: StableDiffusionPipeline has a UNet2DCond",
        ),
        ("sd3", {"compile": "blocks"}, "without repeated blocks; use compile='whole'"),
        (
            "flux",
            {"cache": "first_block", "cache_options": {"x": 1}},
            "has 'x', which the cache 'first_block' does not",
        ),
        ("cascade", {"vae_tiling": True}, "vae_tiling does not apply: StableCascadeCombinedPipeline has no VAE"),
    ],
)
def test_an_option_that_does_not_apply_is_refused(
    make_generator: Any, ask: Any, family: str, options: dict[str, Any], words: str
) -> None:
    assert words in refusal(make_generator(family, **options), ask(family))


def test_a_vae_that_cannot_be_tiled_is_told() -> None:
    nano = NanoGenerator(DiffusersOptions(vae_tiling=True))
    (result,) = [event for event in draw(nano, [ImageRequest(prompt="a fox")]) if isinstance(event, ImageResult)]
    assert "vae_tiling does not apply" in str(result.error) and "AutoencoderTiny" in str(result.error)


def test_a_small_autoencoder_of_the_usual_form_is_tiled() -> None:
    small: dict[str, Any] = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    vae = AutoencoderTiny(**small, num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4)
    apply_speed(SimpleNamespace(components={"vae": vae}), DiffusersOptions(vae_tiling=True))
    assert vae.use_tiling


def test_unknown_values_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="cache: Input should be 'none', 'first_block' or 'taylorseer'"):
        DiffusersGenerator.from_name("sd1.5", cache="second_block")
    assert DiffusersOptions.parse({"max_batch_size": "4"}, generator="x").max_batch_size == 4
    assert DiffusersOptions.parse({"max_batch_size": "auto"}, generator="x").batch_limit is None


def test_as_many_pictures_are_drawn_at_once_as_fit(
    make_generator: Any, draw: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert largest_batch(ModelSize({"unet": 60}, 10), 100, 1.0) == 4
    assert largest_batch(ModelSize({"unet": 60}, 10), 100, 4.0) == 1
    assert largest_batch(ModelSize({"unet": 60}, 10), 50, 1.0) == 1
    generator = make_generator("sd", max_batch_size="auto")
    size = generator.memory_size()
    room = size.weight_bytes + 3 * size.working_bytes  # 16 pixels a side are a quarter of its own size
    monkeypatch.setattr(DeviceArbiter, "available_bytes", lambda self, device: room)
    batches: list[int] = []
    call = generator._worker._draw
    monkeypatch.setattr(
        generator._worker, "_draw", lambda plans, *rest: batches.append(len(plans)) or call(plans, *rest)
    )
    own = ask("sd", num_inference_steps=1).model_copy(update={"width": 64, "height": 64})
    draw(generator, [own.model_copy(update={"seed": seed}) for seed in range(5)])
    assert batches == [3, 2]
    assert generator.capabilities.max_batch_size is None
