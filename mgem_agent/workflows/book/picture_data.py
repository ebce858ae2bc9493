"""Pictures for a page: scaled, as data URIs; and the hue of a cover, from which a book takes its colours.

A small picture, such as one of 128 px, is shown in a frame at twice its size, not stretched to the column. It is
enlarged here, because the filter of browsers makes it soft.
"""

from __future__ import annotations

import base64
import colorsys
import io
import math

from PIL import Image

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.workflows.book.book import BookPicture

__all__ = ["SMALL_PX", "hue_of", "page_picture"]

SMALL_PX = 384
"""A picture whose longer side is below this is small."""
SMALL_SHOWN_PX = (192, 288)
"""CSS pixels of the longer side of a small picture, at least and at most."""
MAX_PX = 1280
"""Pixels of the longer side that a page carries at most."""
DENSITY = 2
"""Pixels of the screen for one of CSS, on phones and good screens."""
DEFAULT_HUE = 28


class PagePicture:
    """A picture in a page.

    Args:
        uri: Its bytes, as a data URI.
        width: CSS pixels.
        height: CSS pixels.
        is_small: Whether it is shown in a frame.
    """

    def __init__(self, uri: str, width: int, height: int, *, is_small: bool) -> None:
        self.uri = uri
        self.width = width
        self.height = height
        self.is_small = is_small


def page_picture(picture: BookPicture) -> PagePicture:
    """Return a picture for a page.

    Raises:
        ImageError: If its file is damaged.
    """
    image = load_image(picture.path)
    longer = max(image.size)
    if longer < SMALL_PX:
        shown = min(max(2 * longer, SMALL_SHOWN_PX[0]), SMALL_SHOWN_PX[1])
        width, height = _scaled(image.size, shown / longer)
        image = image.resize((DENSITY * width, DENSITY * height), Image.Resampling.LANCZOS)
        return PagePicture(_data_uri(image, quality=92), width, height, is_small=True)
    image.thumbnail((MAX_PX, MAX_PX), Image.Resampling.LANCZOS)
    return PagePicture(_data_uri(image, quality=86), *image.size, is_small=False)


def hue_of(picture: BookPicture | None) -> int:
    """Return the dominant hue of a picture in degrees: the circular mean of all pixels, weighted by saturation."""
    if picture is None:
        return DEFAULT_HUE
    image = load_image(picture.path).resize((24, 24), Image.Resampling.BOX)
    x = y = 0.0
    pixels = image.tobytes()
    for start in range(0, len(pixels), 3):
        hue, saturation, value = colorsys.rgb_to_hsv(*(level / 255 for level in pixels[start : start + 3]))
        x += math.cos(2 * math.pi * hue) * saturation * value
        y += math.sin(2 * math.pi * hue) * saturation * value
    return DEFAULT_HUE if math.hypot(x, y) < 1 else round(math.degrees(math.atan2(y, x))) % 360


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    width, height = (max(1, round(side * factor)) for side in size)
    return width, height


def _data_uri(image: Image.Image, *, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
