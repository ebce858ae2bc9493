"""Addresses of files on other machines, such as `s3://bucket/folder`, and the file systems of fsspec behind them.

An address is anything with `://`. fsspec finds the file system by the scheme, and reads keys and endpoints from the
environment and its own configuration files. Every failure becomes a `StorageError`; a missing file stays a
`FileNotFoundError`, where the caller asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mgem_agent.errors import InputError, MgemError, MissingDependencyError, StorageError

__all__ = ["explained", "is_address", "open_file_system"]

_PACKAGES = {
    "gcs": ("gcsfs", "gs"),
    "gs": ("gcsfs", "gs"),
    "hf": ("huggingface_hub", "local"),
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
}
"""By scheme: the package of its file system, and the extra that installs it."""


def is_address(path: str) -> bool:
    """Return whether a path is an address with a scheme."""
    return "://" in path


def open_file_system(address: str, **options: Any) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    fsspec keeps one file system for each process, so this is cheap, and right after a fork.

    Args:
        address: The address.
        **options: Options of the file system.

    Raises:
        InputError: If the scheme is unknown.
        MissingDependencyError: If the scheme needs a package that is not installed.
    """
    scheme = address.partition("://")[0].rpartition("::")[2]
    try:
        import fsspec.core

        found: tuple[Any, str] = fsspec.core.url_to_fs(address, **options)
    except ImportError as error:
        package, extra = _PACKAGES.get(scheme, (error.name or "fsspec", "train" if error.name == "fsspec" else None))
        raise MissingDependencyError(f"The address {address!r}", package, extra) from error
    except ValueError as error:
        raise InputError(f"The address {address!r} cannot be used: {error}") from error
    return found


@contextmanager
def explained(place: str, what: str, *, hint: str = "Check the address, the keys and the network.") -> Iterator[None]:
    """Turn any failure of a storage into one error; each file system of fsspec has its own.

    Args:
        place: The file or folder, for the message.
        what: What cannot be done with it: "read" or "written".
        hint: What to do next.

    Raises:
        StorageError: If the block fails.
    """
    try:
        yield
    except MgemError:
        raise
    except Exception as error:
        raise StorageError(f"{place!r} cannot be {what}: {type(error).__name__}: {error}. {hint}") from error
