from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mgem_agent.errors import UnsupportedRequestError


def paint(left: tuple[int, int, int], right: tuple[int, int, int], size: tuple[int, int] = (64, 32)) -> Image.Image:
    """Two colours, side by side."""
    picture = Image.new("RGB", size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture


PICTURES = {
    "sunset": paint((240, 120, 20), (20, 20, 90)),
    "forest": paint((20, 120, 20), (90, 60, 10)),
    "right half": paint((0, 0, 0), (255, 255, 255)),
    "nothing": Image.new("L", (64, 32)),
    "square": paint((240, 120, 20), (20, 20, 90), (64, 64)),
    "tall": paint((20, 120, 20), (90, 60, 10), (64, 96)),
    "wide": paint((240, 120, 20), (20, 20, 90), (600, 300)),
}


def difference(first: Any, second: Any) -> int:
    return int(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max())


@pytest.mark.parametrize("family", ["flux", "sd", "sd3", "sdxl"])
def test_image_to_image_starts_from_the_picture_and_holds_no_weight_twice(
    make_generator: Any, draw: Any, ask: Any, family: str
) -> None:
    generator = make_generator(family)
    request = ask(
        family, task="image_to_image", image="sunset", strength=0.5, num_inference_steps=4, width=None, height=None
    )
    other = request.model_copy(update={"image": "forest"})
    together = draw(generator, [request, other], PICTURES)
    (alone,) = draw(generator, [request], PICTURES)
    assert [result.error for result in together] == [None, None]
    assert together[0].image.size == (64, 32)
    assert together[0].executed.strength == 0.5
    assert difference(together[0].image, alone.image) <= 1
    assert difference(together[0].image, together[1].image) > 1
    if family == "sdxl":
        call = generator._call
        first, second = call.pipeline, call._pipelines[call.traits.classes["image_to_image"]]
        assert first is not second
        assert first.unet is second.unet
        assert first.vae is second.vae


@pytest.mark.parametrize("family", ["flux", "sd", "sd3", "sdxl"])
def test_inpaint_redraws_what_the_mask_covers(make_generator: Any, draw: Any, ask: Any, family: str) -> None:
    generator = make_generator(family)
    request = ask(
        family, task="inpaint", image="sunset", mask="right half", num_inference_steps=3, width=None, height=None
    )
    fox, boat, fox_nowhere, boat_nowhere = results = draw(
        generator,
        [
            request.model_copy(update={"prompt": prompt, "mask": mask, "num_inference_steps": steps})
            for mask in ("right half", "nothing")
            for prompt, steps in (("a fox", 3), ("seven boats", 5))
        ],
        PICTURES,
    )
    assert [result.error for result in results] == [None] * 4
    assert fox.image.size == (64, 32)
    assert difference(fox.image, boat.image) > 1
    assert difference(fox_nowhere.image, boat_nowhere.image) <= 1


def test_a_large_picture_is_drawn_no_larger_than_the_model_was_made_for(
    make_generator: Any, draw: Any, ask: Any
) -> None:
    request = ask(task="image_to_image", image="wide", width=None, height=None)
    own, asked = draw(
        make_generator("sdxl"), [request, request.model_copy(update={"width": 48, "height": 64})], PICTURES
    )
    assert own.image.size == (88, 48)  # 64 * 64 pixels is what the tiny model was made for
    assert asked.image.size == (48, 64)


def test_a_strength_that_leaves_no_step_gets_one_and_says_so(make_generator: Any, draw: Any, ask: Any) -> None:
    request = ask(task="image_to_image", image="sunset", strength=0.25, num_inference_steps=1)
    (result,) = draw(make_generator("sdxl"), [request], PICTURES)
    assert result.executed.num_inference_steps == 4
    assert [notice.message for notice in result.notices] == ["1 step(s) at strength 0.25 round to zero; 4 were used."]


@pytest.fixture
def small_kontext(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Kontext look at pictures of few pixels instead of a million."""
    from diffusers.pipelines.flux import pipeline_flux_kontext

    monkeypatch.setattr(pipeline_flux_kontext, "PREFERRED_KONTEXT_RESOLUTIONS", [(64, 32), (32, 64)])


@pytest.mark.usefixtures("small_kontext")
def test_kontext_edits_pictures_also_in_a_batch(make_generator: Any, draw: Any, ask: Any) -> None:
    generator = make_generator("kontext")
    requests = [ask("kontext", task="edit", image=name, prompt="make it night") for name in ("sunset", "forest")]
    together = draw(generator, requests, PICTURES)
    (alone,) = draw(generator, requests[:1], PICTURES)
    assert [result.error for result in together] == [None, None]
    assert [result.image.size for result in together] == [(32, 32)] * 2
    assert difference(together[0].image, alone.image) <= 1
    assert together[0].image.tobytes() != together[1].image.tobytes()


@pytest.mark.usefixtures("small_kontext")
def test_kontext_draws_with_a_reference_and_takes_no_second(make_generator: Any, draw: Any, ask: Any) -> None:
    plain, like, many = draw(
        make_generator("kontext"),
        [
            ask("kontext"),
            ask("kontext", references=("forest",)),
            ask("kontext", task="edit", image="sunset", references=("forest",)),
        ],
        PICTURES,
    )
    assert like.error is None
    assert like.image.tobytes() != plain.image.tobytes()
    assert isinstance(many.error, UnsupportedRequestError)
    assert "task='edit' takes 1 picture(s), the one to edit included; 2 were given." in str(many.error)


def test_flux2_edits_and_takes_several_references(make_generator: Any, draw: Any, ask: Any) -> None:
    plain, edited, like, both = draw(
        make_generator("klein"),
        [
            ask("klein"),
            ask("klein", task="edit", image="tall", width=None, height=None),
            ask("klein", references=("square",)),
            ask("klein", references=("square", "tall")),
        ],
        PICTURES,
    )
    assert [result.error for result in (plain, edited, like, both)] == [None] * 4
    assert edited.image.size == (64, 96)
    assert len({result.image.tobytes() for result in (plain, like, both)}) == 3


@pytest.fixture(scope="module")
def ip_adapter(tiny_pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random IP-Adapter weights for the tiny Stable Diffusion."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_pretrained(tiny_pipeline("sd"), subfolder="unet")
    weights, number = {}, 1
    for name in unet.attn_processors:
        if name.endswith("attn1.processor"):
            continue
        width = len(unet.get_submodule(name.removesuffix("processor") + "to_k").weight)
        weights[f"{number}.to_k_ip.weight"] = torch.randn(width, 16) / 4
        weights[f"{number}.to_v_ip.weight"] = torch.randn(width, 16) / 4
        number += 2
    image_proj = {
        "proj.weight": torch.randn(4 * 16, 16), "proj.bias": torch.zeros(4 * 16),
        "norm.weight": torch.ones(16), "norm.bias": torch.zeros(16),
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("ip_adapter")
    torch.save({"image_proj": image_proj, "ip_adapter": weights}, folder / "ip-adapter.bin")
    return folder


def test_references_reach_the_picture_through_an_ip_adapter(
    make_generator: Any, draw: Any, ask: Any, ip_adapter: Path
) -> None:
    generator = make_generator("sd", ip_adapter=str(ip_adapter), ip_adapter_weight_name="ip-adapter.bin")
    assert generator.capabilities.max_references == 4
    bare, sunset, forest, weak, two = together = draw(
        generator,
        [
            ask("sd"),
            ask("sd", references=("sunset",)),
            ask("sd", references=("forest",)),
            ask("sd", references=("forest",), options={"ip_adapter_scale": 0.0}),
            ask("sd", references=("sunset", "forest")),
        ],
        PICTURES,
    )
    assert [result.error for result in together] == [None] * 5
    assert sunset.executed.options["ip_adapter_scale"] == 0.6
    assert len({result.image.tobytes() for result in (bare, sunset, forest, two)}) == 4
    assert difference(weak.image, bare.image) <= 1
    # Without references it draws as if there were no adapter, and a batch is as good as one.
    (without,) = draw(make_generator("sd"), [ask("sd")])
    assert difference(without.image, bare.image) <= 1
    start = ask("sd", task="image_to_image", image="sunset", strength=0.9)
    started, started_like = draw(generator, [start, start.model_copy(update={"references": ("forest",)})], PICTURES)
    assert started.error is started_like.error is None
    assert difference(started.image, started_like.image) > 1
    same = [ask("sd", references=("forest",), seed=seed) for seed in (7, 8)]
    alone, other = draw(generator, same, PICTURES)
    assert difference(alone.image, forest.image) <= 1
    assert difference(alone.image, other.image) > 1
    generator.unload()
