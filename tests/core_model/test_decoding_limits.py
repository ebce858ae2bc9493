"""Tests of what decoding a picture may cost: each bomb is refused from its header."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from mgem_agent.core_model import decoding_limits
from mgem_agent.core_model.decoding_limits import count_scans
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import ImageError


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where pixels are decoded."""

    def decoded(image: Image.Image) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)


def png(width: int, height: int, depth: int, kind: int) -> bytes:
    """A PNG whose header says what one likes, and which has hardly any pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def tiff(tags: dict[int, int]) -> bytes:
    """A TIFF of 16 by 16 bytes with some tags changed."""
    plain = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: 16, 279: 256} | tags
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(plain.items()))
    data = b"II*\0" + struct.pack("<IH", 8, len(plain)) + entries + struct.pack("<I", 0)
    return data.ljust(200, b"\0") + bytes(256)


def jpeg(size: tuple[int, int] = (64, 64), mode: str = "RGB", num_more: int = 0, **options: Any) -> bytes:
    """A JPEG whose last scan is repeated."""
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "JPEG", **options)
    data = stream.getvalue()
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * num_more + data[-2:]


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    "data",
    [
        png(9400, 9400, 16, 0),  # 16-bit greys
        png(9400, 9400, 8, 6),  # transparent
        tiff({256: 9400, 257: 9400, 258: 32, 339: 2}),
        tiff({322: 30_000, 323: 30_000, 324: 200, 325: 256}),  # one tile larger than the picture
    ],
)
def test_pixels_times_bytes_are_bounded(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"bytes of memory to decode; at most 470,000,000 are allowed\. It was not"):
        load_image(data)


@pytest.mark.usefixtures("undecoded")
def test_the_message_says_what_it_would_take() -> None:
    data = png(9400, 9400, 16, 0)
    with pytest.raises(ImageError) as caught:
        load_image(data)
    assert str(caught.value) == (
        f"The data given ({len(data)} bytes) is 9400×9400 pixels and would take 530,160,000 bytes of memory to decode; "
        "at most 470,000,000 are allowed. It was not decoded. Scale it down, or save it as an 8-bit RGB PNG."
    )


@pytest.mark.parametrize(("format", "options"), [("WEBP", {}), ("AVIF", {"speed": 10}), ("JPEG2000", {})])
def test_buffers_of_decoders_count(format: str, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, format, **options)
    assert load_image(stream.getvalue()).size == (64, 64)
    monkeypatch.setattr(decoding_limits, "MAX_DECODED_BYTES", 64 * 64 * 7)
    monkeypatch.setattr(decoding_limits, "count_levels", lambda stream: 0)
    with pytest.raises(ImageError, match="bytes of memory to decode"):
        load_image(stream.getvalue())


def test_coefficients_of_several_scans_and_a_turn_count(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    monkeypatch.setattr(decoding_limits, "MAX_DECODED_BYTES", 64 * 64 * 6)
    assert load_image(jpeg()).size == (64, 64)
    for data in (jpeg(progressive=True), jpeg(exif=exif)):
        with pytest.raises(ImageError, match="bytes of memory to decode"):
            load_image(data)


def test_a_turn_that_a_png_has_after_its_pixels_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "PNG", exif=exif)
    data = stream.getvalue()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    late = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    assert load_image(late).size == (64, 64)
    monkeypatch.setattr(decoding_limits, "MAX_DECODED_BYTES", 64 * 64 * 6)
    with pytest.raises(ImageError, match="bytes of memory to decode"):
        load_image(late)


@pytest.mark.usefixtures("undecoded")
def test_scans_times_pixels_are_bounded() -> None:
    with pytest.raises(
        ImageError,
        match=r" is a JPEG of \d+ scans or more with 4,000,000 pixels each, and was not decoded\. Scans times pixels "
        r"may be at most 1,000,000,000\. Save it again, as a baseline JPEG\.$",
    ):
        load_image(jpeg((2000, 2000), "L", num_more=300, progressive=True))


def test_scans_are_counted_in_the_picture_alone() -> None:
    assert count_scans(io.BytesIO(jpeg()), most=99) == 1
    num_scans = count_scans(io.BytesIO(jpeg(progressive=True)), most=99)
    assert num_scans == jpeg(progressive=True).count(b"\xff\xda") > 5
    assert count_scans(io.BytesIO(jpeg(progressive=True, num_more=50)), most=99) == num_scans + 50
    assert count_scans(io.BytesIO(jpeg(progressive=True, num_more=50)), most=20) == 21
    thumbnail = b"\xff\xda\0\2" * 100
    assert count_scans(io.BytesIO(jpeg(comment=thumbnail)), most=99) == 1
    assert count_scans(io.BytesIO(jpeg() + thumbnail), most=99) == 1


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8" + b"\xff" * 9000, b"\xff\xd8\xff\xe1\xff\xff"]
)
def test_counting_ends_on_damaged_data(data: bytes) -> None:
    assert count_scans(io.BytesIO(data), most=99) == 0


@pytest.mark.parametrize("format", ["JPEG", "PNG", "PPM"])
def test_time_is_bounded(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, format)
    assert load_image(stream.getvalue()).size == (300, 300)
    num_reads = 0

    def clock() -> float:  # a second for each read
        nonlocal num_reads
        num_reads += 1
        return float(num_reads)

    monkeypatch.setattr(decoding_limits, "MAX_DECODE_S", 12.0)
    monkeypatch.setattr(time, "thread_time", clock)
    with pytest.raises(ImageError, match=r"takes more than \d+ seconds to decode\. Convert it to PNG or JPEG\.$"):
        load_image(stream.getvalue())
    assert num_reads < 20
