"""What a result records as executed can be asked again, of every generator: the same bytes, and no new notice."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgem_agent.artifacts import PictureRecipe, encode_picture, read_recipe
from mgem_agent.tools import ImageGenerator, ImageRequest, ImageResult, draw
from mgem_agent.tools import make_generator as make_named
from mgem_agent.tools.diffusers.plan import Defaults

FAMILIES = ("cascade", "flux", "klein", "kontext", "pixart", "sana", "schnell", "sd", "sd3", "sdxl", "wuerstchen")
SERVERS = ("a1111", "comfyui", "openai")
ASKED: dict[str, Any] = {"seed": 7, "num_inference_steps": 2, "guidance_scale": 2.5, "negative_prompt": "rain"}
GIVEN = {
    "img-start": Image.linear_gradient("L").resize((80, 64)).convert("RGB"),
    "img-mask": Image.new("L", (80, 64), 255),
}


def picture_of(told: Any) -> bytes:
    """A picture of the size that a server was told, whose colour is the hash of the rest."""
    size = {"width": 64, "height": 64}

    def rest(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        size.update({name: value[name] for name in size if name in value})
        return {name: rest(each) for name, each in value.items() if name not in size}

    told = rest(told)
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).digest()
    buffer = io.BytesIO()
    Image.new("RGB", (size["width"], size["height"]), (digest[0], digest[1], digest[2])).save(buffer, format="PNG")
    return buffer.getvalue()


def answer_as_a1111(call: Any) -> Any:
    body = call.json if call.body else {}
    seed = 1234 if body.get("seed") == -1 else body.get("seed")
    used = {"steps": 20, "cfg_scale": 7.0, "denoising_strength": 0.75, "sampler_name": "Euler", **body, "seed": seed}
    picture = picture_of({name: value for name, value in used.items() if name != "override_settings"})
    info = {name: used[name] for name in ("seed", "steps", "cfg_scale", "sampler_name", "denoising_strength")}
    info |= {"sd_model_name": "sdxl"}
    return {"images": [base64.b64encode(picture).decode()], "info": json.dumps(info)}


def answer_as_openai(call: Any) -> Any:
    if call.body.startswith(b"{"):
        told = call.json
    else:  # a form, whose boundary is another each time
        parts = re.findall(rb'name="(prompt|size)"\r\n\r\n(.*?)\r\n', call.body)
        told = {name.decode(): value.decode() for name, value in parts}
    width, _, height = told.get("size", "64x64").partition("x")
    picture = picture_of({"prompt": told["prompt"], "width": int(width), "height": int(height)})
    return {"data": [{"b64_json": base64.b64encode(picture).decode()}]}


def answer_as_comfyui(reply: Any) -> Callable[[Any], Any]:
    drawn: list[Any] = []

    def answer(call: Any) -> Any:
        name = call.path.strip("/").split("/")[0]
        if name == "prompt":
            drawn.append(call.json["prompt"])
            return {"prompt_id": "1", "number": 1, "node_errors": {}}
        if name == "history":
            shown = {"filename": "mgem_1_.png", "subfolder": "", "type": "output"}
            return {"1": {"outputs": {"output": {"images": [shown]}}, "status": {"status_str": "success"}}}
        if name == "view":
            return picture_of(drawn[-1])
        return {"name": "start.png", "subfolder": "", "type": "input"} if name == "upload" else reply(404)

    return answer


@pytest.fixture(autouse=True)
def small_kontext(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests the million pixels that Kontext scales every picture to."""
    from diffusers.pipelines.flux import pipeline_flux_kontext

    monkeypatch.setattr(pipeline_flux_kontext, "PREFERRED_KONTEXT_RESOLUTIONS", [(64, 32), (32, 64)])


@pytest.fixture
def make_any(make_generator: Any, server: Any, reply: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a generator of a kind: ours, a tiny pipeline, or a client of a server that answers here."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    def make(kind: str) -> ImageGenerator:
        if kind in FAMILIES:
            made: ImageGenerator = make_generator(kind)
        elif kind == "a1111":
            server.answer = answer_as_a1111
            made = make_named(f"a1111:{server.url}", poll_s=0.01)
        elif kind == "comfyui":
            server.answer = answer_as_comfyui(reply)
            made = make_named(f"comfyui:{server.url}", checkpoint="sdxl.safetensors")
        elif kind == "openai":
            server.answer = answer_as_openai
            made = make_named("openai:toy", base_url=server.url + "/v1", api_key="sk-1")
        else:
            made = make_named(kind)
        return made

    return make


def draw_one(generator: ImageGenerator, request: ImageRequest) -> ImageResult:
    with warnings.catch_warnings(action="ignore"):
        [result] = [event for event in draw(generator, [request], pictures=GIVEN) if isinstance(event, ImageResult)]
    assert result.error is None and result.image is not None, result.error
    return result


def requests_for(generator: ImageGenerator, ask: Any, family: str) -> Iterator[ImageRequest]:
    """One request of each task that the generator has, and one that asks for all that can be asked."""
    able = generator.capabilities
    small = ask(family).options if family in FAMILIES else {}
    size = {"width": 128, "height": 128} if family in ("cascade", "wuerstchen") else {"width": 40, "height": 56}
    yield ImageRequest(prompt="a red fox", num_inference_steps=2, options=small, **size)
    yield ImageRequest(prompt="a red fox", options=small, **ASKED, **size)
    for task in sorted(able.tasks - {"text_to_image"}):
        mask = "img-mask" if task == "inpaint" else None
        started: dict[str, Any] = {"task": task, "image": "img-start", "mask": mask, "num_inference_steps": 2}
        # A model that edits draws in its own size of a million pixels where none is asked for.
        yield ImageRequest(prompt="a fox", options=small, **started, **(size if task == "edit" else {}))


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow if kind in ("cascade", "flux", "klein", "kontext") else ())
        for kind in ("flat", "nano", *SERVERS, *FAMILIES)
    ],
)
def test_what_was_executed_can_be_asked_again(make_any: Any, ask: Any, kind: str, tmp_path: Path) -> None:
    generator = make_any(kind)
    for request in requests_for(generator, ask, kind):
        first = draw_one(generator, request)
        file = tmp_path / "picture.png"
        file.write_bytes(encode_picture(first.image, PictureRecipe.of(first)))
        recipe = read_recipe(file)
        assert recipe is not None
        again = draw_one(generator, recipe.request)
        assert again.notices == (), request.task
        assert again.executed == first.executed
        assert encode_picture(again.image, PictureRecipe.of(again)) == file.read_bytes()


def test_a_models_own_options_can_be_asked_for(make_generator: Any) -> None:
    generator = make_generator("sd", fresh=True)
    generator._defaults = Defaults(options={"cross_attention_kwargs": {}})
    assert "cross_attention_kwargs" in generator.capabilities.options


@pytest.mark.parametrize("asked", [1.0 / 3000, 1e-9, 1 / 49, 0.07, 1.0])
def test_every_strength_is_drawn_in_at_least_one_step(make_generator: Any, ask: Any, asked: float) -> None:
    request = ask("sd", task="image_to_image", image="img-start", strength=asked, width=None, height=None)
    result = draw_one(make_generator("sd"), request)
    steps, strength = result.executed.num_inference_steps, result.executed.strength
    assert steps is not None and strength is not None
    assert steps <= 1000 and int(steps * strength) >= 1
    told = [notice.message for notice in result.notices if notice.argument == "strength"]
    assert told == ([f"{asked:g} has no effect; the minimum, 0.001, was used."] if asked < 0.001 else [])
