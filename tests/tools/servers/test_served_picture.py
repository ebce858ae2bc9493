from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from mgem_agent.errors import GeneratorOutputError
from mgem_agent.tools.servers.served_picture import read_parameters, read_picture, read_picture_text
from mgem_agent.tools.servers.wire_pictures import png_base64, png_bytes

PARAMETERS = """a fox: red, "quick"
in snow
Negative prompt: blurry, Steps: 9
Steps: 20, CFG scale: 7.000000, Guidance: 3.5, Seed: 482231814, Size: 512x512, Model: "a, b.gguf", RNG: cuda, \
Sampler: euler_a karras, Version: stable-diffusion.cpp"""


def test_there_and_back() -> None:
    image = Image.radial_gradient("L").convert("RGB")
    assert read_picture_text(png_base64(image), source="S").image.tobytes() == image.tobytes()
    assert read_picture_text("data:image/png;base64," + png_base64(image), source="S").image.size == image.size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "sent a 'NoneType' instead of a picture in base64"),
        ("<html>", "sent '<html>' instead of a picture in base64"),
        (base64.b64encode(b"hello").decode(), "not a picture of a known format"),
    ],
)
def test_what_is_no_picture(text: Any, message: str) -> None:
    with pytest.raises(GeneratorOutputError, match=message):
        read_picture_text(text, source="The server")


def test_what_a_file_says_of_its_making() -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", PARAMETERS)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG", pnginfo=chunks)
    found = read_picture(buffer.getvalue(), source="S").parameters
    assert (found["Seed"], found["Steps"], found["Model"]) == ("482231814", "20", "a, b.gguf")
    assert (found["Sampler"], found["Version"]) == ("euler_a karras", "stable-diffusion.cpp")


@pytest.mark.parametrize("text", ["", "a fox", "a, b: c", "x\nSteps: 3", "Seed: 1, Size: 2, Model: 3"])
def test_a_text_without_settings(text: str) -> None:
    assert read_parameters(text) == {}


def test_transparency_is_noticed_where_it_is_used() -> None:
    opaque, holed = Image.new("RGBA", (4, 4), "red"), Image.new("RGBA", (4, 4), (255, 0, 0, 7))
    assert not read_picture(png_bytes(opaque), source="S").is_transparent
    assert read_picture(png_bytes(holed), source="S").is_transparent
