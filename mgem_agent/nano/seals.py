"""Notice damaged files of nano that still have the right size.

A seal is a JSON file with the SHA-256, size and modification time of each file of a folder. At each start only sizes
and times are compared, and a file is hashed only if one of them has changed. `mgem doctor` hashes all files, so it also
finds damage that changes neither.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import importlib.metadata
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

__all__ = ["FileSeal", "damaged_files", "explain_damage", "is_intact", "remove_sealed", "seal_folder", "sealed_folders"]

_SUFFIX = ".seal"
_DISTRIBUTION = "mgem-agent"


class FileSeal(BaseModel):
    """What is known of one file.

    Attributes:
        sha256: Its hash, in hexadecimal.
        num_bytes: Its size when it was hashed.
        mtime_ns: Its modification time when it was hashed, in nanoseconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    num_bytes: int
    mtime_ns: int


_SEALS = TypeAdapter(dict[str, FileSeal])


def seal_folder(folder: Path) -> None:
    """Hash all files of a folder that was just made, and write the seal next to it.

    Args:
        folder: The folder; it has no subfolders.
    """
    _write(_seal_of(folder), {file.name: _hashed(file) for file in sorted(folder.iterdir())})


def remove_sealed(folder: Path) -> None:
    """Remove a folder and its seal, if they exist."""
    _seal_of(folder).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def sealed_folders(cache: Path) -> list[Path]:
    """Return the folders in a cache folder that have a seal."""
    folders = [seal.with_name(seal.name.removesuffix(_SUFFIX)) for seal in sorted(cache.glob(f"*{_SUFFIX}"))]
    return [folder for folder in folders if folder.is_dir()]


def damaged_files(folder: Path, *, reread: bool = False) -> list[str] | None:
    """Return the names of the files that were changed or deleted since the folder was sealed.

    Args:
        folder: The folder.
        reread: Whether to hash all files, not only those with another size or time.

    Returns:
        The names, sorted; None if the folder has no readable seal.
    """
    seal = _seal_of(folder)
    known = _read(seal)
    if known is None:
        return None
    damaged, found = _compare(folder, known, reread=reread)
    if not damaged and not reread and found != known:
        _write(seal, found)
    return damaged


def is_intact(folder: Path) -> bool:
    """Return whether a transformers folder of the cache is complete and undamaged.

    A complete folder without a seal, from an earlier release, is sealed now.

    Args:
        folder: The folder; it may be missing.
    """
    damaged = damaged_files(folder)
    if damaged is not None:
        return not damaged
    from mgem_agent.core_model.checkpoints.soundness import is_sound

    if not is_sound(folder):
        return False
    if os.access(folder.parent, os.W_OK):
        seal_folder(folder)
    return True


def explain_damage(folder: Path, cache: Path, *, reread: bool = False) -> str | None:
    """Say which shipped files are not those that were installed, and what to do; None if there are none.

    The hashes are those in the `RECORD` of the installed package. A checkout has none: there, git tells.

    Args:
        folder: A folder in the package.
        cache: Folder for the seal.
        reread: Whether to hash all files, not only those with another size or time.
    """
    expected, version = _recorded(folder)
    if not expected:
        return None
    place = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    seal = cache / f"installed-{place}{_SUFFIX}"
    before = _read(seal) or {}
    unknown = {name: FileSeal(sha256=sha256, num_bytes=-1, mtime_ns=-1) for name, sha256 in expected.items()}
    known = {name: before[name] if _is_same(before.get(name), new) else new for name, new in unknown.items()}
    damaged, found = _compare(folder, known, reread=reread)
    if not damaged:
        if not reread and found != before:
            with contextlib.suppress(OSError):  # without a seal, the next start hashes the files again
                _write(seal, found)
        return None
    files = ", ".join(repr(str(folder / name)) for name in damaged)
    return (
        f"Not the file that {_DISTRIBUTION} {version} installed, but damaged or changed: {files}. "
        f"Run: pip install --force-reinstall --no-deps {_DISTRIBUTION}=={version}"
    )


def _is_same(old: FileSeal | None, new: FileSeal) -> bool:
    return old is not None and old.sha256 == new.sha256


def _compare(folder: Path, known: Mapping[str, FileSeal], *, reread: bool) -> tuple[list[str], dict[str, FileSeal]]:
    """Return the names of files with another hash, and the seals of all others with their present times."""
    damaged, found = [], {}
    for name, seal in sorted(known.items()):
        file = folder / name
        try:
            state = file.stat()
            is_unchanged = (state.st_size, state.st_mtime_ns) == (seal.num_bytes, seal.mtime_ns)
            now = seal if is_unchanged and not reread else _hashed(file)
        except OSError:  # missing or unreadable
            damaged.append(name)
            continue
        if now.sha256 == seal.sha256:
            found[name] = now
        else:
            damaged.append(name)
    return damaged, found


def _recorded(folder: Path) -> tuple[dict[str, str], str]:
    """Return the hashes of the files below a folder by name, from the package's `RECORD`, and its version."""
    try:
        distribution = importlib.metadata.distribution(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return {}, ""
    root = Path(str(distribution.locate_file(""))).resolve()
    try:
        start = folder.resolve().relative_to(root).as_posix() + "/"
    except ValueError:  # a checkout
        return {}, ""
    hashes = {}
    for name, kind_and_hash, *_ in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        kind, _, digest = kind_and_hash.partition("=")
        if name.startswith(start) and kind == "sha256":
            hashes[name.removeprefix(start)] = base64.urlsafe_b64decode(f"{digest}==").hex()
    return hashes, distribution.version


def _hashed(file: Path) -> FileSeal:
    state = file.stat()
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    return FileSeal(sha256=sha256, num_bytes=state.st_size, mtime_ns=state.st_mtime_ns)


def _seal_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_SUFFIX}")


def _read(seal: Path) -> dict[str, FileSeal] | None:
    try:
        return _SEALS.validate_json(seal.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(seal: Path, files: Mapping[str, FileSeal]) -> None:
    seal.parent.mkdir(parents=True, exist_ok=True)
    part = seal.with_name(f"{seal.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(_SEALS.dump_json(dict(files), indent=1))
        os.replace(part, seal)
    finally:
        part.unlink(missing_ok=True)
