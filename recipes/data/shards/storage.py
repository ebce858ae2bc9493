"""Files by path or by address: this machine's, and those of `s3://`, `hf://` and the other schemes of fsspec.

Paths of this machine are read without fsspec.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from mgem_agent.remote_files import explained, is_address, open_file_system
from mgem_agent.user_files import user_path

__all__ = ["Folder"]


class Folder:
    """A folder of files.

    Args:
        path: A path, or an address such as `s3://bucket/folder`.

    Raises:
        InputError: If the scheme of the address is unknown.
        MissingDependencyError: If the scheme needs a package that is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path).rstrip("/") if is_address(str(path)) else str(user_path(path))
        if self.is_remote:
            self._system()

    @property
    def is_remote(self) -> bool:
        """Whether it is an address."""
        return is_address(self.path)

    def exists(self, name: str) -> bool:
        """Return whether it has a file."""
        if not self.is_remote:
            return Path(self.path, name).is_file()
        with self._explained("read"):
            system, root = self._system()
            system.invalidate_cache(root)
            return bool(system.exists(f"{root}/{name}"))

    def names(self, suffix: str) -> list[str]:
        """Return the sorted names of its files that have a suffix."""
        with self._explained("read"):
            if not self.is_remote:
                return sorted(path.name for path in Path(self.path).iterdir() if path.name.endswith(suffix))
            system, root = self._system()
            system.invalidate_cache(root)
            names = (str(path).rsplit("/", 1)[-1] for path in system.ls(root, detail=False))
            return sorted(name for name in names if name.endswith(suffix))

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            StorageError: If it cannot be read.
        """
        with self._explained("read", name):
            if not self.is_remote:
                return Path(self.path, name).read_bytes()
            system, root = self._system()
            content: bytes = system.cat_file(f"{root}/{name}")
            return content

    def read_ranges(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return parts of files; those of an address are fetched at the same time.

        Args:
            ranges: For each part: the file, its first byte, and the byte after its last.

        Raises:
            StorageError: If one cannot be read.
        """
        if self.is_remote:
            with self._explained("read"):
                system, root = self._system()
                names, starts, ends = zip(*ranges, strict=True)
                parts: list[bytes] = system.cat_ranges(
                    [f"{root}/{name}" for name in names], list(starts), list(ends), on_error="raise"
                )
                return parts
        return [self._read_range(name, start, end) for name, start, end in ranges]

    def _read_range(self, name: str, start: int, end: int) -> bytes:
        with self._explained("read", name), Path(self.path, name).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    @contextmanager
    def write(self, name: str) -> Iterator[Path]:
        """Give a path to write a file to; it appears in the folder, whole, at the end of the `with` block.

        Raises:
            StorageError: If it cannot be written.
        """
        if not self.is_remote:
            with self._explained("written", name):
                Path(self.path).mkdir(parents=True, exist_ok=True)
                part = Path(self.path, f".{name}.part")
                yield part
                part.replace(Path(self.path, name))
            return
        with tempfile.TemporaryDirectory(prefix="mgem-shard-") as folder:
            passing = Path(folder, name)
            yield passing
            with self._explained("written", name):
                system, root = self._system()
                system.makedirs(root, exist_ok=True)
                system.put_file(str(passing), f"{root}/{name}")

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to this machine.

        Args:
            name: The file.
            target: The path of the copy.

        Raises:
            StorageError: If it cannot be copied.
        """
        with self._explained("read", name):
            if not self.is_remote:
                shutil.copyfile(Path(self.path, name), target)
                return
            system, root = self._system()
            system.get_file(f"{root}/{name}", str(target))

    def remove(self, name: str) -> None:
        """Delete a file."""
        with self._explained("written", name):
            if not self.is_remote:
                Path(self.path, name).unlink(missing_ok=True)
                return
            system, root = self._system()
            system.rm_file(f"{root}/{name}")

    def _system(self) -> tuple[Any, str]:
        """Return fsspec's file system and the folder's path in it."""
        return open_file_system(self.path)

    def _explained(self, what: str, name: str = "") -> AbstractContextManager[None]:
        hint = "Check the address, the keys and the network." if self.is_remote else "Check the path."
        return explained(f"{self.path}/{name}" if name else self.path, what, hint=hint)
