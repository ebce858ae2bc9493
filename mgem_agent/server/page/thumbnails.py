"""Pictures in the size that a page shows, as WebP; the newest are kept in memory.

A small picture, such as one of 128 px, is enlarged here, because browsers enlarge by a quick filter that makes it soft.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore

__all__ = ["SIZES", "Thumbnails", "shown_size"]

SIZES = (384, 1024)
"""Pixels of the longer side: in a grid, and alone."""
SMALL_PX = 384
SMALL_SHOWN_PX = 288
MAX_BYTES = 64_000_000
QUALITY = 86


class Thumbnails:
    """Makes and keeps thumbnails.

    Args:
        max_bytes: Bytes that are kept at most.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._kept: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
        self._num_bytes = 0
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def get(self, store: ArtifactStore, picture_id: str, size_px: int) -> bytes:
        """Return a picture as WebP.

        Args:
            store: The user's store.
            picture_id: The picture.
            size_px: One of `SIZES`.

        Raises:
            InputError: If there is no such picture.
            ImageError: If its file is damaged.
        """
        store.path(picture_id)  # a picture that was deleted is not shown from memory
        key = (str(store.root), picture_id, size_px)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        data = _encode(store.open(picture_id), size_px)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = data
                self._num_bytes += len(data)
            while self._num_bytes > self._max_bytes and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._num_bytes -= len(dropped)
        return data


def shown_size(width: int, height: int) -> tuple[int, int]:
    """Return the CSS size of a picture: a small one is shown larger than it is.

    Examples:
        >>> shown_size(128, 128), shown_size(2048, 1024)
        ((288, 288), (1024, 512))
    """
    longer = max(width, height)
    if longer < SMALL_PX:
        factor = min(max(SMALL_SHOWN_PX / longer, 1.0), 4.0)
    else:
        factor = min(1.0, SIZES[-1] / longer)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _encode(image: Image.Image, size_px: int) -> bytes:
    longer = max(image.size)
    if longer < SMALL_PX:
        width, height = shown_size(*image.size)
        image = image.resize((2 * width, 2 * height), Image.Resampling.LANCZOS)  # two pixels for one of CSS
    image.thumbnail(
        (size_px, size_px) if longer >= SMALL_PX else (2 * SMALL_PX, 2 * SMALL_PX), Image.Resampling.LANCZOS
    )
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()
