"""Keep what transformers finds when it reads its own files.

transformers reads every module of its folder `models` at each start, more than 1,600 files, for the names that they
export. That takes a sixth of the time that PyTorch takes to be imported. The result is the same until another release
is installed, so it is kept in a file of the cache folder.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError
from mgem_agent.user_files import cache_folder

__all__ = ["kept_scan"]

Scan = Callable[[str | os.PathLike[str]], dict[Any, Any]]
"""From a folder or one of its files to what each subfolder exports, by name, and each file, by required packages."""

_logger = logging.getLogger(__name__)


def kept_scan(scan: Scan) -> Scan:
    """Return transformers' function that reads a folder, with its result for the folder `models` kept on disk.

    The file is read only for the same release at the same place, unchanged since. A release in development is read
    anew each time. Without a folder to write to, nothing is kept.

    Args:
        scan: `create_import_structure_from_path`, which calls itself for each subfolder.
    """

    @functools.cache
    def of_folder(folder: Path) -> dict[Any, Any]:
        key = _release(folder)
        place = None if key is None else _place()
        if key is None or place is None:
            return scan(folder)
        found = _read(place, key)
        if found is None:
            found = scan(folder)
            _write(place, key, found)
        return found

    def kept(path: str | os.PathLike[str]) -> dict[Any, Any]:
        given = Path(path)
        return of_folder(given.parent if given.is_file() else given)

    return kept


def _place() -> Path | None:
    """Return the file of the result; None if `MGEM_CACHE` is not a valid path, which is reported where it matters."""
    try:
        return cache_folder() / "transformers" / "import_structure.json"
    except InputError:
        return None


def _release(folder: Path) -> list[Any] | None:
    """Return what must be the same for a kept result to be valid; None where nothing is kept."""
    package = folder.parent
    version = getattr(sys.modules.get("transformers"), "__version__", "dev")
    if (package.name, folder.name) != ("transformers", "models") or "dev" in version:
        return None
    try:
        times = [path.stat().st_mtime_ns for path in (folder, package / "utils" / "import_utils.py")]
    except OSError:
        return None
    return [version, str(folder), *times]


def _read(place: Path, key: list[Any]) -> dict[Any, Any] | None:
    try:
        content = json.loads(place.read_bytes())
        return _decode(content["structure"]) if content["key"] == key else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _logger.info("%s is written anew, because it cannot be read: %s", place, error)
        return None


def _write(place: Path, key: list[Any], structure: dict[Any, Any]) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as file:
            try:
                json.dump({"key": key, "structure": _encode(structure)}, file)
                file.close()
                os.replace(file.name, place)
            except BaseException:
                file.close()
                os.unlink(file.name)
                raise
    except OSError as error:
        _logger.info("%s cannot be written, so the next start is slower: %s", place, error)


def _encode(structure: dict[Any, Any]) -> dict[str, Any]:
    """Write sets as sorted lists; the names of folders are strings, the required packages are frozen sets."""
    folders = {name: _encode(found) for name, found in structure.items() if isinstance(name, str)}
    files = [
        [sorted(packages), {name: sorted(exported) for name, exported in found.items()}]
        for packages, found in structure.items()
        if not isinstance(packages, str)
    ]
    return {"folders": folders, "files": files}


def _decode(encoded: dict[str, Any]) -> dict[Any, Any]:
    folders: dict[Any, Any] = {name: _decode(found) for name, found in encoded["folders"].items()}
    files = {
        frozenset(packages): {name: set(exported) for name, exported in found.items()}
        for packages, found in encoded["files"]
    }
    return folders | files
