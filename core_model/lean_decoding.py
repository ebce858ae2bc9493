"""Decode large camera pictures of three formats in less memory than Pillow takes, or tell what they take.

- **JPEG 2000** is decoded at a half or a quarter of its size if all of it would take too much memory.
- **WebP**: Pillow decodes every file as an animation, 16 bytes per pixel. A single picture that is too large for that
  is decoded by torchvision, where it is installed and still decodes WebP.
- **AVIF** takes more for more bits and finer colours, which its header tells.

Bytes per pixel are measured: the peak of a process less its size before, for pictures of 24 and 50 million pixels.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import IO, Any

from PIL import Image

__all__ = ["avif_bytes", "can_decode_webp", "count_levels", "decode_webp", "webp_bytes"]

HEADER_BYTES = 2**16
WEBP_BYTES, WEBP_LOSSLESS_BYTES = 12, 4
LEAN_WEBP_BYTES = 4
BAND_ROWS = 64

NUM_LEVELS_AT = 9
"""Where a JPEG 2000 file has its number of halvings, from the marker of its coding style."""


def count_levels(stream: IO[bytes]) -> int:
    """How many times the sides of a JPEG 2000 picture can be halved as it is decoded; 0 if its header does not say.

    Args:
        stream: The file; its position is restored.
    """
    data = _header(stream)
    start = data.find(b"\xff\x4f\xff\x51")
    style = data.find(b"\xff\x52", start) if start >= 0 else -1
    return data[style + NUM_LEVELS_AT] if 0 <= style < len(data) - NUM_LEVELS_AT else 0


def avif_bytes(stream: IO[bytes], *, num_bands: int) -> float:
    """Bytes per pixel that decoding an AVIF takes, besides the picture that it makes."""
    data = _header(stream)
    found = data.find(b"av1C")
    samples, depth = 3.0, 2
    if 0 <= found < len(data) - 7:
        flags = data[found + 6]  # tier, more than 8 bits, 12 bits, monochrome, colours halved across and down
        depth = 2 if flags & 0x40 else 1
        samples = 1 + (0 if flags & 0x10 else 2 / ((1 + (flags >> 3 & 1)) * (1 + (flags >> 2 & 1))))
    return 1.5 * depth * (samples + (num_bands == 4)) + num_bands


def webp_bytes(stream: IO[bytes], *, lean: bool) -> int:
    """Bytes per pixel that decoding a WebP takes, besides the picture that it makes.

    Args:
        stream: The file; its position is restored.
        lean: Whether :func:`decode_webp` decodes it.
    """
    lossless = WEBP_LOSSLESS_BYTES if b"VP8L" in _header(stream) else 0
    return (LEAN_WEBP_BYTES if lean else WEBP_BYTES) + lossless


def can_decode_webp(image: Any) -> bool:
    """Whether :func:`decode_webp` can decode a picture: torchvision does so, and it is no animation."""
    if image.format != "WEBP" or image.is_animated or find_spec("torchvision") is None:
        return False
    import torchvision.io

    return hasattr(torchvision.io, "decode_webp")  # which newer releases leave to another package


def decode_webp(stream: IO[bytes], mode: str) -> Image.Image:
    """Decode a WebP of one picture.

    Args:
        stream: The file, from its beginning.
        mode: `RGB` or `RGBA`.

    Raises:
        RuntimeError: If the file is damaged.
    """
    import torch
    from torchvision.io import ImageReadMode, decode_webp

    stream.seek(0)
    data = torch.frombuffer(bytearray(stream.read()), dtype=torch.uint8)
    pixels = decode_webp(data, ImageReadMode.RGB_ALPHA if mode == "RGBA" else ImageReadMode.RGB).permute(1, 2, 0)
    image = Image.new(mode, (pixels.shape[1], pixels.shape[0]))
    for top in range(0, image.height, BAND_ROWS):
        image.paste(Image.fromarray(pixels[top : top + BAND_ROWS].contiguous().numpy()), (0, top))
    return image


def _header(stream: IO[bytes]) -> bytes:
    position = stream.tell()
    stream.seek(0)
    data = stream.read(HEADER_BYTES)
    stream.seek(position)
    return data
