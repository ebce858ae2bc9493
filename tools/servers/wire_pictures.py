"""Pictures as they travel: PNG bytes and base64 to a server, and whatever bytes come back to a picture.

What a server sends is decoded by the same careful reader as a person's file: bounded in size, no bombs, RGB.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

from PIL import Image

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import GeneratorOutputError, ImageError

__all__ = ["decode_picture", "decode_picture_text", "png_base64", "png_bytes"]

SHOWN_CHARS = 60


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
        source: Who sent it, as the start of a sentence.

    Returns:
        The picture, RGB.

    Raises:
        GeneratorOutputError: If it is no picture, half of one, or too large.
    """
    try:
        return load_image(data)
    except ImageError as error:
        raise GeneratorOutputError(f"{source} sent what is no picture: {error}", retryable=True) from error


def decode_picture_text(text: Any, *, source: str) -> Image.Image:
    """Read a picture that a server sent as base64, bare or as a data URL.

    Args:
        text: The base64 text.
        source: Who sent it, as the start of a sentence.

    Returns:
        The picture, RGB.

    Raises:
        GeneratorOutputError: If it is no base64 or no picture.
    """
    if not isinstance(text, str):
        raise GeneratorOutputError(
            f"{source} sent a {type(text).__name__!r} where a picture in base64 was due.", retryable=True
        )
    payload = text.partition(",")[2] if text[:5].lower() == "data:" else text
    try:
        data = base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise GeneratorOutputError(
            f"{source} sent {text[:SHOWN_CHARS]!r} where a picture in base64 was due.", retryable=True
        ) from error
    return decode_picture(data, source=source)
