"""Tests of reading one picture from anything."""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mgem_agent.core_model.image_loading import MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE_PX, load_image
from mgem_agent.errors import ImageError

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def noise(height: int = 5, width: int = 7, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> Any:
    assert image.mode == "RGB"
    return image.getpixel((x, y))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG of 8-bit RGB whose header says what one likes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_every_source_gives_the_same_picture(tmp_path: Path) -> None:
    array = noise()
    image = Image.fromarray(array)
    data = encode(image)
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    tensor = torch.from_numpy(array)
    sources = [
        image, path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), url, "DATA:" + url[5:],
        url[:60] + "\n  " + url[60:], "data:," + "".join(f"%{byte:02x}" for byte in data),
        array, array.transpose(2, 0, 1), tensor, tensor.permute(2, 0, 1), tensor.permute(2, 0, 1).double() / 255,
        array / 255, (array / 255).astype(np.float32), array.astype(np.uint16) * 257,
    ]  # fmt: skip
    with path.open("rb") as file:
        sources.append(file)
        for source in sources:
            loaded = load_image(source)
            assert loaded.mode == "RGB"
            assert np.array_equal(np.asarray(loaded), array)


def test_the_source_is_left_as_it_was() -> None:
    image = Image.new("RGB", (2, 2), RED)
    load_image(image).putpixel((0, 0), (0, 0, 0))
    assert image.getpixel((0, 0)) == RED


def test_half_precision_tensors_are_read() -> None:
    tensor = torch.tensor([0.0, 0.25, 1.0]).reshape(3, 1, 1)
    for dtype in (torch.bfloat16, torch.float16):
        assert pixel(load_image(tensor.to(dtype))) == (0, 64, 255)


def test_both_orders_fit_a_small_picture() -> None:
    array = np.zeros((3, 4, 3), np.uint8)
    array[0] = 255
    assert load_image(array).size == (4, 3)  # an array is (h, w, c)
    assert load_image(torch.from_numpy(array)).size == (3, 4)  # a tensor is (c, h, w)
    assert pixel(load_image(torch.from_numpy(array))) == RED
    assert load_image(torch.zeros(3, 9)).size == (9, 3)  # two dimensions are never channels


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((2, 2), 100, np.uint8), (100, 100, 100)),
        (np.full((2, 2, 1), 100, np.uint8), (100, 100, 100)),
        (np.full((1, 2, 9), 100, np.uint8), (100, 100, 100)),
        (np.full((2, 2), 65535, np.uint16), WHITE),
        (np.full((2, 2), True), WHITE),
        (np.full((2, 2), 1.0005), WHITE),
        (np.full((9, 9, 2), (0, 0), np.uint8), WHITE),
        (np.full((9, 9, 4), (255, 0, 0, 0), np.uint8), WHITE),
        (np.full((9, 9, 4), (255, 0, 0, 255), np.uint8), RED),
    ],
)
def test_arrays_of_every_kind(array: np.ndarray[Any, Any], expected: tuple[int, int, int]) -> None:
    assert pixel(load_image(array)) == expected


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3, 4, 3), np.uint8), "the shape (2, 3, 4, 3); a picture has (h, w), (h, w, c) or (c, h, w)"),
        (np.zeros((9, 9, 5), np.uint8), "the shape (9, 9, 5)"),
        (np.zeros((0, 4, 3), np.uint8), "the shape (0, 4, 3)"),
        (np.zeros(4, np.uint8), "the shape (4,)"),
        (np.zeros((9, 9, 3), np.int64), "has the type 'int64'; allowed: bool, uint8, uint16, or float in [0, 1]"),
        (np.zeros((9, 9, 3), object), "has the type 'object'"),
        (np.full((9, 9), np.nan), "floats from nan to nan; they must lie in [0, 1]"),
        (np.full((9, 9), 255.0), "divide by 255"),
        (np.full((9, 9), -1.0), "floats from -1 to -1"),
        (np.zeros((1, MAX_IMAGE_SIDE_PX + 1), np.uint8), "is 30001×1 pixels; a side may have at most 30,000"),
    ],
)
def test_arrays_that_are_no_picture(array: np.ndarray[Any, Any], words: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(array)
    assert str(caught.value).startswith("The array given")
    assert words in str(caught.value)


def test_a_tensor_without_values_is_refused() -> None:
    with pytest.raises(
        ImageError, match=r"^The tensor given \(type 'torch.float32', device 'meta'\) has no values that can be read"
    ):
        load_image(torch.zeros(3, 2, 2, device="meta"))


def test_transparency_is_shown_on_white() -> None:
    half = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    assert pixel(load_image(half)) == (255, 127, 127)
    assert pixel(load_image(Image.new("LA", (2, 2), (0, 0)))) == WHITE
    assert pixel(load_image(Image.new("La", (2, 2), (0, 0)))) == WHITE
    assert pixel(load_image(Image.new("RGBa", (2, 2), (0, 0, 0, 0)))) == WHITE

    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    loaded = load_image(encode(palette, "PNG", transparency=0))
    assert (pixel(loaded), pixel(loaded, 1)) == (WHITE, (0, 0, 255))
    assert pixel(load_image(palette)) == RED

    keyed = Image.new("RGB", (2, 1), RED)
    keyed.putpixel((1, 0), (0, 0, 255))
    loaded = load_image(encode(keyed, "PNG", transparency=RED))
    assert (pixel(loaded), pixel(loaded, 1)) == (WHITE, (0, 0, 255))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_white_lettering_on_a_transparent_ground_is_shown_on_black(mode: str) -> None:
    picture = Image.new("RGBA", (40, 20), (255, 255, 255, 0))
    picture.paste((255, 255, 255, 255), (10, 5, 20, 15))
    loaded = load_image(encode(picture.convert(mode)))
    assert (pixel(loaded), pixel(loaded, 12, 8), loaded.info) == ((0, 0, 0), WHITE, {"ground": "black"})
    picture.paste((0, 0, 0, 255), (10, 5, 12, 15))  # with an outline it can be seen on white
    loaded = load_image(encode(picture.convert(mode)))
    assert (pixel(loaded), pixel(loaded, 12, 8), loaded.info) == (WHITE, WHITE, {})


def test_a_white_page_with_clear_corners_stays_white() -> None:
    picture = Image.new("RGBA", (40, 20), "white")
    picture.paste((0, 0, 0, 0), (0, 0, 2, 2))
    assert pixel(load_image(picture)) == WHITE


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (4, 2), "white")
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    loaded = load_image(encode(image, "PNG", exif=exif))
    assert loaded.size == (2, 4)
    assert pixel(loaded, 1, 0) == RED
    with Image.open(io.BytesIO(encode(image, "PNG", exif=exif))) as opened:
        assert load_image(opened).size == (2, 4)


