"""Limits for decoding a picture, checked from its header: memory, scans and time.

- **Memory** is pixels times bytes per pixel, for the picture's mode, the decoder's own buffers and the RGB result.
- **Scans**: a JPEG may hold any number, and each covers all pixels. Scans times pixels are limited.
- **Time** is CPU time, so that a busy machine refuses nothing. It is checked whenever a decoder reads more data. The
  decoders of WebP, AVIF and JPEG 2000 read only once; the memory limit keeps them short.
"""

from __future__ import annotations

import io
import re
import time
from typing import IO, Any

from PIL import Image, ImageFile, JpegImagePlugin

from mgem_agent.core_model.lean_decoding import avif_bytes, can_decode_webp, count_levels, webp_bytes
from mgem_agent.errors import ImageError

__all__ = [
    "MAX_DECODE_S",
    "READ_AT_ONCE",
    "RGB_BYTES",
    "TimedBytes",
    "TimedFile",
    "check_cost",
    "check_memory",
    "needs_lean_decoder",
    "reduce_resolution",
]

MAX_DECODED_BYTES = 470_000_000
"""Most bytes of memory for decoding one picture: 50 million pixels of any usual format, and less than 500 MB in all."""

MAX_SCAN_PIXELS = 1_000_000_000
"""Most scans times pixels of a JPEG."""

MAX_DECODE_S = 5.0
"""Most CPU seconds for decoding one picture."""

READ_AT_ONCE = 4096
"""Most bytes that a decoder gets at once; the time is checked after each read."""

JPEG2000_BYTES = 16
"""Measured bytes per pixel of its decoder, besides the picture that it makes."""

RGB_BYTES = 4
MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes per pixel of Pillow's modes; every other one takes four."""

TILE_WIDTH, TILE_HEIGHT, BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, ROWS_PER_STRIP = 322, 323, 258, 277, 278
END_OF_IMAGE, START_OF_SCAN = 0xD9, 0xDA
MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
"""A JPEG marker between scans; 0 after 255 is data, and D0 to D7 only restart a decoder."""


class _Timed:
    """A stream that can only be read until its time is used up."""

    deadline = float("inf")

    def start_clock(self) -> None:
        """Start the clock; call it in the thread that reads."""
        self.deadline = time.thread_time() + MAX_DECODE_S

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self.deadline:
            raise TimeoutError
        data: bytes = super().read(size)  # type: ignore[misc]  # of the other base class
        return data


class TimedBytes(_Timed, io.BytesIO):
    """A timed stream of bytes."""


class TimedFile(_Timed, io.BufferedReader):
    """A timed stream of a file."""


def needs_lean_decoder(image: ImageFile.ImageFile, stream: IO[bytes]) -> bool:
    """Whether a WebP is too large for Pillow, and `decode_webp` can decode it in less memory."""
    if image.format != "WEBP":
        return False
    num_bytes = webp_bytes(stream, lean=False) * image.width * image.height + _result_bytes(image)
    return num_bytes > MAX_DECODED_BYTES and can_decode_webp(image)


def reduce_resolution(image: Any, stream: IO[bytes]) -> int:
    """Let a JPEG 2000 picture be decoded at a half or a quarter of its size if all of it takes too much memory.

    Returns:
        How many times its sides will be halved.
    """
    if image.format != "JPEG2000":
        return 0
    full = JPEG2000_BYTES * image.width * image.height + _result_bytes(image)
    halvings = next((n for n in range(count_levels(stream) + 1) if full >> 2 * n <= MAX_DECODED_BYTES), 0)
    image.reduce = halvings
    return halvings


def check_cost(
    image: ImageFile.ImageFile,
    stream: IO[bytes],
    name: str,
    *,
    is_turned: bool,
    is_lean: bool = False,
    halvings: int = 0,
) -> None:
    """Refuse a picture, before it is decoded, that would take too much memory or time.

    Args:
        image: Opened, not loaded.
        stream: The stream that it is read from; its position is restored.
        name: Its name, as the start of a sentence.
        is_turned: Whether it will be rotated.
        is_lean: Whether `decode_webp` decodes it.
        halvings: How many times its sides are halved as it is decoded.

    Raises:
        ImageError: If it is over a limit.
    """
    num_pixels = image.width * image.height
    turned = 2 * RGB_BYTES * num_pixels if is_turned else 0
    num_bytes = max(_buffer_bytes(image, stream, name, is_lean=is_lean) + _result_bytes(image), turned)
    check_memory(num_bytes >> 2 * halvings, image.size, name)


