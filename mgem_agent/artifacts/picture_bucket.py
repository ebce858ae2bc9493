"""The files of a store at an address of fsspec: `s3://bucket/prefix`, `gs://bucket/prefix`.

Decisions that matter:

- **The sidecar claims the id.** It is created only if there is none (`If-None-Match: *`, or generation 0 in Google's
  storage), before the PNG. Of two processes that store different pictures under one id, one gets a longer id. An object
  appears whole or not at all, so a visible picture has its record, and a killed program leaves nothing temporary.
- **A sidecar without a PNG is not visible.** Storing the same picture again completes it.
- **A mark names a picture by its call.** A bucket has no index, so an empty object `marks/KEY/ID` finds the pictures of
  a call in one request. Marks may be deleted: then a resumed turn draws its pictures again.
- **Only the list of all pictures is remembered**, for some seconds. Everything else is read from the bucket, so what
  another machine has stored is found at once.
- **Whatever takes a path gets a copy on this machine**; see `PictureCopies`.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.picture_copies import PictureCopies
from mgem_agent.artifacts.picture_file import PNG_END, PNG_START
from mgem_agent.artifacts.picture_files import copy_name
from mgem_agent.artifacts.picture_id import is_picture_id
from mgem_agent.errors import ImageError, StorageError
from mgem_agent.redaction import redact
from mgem_agent.remote_files import explained, open_file_system
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.user_files import cache_folder

__all__ = ["PictureBucket"]

T = TypeVar("T")

NUM_THREADS = 16
LISTED_S = 5.0
"""Seconds for which the list of all pictures is used again. Listing a large bucket takes hundreds of requests."""

REVISED_S = 60.0
"""The same where only a change is looked for, again and again."""

NUM_TRIES = 3
MARKS = "marks"
DAMAGED = "damaged"
TIMES = ("LastModified", "updated", "mtime", "created")
"""Where the file systems of fsspec have the time of an object: S3, Google, others, memory."""

_FOLDER = re.compile(r"[0-9a-f]{2}")


class PictureBucket:
    """The files of a store at an address; the methods are those of `PictureFiles`.

    Args:
        address: The address.
        copies: The copies on this machine; by default in the cache folder.

    Raises:
        InputError: If the scheme of the address is unknown, or needs a package that is not installed.
    """

    def __init__(self, address: str, *, copies: PictureCopies | None = None) -> None:
        self._address = address.rstrip("/")
        self.place = redact(self._address)
        self._copies = copies or PictureCopies(cache_folder() / "pictures" / _folder_name(self._address))
        self.root = self._copies.root
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="mgem-store")
        self._listed: tuple[float, Mapping[str, float]] | None = None
        self._system()

    def find(self, digits: str) -> Sequence[str]:
        """Return the stored ids that begin with some digits, sorted; only the id with exactly these, if it exists."""
        name = f"img-{digits}"
        if self._has(copy_name(name)):
            return [name]
        return sorted(found for found in self._folder(digits[:2]) if found.startswith(name))

    def path(self, name: str) -> Path:
        """Return the PNG of a stored picture, as a file of this machine.

        Raises:
            ImageError: If there is no such picture.
            StorageError: If it cannot be read.
            StorageError: If the copy cannot be written.
        """
        return self._copies.get(name) or self._copies.put(name, self._read(copy_name(name)))

    def sidecar(self, name: str) -> bytes:
        """Return the sidecar of a stored picture.

        Raises:
            ImageError: If there is none.
            StorageError: If it cannot be read.
        """
        return self._read(copy_name(name, ".json"))

    def has_sidecar(self, name: str) -> bool:
        """Return whether a picture has a sidecar."""
        return self._has(copy_name(name, ".json"))

    def changed(self, name: str) -> float:
        """Return the time of the PNG in seconds since 1970; 0 if it is missing."""
        system, root = self._system()
        with explained(f"{self.place}/{copy_name(name)}", "read"):
            try:
                return _time(system.info(f"{root}/{copy_name(name)}"))
            except FileNotFoundError:
                return 0.0

    def locate(self, digest: str, num_digits: int) -> tuple[str, bool]:
        """Return the shortest id for a hash that no other picture has, and whether the picture is stored under it."""
        for num in range(num_digits, len(digest), 4):
            name = f"img-{digest[:num]}"
            held, claim = self._threads.map(lambda ask, name=name: ask(name), (self._held, self._claim))
            if held == digest:
                return name, True
            # A claim of another picture without its PNG: it is being written, or its writer was killed.
            if not held.startswith(digest[:num]) and claim in ("", DAMAGED, digest):
                return name, False
        return f"img-{digest}", False

    def add(self, artifact: Artifact, sidecar: bytes, png: bytes) -> bool:
        """Store a picture: first the sidecar, then the PNG, so that a visible picture is complete.

        Returns:
            False if another process has claimed the id or stored the picture meanwhile.

        Raises:
            StorageError: If it cannot be written.
        """
        name = artifact.id
        if not self._create(copy_name(name, ".json"), sidecar):
            is_taken = self._held(name).startswith(name.removeprefix("img-"))
            if is_taken or self._claim(name) not in (artifact.sha256, DAMAGED, ""):
                return False
            self._write({copy_name(name, ".json"): sidecar})  # a killed program has left its own
        self._write(_marks(artifact))
        self._write({copy_name(name): png})
        self._listed = None
        with suppress(StorageError):  # this machine's disk is full; the picture is stored, and is fetched when needed
            self._copies.put(name, png)
        return True

    def replace_sidecar(self, artifact: Artifact, sidecar: bytes) -> None:
        """Replace the sidecar of a stored picture; errors as for `add`."""
        self._write({copy_name(artifact.id, ".json"): sidecar, **_marks(artifact)})

    def newest(self, limit: int | None = None) -> Sequence[str]:
        """Return the ids of all pictures, or of the given number, newest first."""
        times = self._all(LISTED_S)
        return sorted(times, key=lambda name: (-times[name], name))[:limit]

    def drawn_for(self, calls: Mapping[str, ImageRequest]) -> Sequence[str]:
        """Return the ids of pictures that have the mark of a call, or of an equal request with a seed."""
        keys = [_mark_of_call(call) for call in calls]
        keys += [_mark_of_request(request) for request in calls.values() if request.seed is not None]
        marked = {name for names in self.each(self._marked, dict.fromkeys(keys)) for name in names}
        there = self.each(lambda name: self._has(copy_name(name)), sorted(marked))
        return [name for name, is_there in zip(sorted(marked), there, strict=True) if is_there]

    def revision(self) -> object:
        """Return a value that differs if pictures were added or deleted in between; up to a minute late."""
        return frozenset(self._all(REVISED_S))

    def check(self) -> None:
        """Check that the bucket is there.

        Raises:
            StorageError: If it cannot be reached, or does not exist.
        """
        system, root = self._system()
        if bucket := root.partition("/")[0]:
            with explained(f"{self.place}", "read"):
                system.info(bucket)

    def is_complete(self, name: str) -> bool:
        """Return whether a PNG begins and ends as it should; only these parts are read."""
        system, root = self._system()
        path = f"{root}/{copy_name(name)}"
        with explained(f"{self.place}/{copy_name(name)}", "read"):
            try:
                size = int(system.info(path)["size"])
                if size < len(PNG_START) + len(PNG_END):
                    return False
                start: bytes = system.cat_file(path, start=0, end=len(PNG_START))
                end: bytes = system.cat_file(path, start=size - len(PNG_END), end=size)
            except FileNotFoundError:
                return False
        return (start, end) == (PNG_START, PNG_END)

    def each(self, read: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
        """Yield the results of a function for some ids, in order; several are read at once."""
        waiting = iter(names)
        while some := list(islice(waiting, 4 * NUM_THREADS)):
            yield from self._threads.map(read, some)

    def _system(self) -> tuple[Any, str]:
        # By default, s3fs asks for the size of an object before it reads it, to read a large one in parts.
        options = {"max_concurrency": 1} if self._address.startswith("s3") else {}
        return open_file_system(self._address, use_listings_cache=False, **options)

    def _has(self, path: str) -> bool:
        system, root = self._system()
        with explained(f"{self.place}/{path}", "read"):
            try:
                system.cat_file(f"{root}/{path}", start=0, end=1)  # `info` takes two requests if there is no object
            except FileNotFoundError:
                return False
            except Exception:  # an empty object has no first byte
                system.info(f"{root}/{path}")
        return True

    def _read(self, path: str) -> bytes:
        system, root = self._system()
        with explained(f"{self.place}/{path}", "read"):
            try:
                data: bytes = system.cat_file(f"{root}/{path}")
            except FileNotFoundError:
                raise ImageError(f"There is no file {f'{self.place}/{path}'!r}.") from None
        return data

    def _write(self, files: Mapping[str, bytes]) -> None:
        """Write objects at once; each replaces what is there.

        Raises:
            StorageError: If one cannot be written.
        """
        if not files:
            return
        system, root = self._system()
        try:
            with explained(f"{self.place}/{next(iter(files))}", "written"):
                system.pipe({f"{root}/{path}": data for path, data in files.items()})
        except StorageError as error:
            raise StorageError(f"{error} Everything that was stored before is still there.") from error

    def _create(self, path: str, data: bytes) -> bool:
        """Write an object if there is none of that name, and return whether it was written.

        Raises:
            StorageError: If it cannot be written.
        """
        system, root = self._system()
        for attempt in range(NUM_TRIES):
            try:
                system.pipe_file(f"{root}/{path}", data, mode="create")
                return True
            except Exception as error:  # each file system refuses with another error
                if self._has(path):
                    return False
                if attempt == NUM_TRIES - 1:  # S3 refuses with a conflict while another writer is at it
                    raise StorageError(
                        f"{f'{self.place}/{path}'!r} cannot be written: {type(error).__name__}: {error}. Check the "
                        f"address, the keys and the network; everything that was stored before is still there."
                    ) from error
        return False

    def _held(self, name: str) -> str:
        """Return the hash of the PNG that is stored under an id; empty if there is none."""
        if not self._has(copy_name(name)):
            return ""
        copy = self._copies.get(name)
        try:
            return hashlib.sha256(copy.read_bytes() if copy else self._read(copy_name(name))).hexdigest()
        except ImageError:
            return ""

    def _claim(self, name: str) -> str:
        """Return the hash in a picture's sidecar; empty without a sidecar, and `DAMAGED` if it cannot be read."""
        try:
            return Artifact.model_validate_json(self.sidecar(name)).sha256
        except ImageError:
            return ""
        except ValidationError:
            return DAMAGED

    def _all(self, age_s: float) -> Mapping[str, float]:
        """Return the times of all pictures by id, as listed at most `age_s` seconds ago."""
        if self._listed is not None and time.monotonic() - self._listed[0] <= age_s:
            return self._listed[1]
        asked = time.monotonic()
        names = [name for name, entry in self._entries("").items() if _FOLDER.fullmatch(name)]
        times = {name: changed for found in self.each(self._folder, names) for name, changed in found.items()}
        self._listed = (asked, times)
        return times

    def _folder(self, name: str) -> Mapping[str, float]:
        """Return the times of the pictures in a folder, by id."""
        found = ((file.removesuffix(".png"), file, entry) for file, entry in self._entries(name).items())
        return {stem: _time(entry) for stem, file, entry in found if stem != file and is_picture_id(stem)}

    def _marked(self, mark: str) -> Sequence[str]:
        return [name for name in self._entries(f"{MARKS}/{mark}") if is_picture_id(name)]

    def _entries(self, path: str) -> Mapping[str, Mapping[str, Any]]:
        """Return what fsspec knows of each entry of a folder, by its name; none if there is no such folder."""
        system, root = self._system()
        place = f"{root}/{path}".rstrip("/")
        with explained(f"{self.place}/{path}", "read"):
            try:
                entries = system.ls(place, detail=True, refresh=True)
            except FileNotFoundError:
                return {}
        return {str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]: entry for entry in entries}


def _marks(artifact: Artifact) -> dict[str, bytes]:
    """Return the marks of a picture: empty objects, by path."""
    keys = [_mark_of_call(artifact.call)] if artifact.call else []
    if artifact.asked is not None and artifact.asked.seed is not None:
        keys.append(_mark_of_request(artifact.asked))
    return {f"{MARKS}/{key}/{artifact.id}": b"" for key in keys}


def _mark_of_call(call: str) -> str:
    return f"call-{hashlib.sha256(call.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _mark_of_request(request: ImageRequest) -> str:
    text = request.model_dump_json()
    return f"asked-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _time(entry: Mapping[str, Any]) -> float:
    """Return the time of an object in seconds since 1970, as fsspec knows it."""
    found = next((entry[key] for key in TIMES if entry.get(key) is not None), 0.0)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    return found.timestamp() if isinstance(found, datetime) else float(found)


def _folder_name(address: str) -> str:
    """Return the name of the folder for the copies of an address: readable, and different for each server."""
    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    digest = hashlib.sha256(f"{server} {address}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', address)[:80].strip('-')}-{digest}"
