"""Which models a running `mgem serve` of this user holds, written to a file of the cache folder.

A model is named by a key, made of its name and its options, so that a command uses the server only for the very model
that it would load itself. A file whose process has ended counts for nothing, and is removed.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from mgem_agent import __version__
from mgem_agent.artifacts.atomic_file import write_atomically
from mgem_agent.errors import InputError, MgemError, StorageError
from mgem_agent.resident.connection import Connection
from mgem_agent.user_files import cache_folder, user_path

__all__ = ["RunningServer", "advertised", "find_server", "first_use", "model_key", "running_servers"]

ANSWER_S = 1.0
"""Seconds that a server has to say that it is well; one that is busy answers at once."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server and the models that it holds.

    Attributes:
        address: Its address, without a slash at the end.
        process: Its process id.
        version: Its version of this package.
        reasoner: Key of its reasoner; None if it runs elsewhere.
        generators: Names of its image generators, by their keys.
    """

    address: str
    process: int
    version: str
    reasoner: str | None
    generators: Mapping[str, str]


def model_key(kind: str, name: str, options: Mapping[str, Any]) -> str:
    """Return the key of a model.

    Args:
        kind: `reasoner` or `generator`.
        name: Its name in the settings. A folder is the same from wherever it is named.
        options: Its options.
    """
    scheme, _, place = name.rpartition(":")
    if place and os.path.isdir(folder := user_path(place)):
        name = f"{scheme}:{os.path.realpath(folder)}"
    text = json.dumps([kind, name, options], sort_keys=True, default=str)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _folder() -> Path:
    return cache_folder() / "servers"


@contextmanager
def advertised(address: str, *, reasoner: str | None, generators: Mapping[str, str]) -> Iterator[None]:
    """Let commands of the same user find this process as a server, until the end of the block.

    Args:
        address: As for `RunningServer`.
        reasoner: As for `RunningServer`.
        generators: As for `RunningServer`.
    """
    found = RunningServer(address, os.getpid(), __version__, reasoner, dict(generators))
    place: Path | None = None
    try:
        place = _folder() / f"{found.process}.json"
        write_atomically(place, json.dumps(asdict(found)).encode())
    except (InputError, StorageError) as error:
        _logger.warning("%s So commands do not find this server.", error)
    try:
        yield
    finally:
        if place is not None:
            _remove(place)


def running_servers() -> list[RunningServer]:
    """Return the running servers of this user and this release, newest first."""
    try:
        places = sorted(_folder().glob("*.json"), key=lambda place: -place.stat().st_mtime_ns)
    except (OSError, InputError):
        return []
    found = []
    for place in places:
        try:
            server = RunningServer(**json.loads(place.read_bytes()))
        except (OSError, ValueError, TypeError):
            continue
        if not _runs(server.process):
            _remove(place)
        elif server.version == __version__:
            found.append(server)
    return found


def find_server(kind: Literal["reasoner", "generator"], name: str, options: Mapping[str, Any]) -> RunningServer | None:
    """Return a server that holds a model, and that answers.

    Args:
        kind: What the model is.
        name: Its name in the settings.
        options: Its options.
    """
    servers = running_servers()
    key = model_key(kind, name, options) if servers else ""
    for server in servers:
        if key in ((server.reasoner,) if kind == "reasoner" else server.generators) and _is_well(server):
            return server
    return None


def _is_well(server: RunningServer) -> bool:
    health = Connection(server.address, MgemError).answers("/health", timeout_s=ANSWER_S)
    return isinstance(health, dict) and (health.get("status"), health.get("version")) == ("ok", server.version)


def first_use(server: RunningServer) -> bool:
    """Return whether no command has used a server before; true once for each server."""
    try:
        (_folder() / f"{server.process}.used").touch(exist_ok=False)
    except OSError:
        return False
    return True


def _runs(process: int) -> bool:
    if os.name == "nt":
        return True  # there, signal 0 is not a question; a server that has ended is found by its silence
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is another user's
    return True


def _remove(place: Path) -> None:
    for path in (place, place.with_suffix(".used")):
        with suppress(OSError):
            path.unlink()