def _buffer_bytes(image: ImageFile.ImageFile, stream: IO[bytes], name: str, *, is_lean: bool) -> int:
    """Memory for a decoder's own buffers."""
    num_pixels = image.width * image.height
    if image.format == "WEBP":
        return webp_bytes(stream, lean=is_lean) * num_pixels
    if image.format == "AVIF":
        return int(avif_bytes(stream, num_bands=len(image.getbands())) * num_pixels)
    if image.format == "JPEG2000":
        return JPEG2000_BYTES * num_pixels
    if image.format == "TIFF":
        return _tiff_buffer_bytes(image)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        position = stream.tell()
        num_scans = count_scans(stream, most=MAX_SCAN_PIXELS // num_pixels)
        stream.seek(position)
        if num_scans * num_pixels > MAX_SCAN_PIXELS:
            raise ImageError(
                f"{name} is a JPEG of {num_scans} scans or more with {num_pixels:,} pixels each, and was not decoded. "
                f"Scans times pixels may be at most {MAX_SCAN_PIXELS:,}. Save it again, as a baseline JPEG."
            )
        if num_scans > 1:  # all coefficients are kept, two bytes each
            return 2 * len(image.getbands()) * num_pixels
    return 0


def _result_bytes(image: Image.Image) -> int:
    """Memory for the decoded picture, and for its conversion to RGB."""
    num_pixels = image.width * image.height
    made = 0 if _is_plain_rgb(image) else RGB_BYTES * num_pixels
    return MODE_BYTES.get(image.mode, 4) * num_pixels + made


def check_memory(num_bytes: int, size: tuple[int, int], name: str) -> None:
    """Refuse a picture that takes too much memory.

    Args:
        num_bytes: Memory that it takes.
        size: Its size in pixels.
        name: Its name, as the start of a sentence.

    Raises:
        ImageError: If it is more than `MAX_DECODED_BYTES`.
    """
    if num_bytes > MAX_DECODED_BYTES:
        raise ImageError(
            f"{name} is {size[0]}×{size[1]} pixels and would take {num_bytes:,} bytes of memory to decode; at most "
            f"{MAX_DECODED_BYTES:,} are allowed. It was not decoded. Scale it down, or save it as an 8-bit RGB PNG."
        )


def count_scans(stream: IO[bytes], *, most: int) -> int:
    """Count the scans of the first picture in a JPEG; segments and their content are skipped.

    Args:
        stream: The JPEG; it is read from its beginning.
        most: Counting stops above this number.
    """
    stream.seek(2)
    num_scans = 0
    while num_scans <= most:
        found = _next_marker(stream)
        if found is None or found == END_OF_IMAGE:
            break
        num_scans += found == START_OF_SCAN
        stream.seek(max(int.from_bytes(stream.read(2), "big") - 2, 0), io.SEEK_CUR)
    return num_scans


def _next_marker(stream: IO[bytes]) -> int | None:
    """The next marker, and the stream after it; None at the end."""
    while chunk := stream.read(READ_AT_ONCE):
        if found := MARKER.search(chunk):
            stream.seek(found.end() - len(chunk), io.SEEK_CUR)
            return found[1][0]
        if chunk.endswith(b"\xff") and len(chunk) > 1:
            stream.seek(-1, io.SEEK_CUR)
    return None


def _tiff_buffer_bytes(image: Any) -> int:
    """Memory for one tile or strip, which a file may make larger than its picture."""
    tags = image.tag_v2
    width = max(image.width, int(tags.get(TILE_WIDTH) or 0))
    height = int(tags.get(TILE_HEIGHT) or 0) or min(int(tags.get(ROWS_PER_STRIP) or image.height), image.height)
    bits = max(tags.get(BITS_PER_SAMPLE) or (8,))
    return width * height * int(tags.get(SAMPLES_PER_PIXEL) or 1) * -(-bits // 8)


def _is_plain_rgb(image: Image.Image) -> bool:
    return image.mode == "RGB" and not image.has_transparency_data
