"""The font of printed words, Pillow's default, by the height of its capital letters."""

from __future__ import annotations

import functools

from PIL import ImageFont

__all__ = ["font_for_capitals"]

_PROBE_SIZE = 200


@functools.cache
def _capital_share() -> float:
    """Height of a capital letter, as a fraction of the font's size."""
    left, top, right, bottom = ImageFont.load_default(_PROBE_SIZE).getbbox("H")
    return (bottom - top) / _PROBE_SIZE


@functools.lru_cache(maxsize=256)
def _font(tenths: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(tenths / 10)


def font_for_capitals(height_px: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font with capital letters of a height in pixels."""
    return _font(max(10, round(10 * height_px / _capital_share())))
