"""Compare a redrawn picture with the earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import ImageChops

from mgem_agent.core_model.image_loading import load_image

__all__ = ["SAME_PICTURE", "compare_picture"]

SAME_PICTURE = "the same picture, byte for byte"
"""The verdict if the files are equal."""


def compare_picture(data: bytes, path: Path) -> str:
    """Return a verdict that compares the new bytes of a picture with its old file.

    Args:
        data: The new file.
        path: The old one.

    Raises:
        ImageError: If one of them is not a picture.
    """
    if data == path.read_bytes():
        return SAME_PICTURE
    new, old = load_image(data), load_image(path)
    if new.size != old.size:
        return f"another picture: {new.width}×{new.height} pixels instead of {old.width}×{old.height}"
    extrema: Any = ImageChops.difference(new, old).getextrema()  # (lowest, highest) of each of three bands
    most = max(high for _, high in extrema)
    return "the same pixels in another file" if most == 0 else f"another picture: pixels differ by up to {most} of 255"
