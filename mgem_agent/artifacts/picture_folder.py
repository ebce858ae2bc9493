"""The files of a store in a folder of this machine. They are replaced atomically, and no lock is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.atomic_file import sweep_left_over, write_atomically
from mgem_agent.artifacts.picture_file import is_complete_png
from mgem_agent.artifacts.picture_index import PictureIndex, scanned
from mgem_agent.core_model.encoded_picture import file_hash, read_file
from mgem_agent.errors import ImageError
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["PictureFolder"]

T = TypeVar("T")

_FOLDER = re.compile(r"[0-9a-f]{2}")


class PictureFolder:
    """The files of a store in a folder; the methods are those of `PictureFiles`.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = str(root)
        self._index = PictureIndex(root)
        self._swept: set[Path] = set()

    def find(self, digits: str) -> Sequence[str]:
        """Return the stored ids that begin with some digits, sorted; only the id with exactly these, if it exists."""
        exact = self._place(digits)
        if exact.is_file():
            return [exact.stem]
        return sorted(path.stem for path in exact.parent.glob(f"img-{digits}*.png") if path.is_file())

    def path(self, name: str) -> Path:
        """Return the PNG of a picture."""
        return self._place(name.removeprefix("img-"))

    def sidecar(self, name: str) -> bytes:
        """Return the sidecar of a stored picture.

        Raises:
            ImageError: If the sidecar or the picture is missing or cannot be read.
        """
        place = self.path(name)
        data = read_file(place.with_suffix(".json"))
        if not place.is_file():
            raise ImageError(f"There is no file {str(place)!r}. It was deleted.")
        return data

    def has_sidecar(self, name: str) -> bool:
        """Return whether a picture has a sidecar."""
        return self.path(name).with_suffix(".json").is_file()

    def changed(self, name: str) -> float:
        """Return the time of the PNG in seconds since 1970; 0 if it is missing."""
        try:
            return self.path(name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def locate(self, digest: str, num_digits: int) -> tuple[str, bool]:
        """Return the shortest id for a hash that no other picture has, and whether the picture is stored under it."""
        folder = self._place(digest).parent
        if folder not in self._swept:  # only this folder: looking at all of them takes longer in a large store
            self._swept.add(folder)
            sweep_left_over(folder)
        for num in range(num_digits, len(digest), 4):
            place = self._place(digest[:num])
            held = file_hash(place) if place.is_file() else ""
            # A file whose hash does not begin with its id is damaged, and is written again.
            if held == digest or not held.startswith(digest[:num]):
                return place.stem, held == digest
        return f"img-{digest}", False

    def add(self, artifact: Artifact, sidecar: bytes, png: bytes) -> bool:
        """Store a picture: first the sidecar, then the PNG, so that a visible picture is complete.

        Raises:
            StorageError: If it cannot be written.
        """
        place = self.path(artifact.id)
        # The next write syncs the folder for both files.
        write_atomically(place.with_suffix(".json"), sidecar, is_last=False)
        write_atomically(place, png)
        return True

    def replace_sidecar(self, artifact: Artifact, sidecar: bytes) -> None:
        """Replace the sidecar of a stored picture, atomically; errors as for `add`."""
        write_atomically(self.path(artifact.id).with_suffix(".json"), sidecar)

    def newest(self, limit: int | None = None) -> Sequence[str]:
        """Return the ids of all pictures, or of the given number, newest first."""
        return self._index.newest(limit)

    def drawn_for(self, calls: Mapping[str, ImageRequest]) -> Sequence[str]:
        """Return the ids of pictures whose sidecar names a call or has the seed of a request.

        In a small folder, every record is read; in a large one, those that have changed since the last time.
        """
        seeds = {request.seed for request in calls.values() if request.seed is not None}
        return self._index.drawn_for(calls, seeds)

    def revision(self) -> object:
        """Return a value that differs if pictures were added or deleted in between; no picture is read."""
        return frozenset(
            (folder.name, folder.stat().st_mtime_ns)
            for folder in scanned(self.root)
            if _FOLDER.fullmatch(folder.name) and folder.is_dir()
        )

    def check(self) -> None:
        """Do nothing: the folder is created when it is needed."""

    def is_complete(self, name: str) -> bool:
        """Return whether a PNG begins and ends as it should."""
        return is_complete_png(self.path(name))

    def each(self, read: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
        """Yield the results of a function for some ids, one after the other."""
        return map(read, names)

    def _place(self, digits: str) -> Path:
        return self.root / digits[:2] / f"img-{digits}.png"
