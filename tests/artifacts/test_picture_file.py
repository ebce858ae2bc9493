from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from mgem_agent.artifacts import PictureRecipe, encode_picture, read_recipe
from mgem_agent.artifacts.picture_file import is_complete_png, parameters_text
from mgem_agent.artifacts.shareable import shareable_name
from mgem_agent.errors import ImageError
from mgem_agent.tools import ImageRequest

FOX = PictureRecipe(
    request=ImageRequest(
        prompt="a red fox, 狐",
        negative_prompt="blurry",
        width=64,
        height=48,
        seed=7,
        num_inference_steps=20,
        guidance_scale=6.5,
        options={"sampler_name": "Euler a"},
    ),
    generator="a1111:http://127.0.0.1:7860",
    model="sd_xl, base",
)


def save(folder: Path, data: bytes) -> Path:
    path = folder / "picture.png"
    path.write_bytes(data)
    return path


def test_the_same_picture_gives_the_same_bytes() -> None:
    image = Image.radial_gradient("L").convert("RGB")
    carrying = image.copy()
    carrying.info["dpi"] = (300, 300)
    carrying.info["icc_profile"] = b"x"
    assert encode_picture(image, FOX) == encode_picture(carrying, FOX)
    assert encode_picture(image, FOX) != encode_picture(image)
    assert Image.open(io.BytesIO(encode_picture(image, FOX))).tobytes() == image.tobytes()


def test_it_says_how_it_was_made(tmp_path: Path) -> None:
    path = save(tmp_path, encode_picture(Image.new("RGB", (64, 48)), FOX))
    assert read_recipe(path) == FOX.model_copy(update={"generator": "a1111"})
    with Image.open(path) as image:
        assert image.info["parameters"] == parameters_text(FOX)
        assert "versions" not in json.loads(image.info["mgem"])


def test_other_programs_can_read_it() -> None:
    assert parameters_text(FOX) == (
        "a red fox, 狐\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 6.5, Seed: 7, Size: 64x48, "
        'Model: "sd_xl, base", Version: mgem-agent'
    )


def test_a_model_and_its_hash_are_apart() -> None:
    request = ImageRequest(prompt="x", seed=1, options={"sampler_name": "DPM++ 2M", "scheduler": "Karras"})
    recipe = PictureRecipe(request=request, generator="g", model="sd_xl_base_1.0 [31e35c80fc]")
    assert parameters_text(recipe) == (
        "x\nNegative prompt: \nSteps: 0, Sampler: DPM++ 2M, Schedule type: Karras, Seed: 1, Model hash: 31e35c80fc, "
        "Model: sd_xl_base_1.0, Version: mgem-agent"
    )


def test_what_is_unknown_is_left_out_but_what_readers_need() -> None:
    bare = PictureRecipe(request=ImageRequest(prompt="x"), generator="g", model="")
    assert parameters_text(bare) == "x\nNegative prompt: \nSteps: 0, Sampler: default, Seed: -1, Version: mgem-agent"


def chunks_of(data: bytes) -> dict[bytes, bytes]:
    """Kind of each text chunk, by its keyword."""
    found, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind in (b"tEXt", b"iTXt", b"zTXt"):
            found[data[at + 8 : at + 8 + length].partition(b"\0")[0]] = kind
        at += length + 12
    return found


@pytest.mark.parametrize(("prompt", "kind"), [("ein süßer Fuchs", b"tEXt"), ("狐", b"iTXt")])
def test_the_plainer_chunk_where_latin_1_will_do(prompt: str, kind: bytes) -> None:
    recipe = FOX.model_copy(update={"request": ImageRequest(prompt=prompt)})
    data = encode_picture(Image.new("RGB", (4, 4)), recipe)
    assert chunks_of(data) == {b"parameters": kind, b"mgem": b"tEXt"}


def test_a_picture_says_nothing_of_where_it_was_drawn(tmp_path: Path) -> None:
    request = ImageRequest(
        prompt="a fox at http://example.org",
        options={"lora": "/home/ann/loras/fox.safetensors", "more": [{"vae": "C:\\models\\v.pt"}], "n": 3, "s": "a/b"},
    )
    recipe = PictureRecipe(
        request=request, generator="comfyui:http://ann:pw@10.0.0.7:8188#/home/ann/flow.json", model="/home/ann/m.ckpt"
    )
    data = encode_picture(Image.new("RGB", (4, 4)), recipe)
    assert not any(word in data for word in (b"home", b"ann", b"10.0.0.7", b"pw", b"models"))
    read = read_recipe(save(tmp_path, data))
    assert read is not None
    assert (read.generator, read.model, read.request.prompt) == ("comfyui:#flow.json", "m.ckpt", request.prompt)
    assert read.request.options == {"lora": "fox.safetensors", "more": [{"vae": "v.pt"}], "n": 3, "s": "a/b"}


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("nano", "nano"),
        ("a1111:http://127.0.0.1:7860", "a1111"),
        ("openai:@cf/flux@https://h/v1", "openai:@cf/flux"),
        ("diffusers:stabilityai/sdxl-turbo", "diffusers:stabilityai/sdxl-turbo"),
        ("diffusers:./weights/mine", "diffusers:mine"),
        ("diffusers:~/mine/", "diffusers:mine"),
        ("openai:accounts/fireworks/models/flux", "openai:accounts/fireworks/models/flux"),
    ],
)
def test_a_generator_without_its_place(name: str, shared: str) -> None:
    assert shareable_name(name) == shared


def test_files_of_others_have_no_recipe(tmp_path: Path) -> None:
    assert read_recipe(save(tmp_path, encode_picture(Image.new("RGB", (4, 4))))) is None
    assert read_recipe(save(tmp_path, b"hello")) is None
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    assert read_recipe(tmp_path / "a.jpg") is None


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        ("{", "cannot read the recipe in the file .*as a whole: Invalid JSON"),
        (
            '{"format": 9, "request": {"prompt": "x"}, "generator": "g", "model": "m"}',
            r"cannot read the recipe in the file .*format: .*Update",
        ),
        (
            '{"request": {"prompt": ""}, "generator": "g", "model": "m"}',
            "cannot read the recipe in the file .*request.prompt: ",
        ),
    ],
)
def test_a_chunk_that_is_damaged_or_newer(tmp_path: Path, chunk: str, message: str) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("mgem", chunk)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(ImageError, match=message):
        read_recipe(tmp_path / "a.png")


def test_a_chunk_that_is_a_bomb(tmp_path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("mgem", "x" * 3_000_000, zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(ImageError, match="is a damaged PNG"):
        read_recipe(tmp_path / "a.png")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^There is no file '.*no\.png'"):
        read_recipe(tmp_path / "no.png")


def test_whole_files(tmp_path: Path) -> None:
    data = encode_picture(Image.new("RGB", (4, 4)))
    assert is_complete_png(save(tmp_path, data))
    for wrong in (b"", b"x", data[:-1], data[1:], data[: len(data) // 2]):
        assert not is_complete_png(save(tmp_path, wrong))
    assert not is_complete_png(tmp_path / "no.png")
