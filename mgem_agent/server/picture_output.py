"""Encode pictures in the format that a client asks for.

A PNG is the stored file, with the data to draw it again. Other formats are encoded for each response and not stored.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from mgem_agent.core_model.encoded_picture import read_file
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import UnsupportedRequestError

__all__ = ["PictureFormat", "PictureType"]

PictureType = Literal["png", "jpeg", "webp"]

DEFAULT_QUALITY = 100


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """Format of the pictures in a response.

    Attributes:
        type: Type of the file.
        quality: Quality from 0 to 100, for JPEG and WebP; None for 100.

    Raises:
        UnsupportedRequestError: If a quality is given for PNG.
    """

    type: PictureType = "png"
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.type == "png" and self.quality not in (None, DEFAULT_QUALITY):
            raise UnsupportedRequestError(
                f"output_compression={self.quality} does not apply to PNG, which loses nothing. Leave it out, or set "
                "output_format to 'jpeg' or 'webp'.",
                arguments=("output_compression",),
            )

    def of_file(self, path: Path) -> str:
        """Return a stored picture as base64.

        Args:
            path: Its PNG file.
        """
        if self.type == "png":
            return base64.b64encode(read_file(path)).decode("ascii")
        return self.of_image(load_image(path))

    def of_image(self, image: Image.Image) -> str:
        """Return a picture as base64.

        Args:
            image: The picture, RGB.
        """
        buffer = io.BytesIO()
        if self.type == "png":
            image.save(buffer, format="PNG")
        else:
            quality = DEFAULT_QUALITY if self.quality is None else self.quality
            image.save(buffer, format=self.type.upper(), quality=max(quality, 1))
        return base64.b64encode(buffer.getvalue()).decode("ascii")