@pytest.mark.parametrize("exif", [b"Exif\0\0not a TIFF", b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12\0\x03\0\0"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_neither_loses_the_picture_nor_warns(format: str, exif: bytes) -> None:
    data = encode(Image.new("RGB", (8, 8), "white"), format, exif=exif)
    assert pixel(load_image(data)) == WHITE  # a warning is an error in tests


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(noise()), "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        assert np.array_equal(np.asarray(load_image(data)), np.asarray(ImageOps.exif_transpose(opened)))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_sixteen_bits_are_scaled_not_clipped(mode: str) -> None:
    values = np.array([[0, 257 * 10, 257 * 200, 65535]])
    dtype = {"I;16": "<u2", "I;16B": ">u2", "I;16L": "<u2", "I": "<i4"}[mode]
    image = Image.frombytes(mode, (4, 1), values.astype(dtype).tobytes())
    assert [pixel(load_image(image), x)[0] for x in range(4)] == [0, 10, 200, 255]


def test_sixteen_bit_files() -> None:
    image = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    for format in ("PNG", "TIFF"):
        loaded = load_image(encode(image, format))
        assert [pixel(loaded, x)[0] for x in range(3)] == [0, 100, 255]


def test_wide_integers_and_floats() -> None:
    assert pixel(load_image(Image.fromarray(np.full((1, 1), 100, np.int32)))) == (100, 100, 100)
    assert pixel(load_image(Image.fromarray(np.full((1, 1), 0.5, np.float32)))) == (128, 128, 128)
    assert pixel(load_image(Image.fromarray(np.full((1, 1), 100, np.float32)))) == (100, 100, 100)
    for values in (np.full((1, 1), 70000, np.int32), np.full((1, 1), -1, np.int32)):
        with pytest.raises(
            ImageError, match=r"mode 'I' and values from .* allowed: in \[0, 65535\]. Scale it to 8 bits"
        ):
            load_image(Image.fromarray(values))
    for value in (np.nan, 256.0, -0.1):
        with pytest.raises(ImageError, match=r"mode 'F' and values from .* allowed: in \[0, 1\] or \[0, 255\]"):
            load_image(Image.fromarray(np.full((1, 1), value, np.float32)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_other_modes(mode: str) -> None:
    image = Image.new("RGB", (2, 2), "white").convert("RGBA" if mode == "RGBX" else mode)
    if mode == "RGBX":
        image = Image.frombytes("RGBX", (2, 2), b"\xff" * 16)
    assert pixel(load_image(image)) == WHITE


def test_cmyk_jpeg() -> None:
    loaded = load_image(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    assert all(abs(got - wanted) <= 3 for got, wanted in zip(pixel(loaded), RED, strict=True))


def test_a_mode_without_a_conversion_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:  # as releases of PIL before 13 do
        raise ValueError("conversion from LAB to RGB not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(ImageError, match=r"^The PIL image given has the mode 'LAB', .* Save it as RGB or grey\.$"):
        load_image(Image.new("LAB", (2, 2)))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert pixel(load_image(data)) == RED


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_formats(format: str) -> None:
    assert load_image(encode(Image.new("RGB", (16, 9), RED), format)).size == (16, 9)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_truncated_files(format: str) -> None:
    data = encode(Image.fromarray(noise(64, 64)), format)
    with pytest.raises(ImageError, match=r"^The data given \([\d,]+ bytes\) (is cut off or damaged|is not a picture)"):
        load_image(data[: len(data) // 2])


def test_files_that_are_no_picture(tmp_path: Path) -> None:
    empty, text, eps = tmp_path / "empty.png", tmp_path / "notes.txt", tmp_path / "drawing.eps"
    empty.touch()
    text.write_text("hello")
    eps.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(ImageError) as caught:
        load_image(empty)
    assert str(caught.value) == f"{str(empty)!r} is empty. Give a file that holds a picture."
    for path in (text, eps):
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert str(caught.value) == (
            f"{str(path)!r} is not a picture of a known format. Allowed: PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, "
            f"JPEG 2000, AVIF. Convert it to PNG."
        )
    with pytest.raises(ImageError, match=r"is a folder, not a picture. Give the path of one file in it\.$"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match=r"^'/dev/null' is not a regular file. Give the path of a picture\.$"):
        load_image("/dev/null")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(png(1, 1))

    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(
        ImageError,
        match=r"locked.png' cannot be read: permission denied. Change its permissions, or give another file\.$",
    ):
        load_image(path)


@pytest.mark.parametrize("name", ["no such.png", "bad\nname\x1b[31m.png", "nul\0l.png", "x" * 5000, "", "iVBORw0KGgo="])
def test_names_of_no_file(name: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(name)
    message = str(caught.value)
    assert message.startswith(f"There is no file {name!r:.80}")
    assert message.endswith(
        ", and it is not a data URL ('data:image/png;base64,…'). Check the path and the current folder."
    )
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize(
    "url", ["http://example.com/a.png", "HTTPS://example.com/a.png", "file:///etc/passwd", "s3://b/c"]
)
def test_nothing_is_fetched(url: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(url)
    assert str(caught.value) == (
        f"{url!r} is a URL, and URLs are not downloaded here. Download the picture and give its path."
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "data:image/png;base64",
            "The data URL has no comma. Its form is 'data:image/png;base64,' followed by the data.",
        ),
        ("data:image/png;base64,a!b", "The data after 'base64,' is not valid base64."),
        ("data:image/png;base64,iVBORw0", "The data after 'base64,' is not valid base64."),
        ("data:image/png;base64,", "The data URL of 22 characters is empty. Give a file that holds a picture."),
        ("data:text/html,<p>", "The data URL of 18 characters is not a picture of a known format."),
    ],
)
def test_bad_data_urls(url: str, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(url)
    assert str(caught.value).startswith(words)


def test_other_objects_are_refused() -> None:
    for source in (None, 3, ["a.png"], object()):
        with pytest.raises(ImageError, match=r"cannot be read from a '\w+' object. Give a path, bytes, a data URL"):
            load_image(source)
    with pytest.raises(ImageError, match=r"^The open file gave 'str', not bytes. Open it in binary mode \('rb'\)\.$"):
        load_image(io.StringIO("text"))
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(ImageError, match="^The open file cannot be read"):
        load_image(closed)


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_from_the_header(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(image: Image.Image) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", decoded)
    assert size[0] * size[1] > MAX_IMAGE_PIXELS
    with pytest.raises(
        ImageError, match=r"larger than 89,478,485 pixels, and was not decoded. Scale it down first\.$|side"
    ):
        load_image(png(*size))


def test_the_limit_holds_without_that_of_pil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    data = png(10_000, 10_000)
    with pytest.raises(ImageError, match="larger than 89,478,485 pixels"):
        load_image(data)
    with Image.open(io.BytesIO(data)) as opened, pytest.raises(ImageError, match="^The PIL image given is larger than"):
        load_image(opened)


def test_a_header_that_promises_more_than_there_is() -> None:
    with pytest.raises(ImageError, match=r"^The data given \(\d+ bytes\) is cut off or damaged"):
        load_image(png(4000, 4000, b"\0" * 10))
    with pytest.raises(ImageError, match="a side may have at most 30,000"):
        load_image(png(70_000, 1))


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ImageError, match="^The PIL image given is empty: 0×3 pixels. Give a picture that has pixels"):
        load_image(Image.new("RGB", (0, 3)))


@pytest.mark.parametrize("make", [lambda data: data, io.BytesIO])
def test_bytes_are_never_shown(make: Callable[[bytes], Any]) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(make(b"secret" * 1000))
    assert "secret" not in str(caught.value)
    assert "6,000 bytes" in str(caught.value)
