"""Convert a PIL image of any mode to 8-bit RGB, with transparency on white (on black, if the picture itself is white).

A picture that is not RGB is converted in bands of rows, so that memory never holds a third copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from PIL import Image, ImageChops

from mgem_agent.core_model.encoded_picture import as_subject
from mgem_agent.errors import ImageError
from mgem_agent.extras import explain_missing

__all__ = ["to_rgb"]

BAND_PIXELS = 2**20
WHITE_LEVEL, LOST_SHARE, MIN_TRANSPARENT_SHARE = 240, 0.98, 0.25


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert a PIL image of any mode to 8-bit RGB; return an RGB image unchanged."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return in_bands(image, deep_grey(image, name))
    try:
        if not image.has_transparency_data and image.mode != "La":
            return in_bands(image, plain)
        if not is_lost_on_white(image):
            return in_bands(image, on_ground("white"))
        rgb = in_bands(image, on_ground("black"))
        rgb.info["ground"] = "black"
        return rgb
    except ValueError as error:
        raise ImageError(
            f"{as_subject(name)} has the mode {image.mode!r}, which cannot be converted to RGB. Save it as RGB or grey."
        ) from error


def in_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert an image band by band, so that only the result needs memory of the whole picture's size."""
    rgb = Image.new("RGB", image.size)
    for band, top in bands(image):
        rgb.paste(convert(band), (0, top))
    return rgb


def bands(image: Image.Image) -> Iterator[tuple[Image.Image, int]]:
    """Yield an image as bands of full width, each with its upper edge."""
    num_rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, num_rows):
        yield image.crop((0, top, image.width, min(top + num_rows, image.height))), top


def plain(band: Image.Image) -> Image.Image:
    return band.convert("RGB")


def on_ground(colour: str) -> Callable[[Image.Image], Image.Image]:
    """Return a function that composites a transparent band on a background of one colour."""

    def flatten(band: Image.Image) -> Image.Image:
        page = Image.new("RGBA", band.size, colour)
        page.alpha_composite(with_alpha(band))
        return page.convert("RGB")

    return flatten


def with_alpha(band: Image.Image) -> Image.Image:
    return (band.convert("LA") if band.mode == "La" else band).convert("RGBA")


def is_lost_on_white(image: Image.Image) -> bool:
    """Whether much of a picture is transparent, and nearly all of the rest is white."""
    visible = white = 0
    for band, _ in bands(image):
        red, green, blue, alpha = with_alpha(band).split()
        is_white = ImageChops.darker(ImageChops.darker(red, green), blue).point(_is_white)
        visible += _sum(alpha.histogram())
        white += _sum(alpha.histogram(is_white))
    share = visible / (255 * image.width * image.height)
    return 0 < share <= 1 - MIN_TRANSPARENT_SHARE and white >= LOST_SHARE * visible


def _is_white(value: int) -> int:
    return 255 if value >= WHITE_LEVEL else 0


def _sum(histogram: list[int]) -> int:
    return sum(value * count for value, count in enumerate(histogram))


def deep_grey(image: Image.Image, name: str) -> Callable[[Image.Image], Image.Image]:
    """Return a function that scales greys of 16 or 32 bits, or floats, to 8 bits.

    A file does not name its range: integers above 255 count as 16 bits, and floats above 1 as up to 255.
    """
    with explain_missing("A picture of 16 or 32 bits a channel"):
        import numpy as np

    ranges = [(float(values.min()), float(values.max())) for band, _ in bands(image) for values in [np.asarray(band)]]
    low, high = (float(limit([pair[place] for pair in ranges])) for place, limit in enumerate((np.min, np.max)))
    is_float = image.mode == "F"
    top = (1.0 if high <= 1 else 255.0) if is_float else (255.0 if image.mode == "I" and high <= 255 else 65535.0)
    if not (low >= 0 and high <= top):  # written so that NaN fails
        allowed = "in [0, 1] or [0, 255]" if is_float else "in [0, 65535]"
        raise ImageError(
            f"{as_subject(name)} has the mode {image.mode!r} and values from {low:g} to {high:g}; allowed: {allowed}. "
            f"Scale it to 8 bits."
        )

    def scale(band: Image.Image) -> Image.Image:
        values = np.rint(np.asarray(band).astype(np.float64) * (255 / top))
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")

    return scale
