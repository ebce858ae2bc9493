"""Tests of large camera pictures: they are decoded in less memory where Pillow takes too much."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mgem_agent.core_model import decoding_limits, lean_decoding
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.core_model.lean_decoding import avif_bytes, count_levels, webp_bytes
from mgem_agent.errors import ImageError

COLOURS = Image.merge("RGB", [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.new("L", (256, 256), 90)])


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def limit(monkeypatch: pytest.MonkeyPatch, bytes_per_pixel: float) -> None:
    monkeypatch.setattr(decoding_limits, "MAX_DECODED_BYTES", int(256 * 256 * bytes_per_pixel))


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_that_is_too_large_for_pillow_is_the_same_picture(
    lossless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(COLOURS, "WEBP", lossless=lossless)
    plain = load_image(data)
    limit(monkeypatch, 13)
    assert np.array_equal(np.asarray(load_image(data)), np.asarray(plain))
    assert load_image(data).mode == "RGB"


def test_its_transparency_and_its_turn_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clear = COLOURS.crop((0, 0, 256, 100))
    clear.putalpha(Image.linear_gradient("L").resize((256, 100)))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(clear, "WEBP", lossless=True, exif=exif)
    plain = load_image(data)
    assert plain.size == (100, 256)
    monkeypatch.setattr(decoding_limits, "MAX_DECODED_BYTES", 256 * 100 * 17)
    assert np.array_equal(np.asarray(load_image(data)), np.asarray(plain))


def test_without_torchvision_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_decoding, "find_spec", lambda package: None)
    limit(monkeypatch, 13)
    with pytest.raises(ImageError, match="bytes of memory to decode"):
        load_image(encoded(COLOURS, "WEBP"))


def test_a_damaged_one_is_said_to_be_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(COLOURS, "WEBP")
    limit(monkeypatch, 13)
    with pytest.raises(ImageError, match=r"cut off or damaged"):
        load_image(data[: len(data) // 2])


def test_lossless_is_read_from_the_header() -> None:
    sizes = [webp_bytes(io.BytesIO(encoded(COLOURS, "WEBP", lossless=kind)), lean=False) for kind in (False, True)]
    assert sizes == [12, 16]


@pytest.mark.parametrize(
    ("subsampling", "bands", "expected"), [("4:2:0", 3, 5.25), ("4:4:4", 3, 7.5), ("4:0:0", 3, 4.5), ("4:2:0", 4, 7.75)]
)
def test_an_avif_takes_what_its_header_says(subsampling: str, bands: int, expected: float) -> None:
    image = COLOURS if bands == 3 else COLOURS.convert("RGBA")
    data = encoded(image, "AVIF", subsampling=subsampling, speed=10)
    assert avif_bytes(io.BytesIO(data), num_bands=bands) == expected
    assert avif_bytes(io.BytesIO(b""), num_bands=3) == 12  # the most that any takes


def test_a_jpeg_2000_is_decoded_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(COLOURS, "JPEG2000")
    assert count_levels(io.BytesIO(data)) == 5
    assert count_levels(io.BytesIO(b"")) == 0
    assert load_image(data).size == (256, 256)
    limit(monkeypatch, 12)
    half = load_image(data)
    assert half.size == (128, 128)
    difference = np.abs(np.asarray(half, dtype=int) - np.asarray(COLOURS.resize((128, 128)), dtype=int))
    assert difference.mean() < 8
    limit(monkeypatch, 4)
    assert load_image(data).size == (64, 64)
