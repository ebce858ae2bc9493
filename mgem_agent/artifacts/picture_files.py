"""The files of a store of pictures: in a folder, or at an address such as `s3://bucket/prefix`.

Each picture is a PNG and a sidecar, `ab/img-ab….png` and `ab/img-ab….json`, in both. So a folder can be copied to a
bucket and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["PictureFiles", "copy_name"]

T = TypeVar("T")


class PictureFiles(Protocol):
    """The files of a store. Pictures are named by their ids.

    Attributes:
        place: The folder or address, for messages.
        root: The folder; of an address, the folder of the local copies.
    """

    place: str
    root: Path

    def find(self, digits: str) -> Sequence[str]:
        """Return the stored ids that begin with some digits, sorted; only the id with exactly these, if it exists."""
        ...

    def path(self, name: str) -> Path:
        """Return the PNG of a stored picture, as a file of this machine."""
        ...

    def sidecar(self, name: str) -> bytes:
        """Return the sidecar of a stored picture.

        Raises:
            ImageError: If the sidecar or the picture is missing or cannot be read.
        """
        ...

    def has_sidecar(self, name: str) -> bool:
        """Return whether a picture has a sidecar."""
        ...

    def changed(self, name: str) -> float:
        """Return the time of the PNG in seconds since 1970; 0 if it is missing."""
        ...

    def locate(self, digest: str, num_digits: int) -> tuple[str, bool]:
        """Return the shortest id for a hash that no other picture has, and whether the picture is stored under it.

        Args:
            digest: SHA-256 of the PNG.
            num_digits: Minimum number of digits.
        """
        ...

    def add(self, artifact: Artifact, sidecar: bytes, png: bytes) -> bool:
        """Store a picture: first the sidecar, then the PNG, so that a visible picture is complete.

        Args:
            artifact: The record, with an id from `locate`.
            sidecar: The record as JSON.
            png: The picture.

        Returns:
            False if another process has stored a picture under this id meanwhile; then call `locate` again.

        Raises:
            StorageError: If it cannot be written.
        """
        ...

    def replace_sidecar(self, artifact: Artifact, sidecar: bytes) -> None:
        """Replace the sidecar of a stored picture, atomically; errors as for `add`."""
        ...

    def newest(self, limit: int | None = None) -> Sequence[str]:
        """Return the ids of all pictures, or of the given number, newest first."""
        ...

    def drawn_for(self, calls: Mapping[str, ImageRequest]) -> Sequence[str]:
        """Return the ids of pictures that may have been drawn for some calls, by their keys, or for equal requests."""
        ...

    def revision(self) -> object:
        """Return a value that differs if pictures were added or deleted in between."""
        ...

    def check(self) -> None:
        """Check that an address can be used; a folder is created when it is needed.

        Raises:
            StorageError: If the storage cannot be reached, or the bucket does not exist.
        """
        ...

    def is_complete(self, name: str) -> bool:
        """Return whether a PNG begins and ends as it should."""
        ...

    def each(self, read: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
        """Yield the results of a function for some ids, in order. An address is read by several threads at once."""
        ...


def copy_name(name: str, suffix: str = ".png") -> str:
    """Return the relative path of a picture's file: `ab/img-ab….png`.

    Args:
        name: Id of the picture.
        suffix: Ending of the file.
    """
    return f"{name[4:6]}/{name}{suffix}"
