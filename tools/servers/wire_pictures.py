"""Encode pictures as PNG and base64 for a server, and decode the pictures that it sends.

A server's picture is decoded like a user's file: limited in size, safe from decompression bombs, as RGB.
"""

from __future__ import annotations

import base64
import io

from PIL import Image

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import GeneratorOutputError, ImageError

__all__ = ["decode_picture", "mask_with_holes", "png_base64", "png_bytes"]


def png_bytes(image: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def png_base64(image: Image.Image) -> str:
    """Encode a picture as PNG in base64."""
    return base64.b64encode(png_bytes(image)).decode("ascii")


def decode_picture(data: bytes, *, source: str) -> Image.Image:
    """Read a picture that a server sent.

    Args:
        data: The bytes of an encoded picture.
        source: The sender, as the start of a sentence.

    Returns:
        The picture, RGB.

    Raises:
        GeneratorOutputError: If it is not a picture, incomplete, or too large.
    """
    try:
        return load_image(data)
    except ImageError as error:
        raise GeneratorOutputError(f"{source} sent an invalid picture: {error}", retryable=True) from error


def mask_with_holes(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return a mask that every server reads: the part to redraw is transparent (OpenAI) and white (other servers).

    Args:
        image: The picture; the mask gets its size.
        mask: A mask of any mode, white where the picture is redrawn.
    """
    white = mask.convert("L").resize(image.size, Image.Resampling.NEAREST)
    chosen = white.point([0] * 128 + [255] * 128)
    holed = Image.merge("RGB", (chosen, chosen, chosen))
    holed.putalpha(white.point([255] * 128 + [0] * 128))
    return holed
