"""Unpacking archives of pictures: zip and tar, resumable, and only into the given folder."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from mgem_agent.errors import InputError

__all__ = ["is_unpacked", "unpack"]

_COPY_BYTES = 2**20


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Return whether an archive was unpacked completely, also if it was deleted since."""
    stamp = _stamp(archive)
    if not stamp.is_file():
        return False
    noted = json.loads(stamp.read_text(encoding="utf-8"))
    same = not archive.is_file() or archive.stat().st_size == noted["num_bytes"]
    return same and noted["folder"] == str(folder) and folder.is_dir()


def unpack(archive: Path, folder: Path, *, strip: int = 0, flat: bool = False) -> int:
    """Unpack an archive; files that are complete already are kept.

    Args:
        archive: A `.zip`, `.tar`, `.tar.gz` or `.tgz` file.
        folder: Where its files go.
        strip: Leading folders of the names to leave out.
        flat: Whether to leave out all folders of the names.

    Returns:
        The number of files.

    Raises:
        InputError: If it is damaged, would write outside the folder, or does not fit on the disk.
    """
    if is_unpacked(archive, folder):
        return int(json.loads(_stamp(archive).read_text(encoding="utf-8"))["num_files"])
    try:
        members = _zip_members if zipfile.is_zipfile(archive) else _tar_members
        num_files = 0
        for name, size, open_member in members(archive, folder):
            parts = PurePosixPath(name).parts
            parts = parts[-1:] if flat else parts[strip:]
            if not parts:
                continue
            if ".." in parts or PurePosixPath(*parts).is_absolute():
                raise InputError(f"The archive {str(archive)!r} has the name {name!r}, which leaves the folder.")
            _write(folder.joinpath(*parts), size, open_member)
            num_files += 1
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise InputError(
            f"The archive {str(archive)!r} is damaged: {str(error).splitlines()[0].rstrip(':')}. Delete it and run the "
            "command again."
        ) from error
    except OSError as error:
        raise InputError(f"{str(archive)!r} cannot be unpacked to {str(folder)!r}: {error}.") from error
    folder.mkdir(parents=True, exist_ok=True)
    noted = {"num_bytes": archive.stat().st_size, "num_files": num_files, "folder": str(folder)}
    part = _stamp(archive).with_suffix(".part")
    part.write_text(json.dumps(noted), encoding="utf-8")
    part.replace(_stamp(archive))
    return num_files


def _stamp(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.unpacked")


def _zip_members(archive: Path, folder: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    with zipfile.ZipFile(archive) as opened:
        files = [member for member in opened.infolist() if not member.is_dir()]
        needed = sum(member.file_size for member in files)
        free = shutil.disk_usage(_existing(folder)).free
        if needed > free:
            raise InputError(
                f"Unpacking {str(archive)!r} needs {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free at "
                f"{str(folder)!r}. Free space there, or give another --root."
            )
        for member in files:
            yield member.filename, member.file_size, partial(opened.open, member)


def _tar_members(archive: Path, folder: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isfile():  # no links and no devices
                yield member.name, member.size, partial(_opened, opened, member)


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    if file is None:
        raise tarfile.ReadError(f"{member.name!r} is not a file")
    return file


def _write(path: Path, size: int, open_member: Callable[[], IO[bytes]]) -> None:
    if path.is_file() and path.stat().st_size == size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with open_member() as source, part.open("wb") as target:
        shutil.copyfileobj(source, target, _COPY_BYTES)
    os.replace(part, path)


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
