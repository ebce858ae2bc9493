"""Copies on this machine of pictures that are stored elsewhere.

A picture never changes under its id, and its id is the beginning of its hash. So a copy is valid for good, and is
checked by its hash before it is used. The copies that were not used for longest are removed when they take too much
space.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.artifacts.picture_files import copy_name
from mgem_agent.artifacts.picture_index import scanned
from mgem_agent.core_model.encoded_picture import file_hash
from mgem_agent.errors import ImageError

__all__ = ["MAX_COPIES_BYTES", "PictureCopies"]

MAX_COPIES_BYTES = 4 * 2**30
"""Bytes of the copies of one store; the oldest are removed above that."""

KEPT_S = 3600.0
"""A copy that was used within this time is kept, because its file may be open or about to be opened."""


class PictureCopies:
    """Copies of pictures.

    Args:
        root: Their folder.
        max_bytes: Bytes that they may take.
    """

    def __init__(self, root: Path, *, max_bytes: int = MAX_COPIES_BYTES) -> None:
        self.root = root
        self._max_bytes = max_bytes
        self._num_bytes: int | None = None
        self._lock = threading.Lock()

    def path(self, name: str) -> Path:
        """Return the path of a picture's copy, which need not exist."""
        return self.root / copy_name(name)

    def get(self, name: str) -> Path | None:
        """Return the copy of a picture; None if there is none, or it is damaged."""
        path = self.path(name)
        try:
            if not file_hash(path).startswith(name.removeprefix("img-")):
                return None
            os.utime(path)
        except (ImageError, OSError):
            return None
        return path

    def put(self, name: str, data: bytes) -> Path:
        """Write the copy of a picture, and return its path.

        Raises:
            StorageError: If it cannot be written.
        """
        path = self.path(name)
        write_atomically(path, data)
        with self._lock:
            if self._num_bytes is None:
                self._num_bytes = sum(size for _, size, _ in self._files())
            else:
                self._num_bytes += len(data)
            if self._num_bytes > self._max_bytes:
                self._num_bytes = self._pruned()
        return path

    def _pruned(self) -> int:
        """Remove the oldest copies until a tenth is free, and return the bytes that are left."""
        files = sorted(self._files())
        left = sum(size for _, size, _ in files)
        for used, size, path in files:
            if left <= 0.9 * self._max_bytes or time.time() - used < KEPT_S:
                break
            Path(path).unlink(missing_ok=True)
            left -= size
        return left

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Yield each copy: when it was used, its size and its path."""
        for folder in scanned(self.root):
            for entry in scanned(folder.path):
                try:
                    found = entry.stat()
                except FileNotFoundError:
                    continue
                yield found.st_mtime, found.st_size, entry.path
