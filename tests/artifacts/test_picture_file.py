from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from mgem_agent.artifacts import PictureRecipe, encode_picture, read_recipe
from mgem_agent.artifacts.picture_file import is_whole_png, parameters_text
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
    assert read_recipe(path) == FOX
    with Image.open(path) as image:
        assert image.info["parameters"] == parameters_text(FOX)
        assert "versions" not in json.loads(image.info["mgem"])


def test_other_programs_can_read_it() -> None:
    assert parameters_text(FOX) == (
        "a red fox, 狐\nNegative prompt: blurry\nSteps: 20, CFG scale: 6.5, Seed: 7, Sampler: Euler a, Size: 64x48, "
        'Model: "sd_xl, base", Version: mgem-agent'
    )


def test_what_is_unknown_is_left_out() -> None:
    bare = PictureRecipe(request=ImageRequest(prompt="x"), generator="g", model="")
    assert parameters_text(bare) == "x\nVersion: mgem-agent"


def test_files_of_others_have_no_recipe(tmp_path: Path) -> None:
    assert read_recipe(save(tmp_path, encode_picture(Image.new("RGB", (4, 4))))) is None
    assert read_recipe(save(tmp_path, b"hello")) is None
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    assert read_recipe(tmp_path / "a.jpg") is None


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        ("{", "cannot read .as a whole: Invalid JSON"),
        ('{"format": 9, "request": {"prompt": "x"}, "generator": "g", "model": "m"}', r"cannot read .format: .*Update"),
        ('{"request": {"prompt": ""}, "generator": "g", "model": "m"}', "cannot read .request.prompt: "),
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
    assert is_whole_png(save(tmp_path, data))
    for wrong in (b"", b"x", data[:-1], data[1:], data[: len(data) // 2]):
        assert not is_whole_png(save(tmp_path, wrong))
    assert not is_whole_png(tmp_path / "no.png")
