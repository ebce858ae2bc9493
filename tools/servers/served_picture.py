"""A picture from a server: its pixels, and the metadata about how it was drawn.

The web UI of AUTOMATIC1111, its descendants and stable-diffusion.cpp write a chunk `parameters` into a PNG: the prompt,
the negative prompt, and a line of settings. These are the values that were used, even if others were requested.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from mgem_agent.errors import GeneratorOutputError
from mgem_agent.redaction import redacted_start
from mgem_agent.tools.servers.wire_pictures import decode_picture

__all__ = ["ServedPicture", "read_parameters", "read_picture", "read_picture_text"]

SHOWN_CHARS = 60
MAX_PARAMETERS_CHARS = 100_000
MAX_CHECKED_PIXELS = 16 * 2**20
SETTING = re.compile(r'\s*(?P<name>\w[\w \-/]+):\s*(?P<value>"(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
MIN_SETTINGS = 3


@dataclass(frozen=True, slots=True)
class ServedPicture:
    """A picture and its metadata.

    Attributes:
        image: The picture, RGB.
        parameters: The settings in its file, by the web UI's names, such as `Seed`; empty if there are none.
        is_transparent: Whether parts are transparent; these are white in `image`.
    """

    image: Image.Image
    parameters: Mapping[str, str] = field(default_factory=dict)
    is_transparent: bool = False


def read_picture(data: bytes, *, source: str) -> ServedPicture:
    """Read a picture that a server sent.

    Args:
        data: The bytes of an encoded picture.
        source: The sender, as the start of a sentence.

    Raises:
        GeneratorOutputError: If it is not a picture, incomplete, or too large.
    """
    image = decode_picture(data, source=source)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            text = opened.info.get("parameters")
            is_transparent = _is_transparent(opened)
    except (OSError, ValueError, SyntaxError):  # the pixels are readable, but not the metadata
        return ServedPicture(image)
    return ServedPicture(image, read_parameters(text) if isinstance(text, str) else {}, is_transparent)


def read_picture_text(text: Any, *, source: str) -> ServedPicture:
    """Read a picture that a server sent as base64 or as a data URL; otherwise like `read_picture`."""
    if not isinstance(text, str):
        raise GeneratorOutputError(
            f"{source} sent a {type(text).__name__!r} instead of a picture in base64.", retryable=True
        )
    payload = text.partition(",")[2] if text[:5].lower() == "data:" else text
    try:
        data = base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise GeneratorOutputError(
            f"{source} sent {redacted_start(text, SHOWN_CHARS)!r} instead of a picture in base64.", retryable=True
        ) from error
    return read_picture(data, source=source)


def read_parameters(text: str) -> dict[str, str]:
    r"""Read the line of settings of a `parameters` chunk; empty if there is none.

    Examples:
        >>> read_parameters("a fox, red\nNegative prompt: blur\nSteps: 20, Sampler: Euler a, Seed: 7")["Seed"]
        '7'
    """
    line = text[-MAX_PARAMETERS_CHARS:].strip().rpartition("\n")[2]
    found = {match["name"].strip(): match["value"].strip().strip('"') for match in SETTING.finditer(line)}
    return found if len(found) >= MIN_SETTINGS and "Steps" in found else {}


def _is_transparent(picture: Image.Image) -> bool:
    """Whether a picture has transparent pixels; a very large picture counts as opaque."""
    if picture.width * picture.height > MAX_CHECKED_PIXELS or not picture.has_transparency_data:
        return False
    lowest, _ = picture.convert("RGBA").getchannel("A").getextrema()
    return isinstance(lowest, (int, float)) and lowest < 255
