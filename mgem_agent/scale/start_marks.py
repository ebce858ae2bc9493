"""How often the work on an item was started without an end: a file for each, in a folder that all workers see.

Ray gives the work of a lost worker to another one, for ever if need be. An item that ends each worker which runs it,
for instance because it needs too much memory, must not do so: its worker counts the starts, and gives it up.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.scale.batch_row import BatchItem

__all__ = ["StartMarks"]


class StartMarks:
    """The marks of a batch.

    Args:
        folder: Their folder; created with the first mark.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def num_starts(self, item: BatchItem) -> int:
        """Return how often the item was started without an end."""
        try:
            return len(self._path(item).read_bytes())
        except FileNotFoundError:
            return 0

    def start(self, item: BatchItem) -> None:
        """Count a start.

        Raises:
            ToolError: If the mark cannot be written.
        """
        write_atomically(self._path(item), b"x" * (self.num_starts(item) + 1))

    def end(self, item: BatchItem) -> None:
        """Forget the starts of an item."""
        self._path(item).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all starts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, item: BatchItem) -> Path:
        return self._folder / hashlib.sha256(item.key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
