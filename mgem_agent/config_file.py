"""The user's config file: where it is, and what is in it, before any value is checked."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import platformdirs

from mgem_agent.errors import InputError
from mgem_agent.user_files import read_user_file, user_path

__all__ = ["MAX_CONFIG_BYTES", "config_path", "read_config"]

MAX_CONFIG_BYTES = 1_000_000
PLACES = ("store", "sessions")
"""Settings that may be a path."""


def config_path() -> Path:
    """Return the path of the config file: `MGEM_CONFIG`, or `config.toml` in the system's configuration folder."""
    named = os.environ.get("MGEM_CONFIG")
    if named:
        return user_path(named).absolute()
    return platformdirs.user_config_path("mgem-agent", appauthor=False).absolute() / "config.toml"


def read_config() -> dict[str, Any]:
    """Return the content of the user's config file; empty if there is no file.

    Raises:
        InputError: If the file cannot be read, is not valid TOML, or contains a relative path.
    """
    path = config_path()
    try:
        data = tomllib.loads(read_user_file(path, "The config file", max_bytes=MAX_CONFIG_BYTES))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The config file {str(path)!r} cannot be read: {error}. Fix the file or remove it."
        ) from error
    for name in PLACES:
        place = data.get(name)
        if isinstance(place, str) and "://" not in place and not user_path(place).is_absolute():
            raise InputError(
                f"{name} = {place!r} in {str(path)!r} is a relative path. Write an absolute path, or one that "
                f"begins with ~."
            )
    return data
