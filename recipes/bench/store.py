"""Storing and reading pictures: the store in a folder and at an address, against plain files (`mgem bench scale`).

Every way writes the same encoded pictures with their records, so neither drawing nor encoding is measured. Plain files
are written without any guarantee; *plain, synced* waits until each file is on the disk, as the store does. At an
address, a picture is read first from the bucket and then from its copy on this machine. Pictures at once are stored and
read by as many threads as stated.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict
from rich.table import Table

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.picture_bucket import PictureBucket
from mgem_agent.artifacts.picture_copies import PictureCopies
from mgem_agent.artifacts.picture_file import encode_picture
from mgem_agent.artifacts.picture_files import PictureFiles, copy_name
from mgem_agent.artifacts.picture_folder import PictureFolder
from mgem_agent.recipes.bench.comparison import Comparison, Run, format_seconds
from mgem_agent.recipes.bench.measure import describe_machine, require_positive

__all__ = ["StoreTimes", "StoreWay", "bench_store"]

SIZE = (256, 256)
NUM_DIGITS = 12
_NOTE = "Times are the mean for each picture; at once, several are stored or read by threads."


class StoreWay(BaseModel):
    """One way to keep pictures.

    Attributes:
        label: Its name.
        put_s: Mean seconds to store a picture, one after the other.
        get_s: Mean seconds to read a picture and its record for the first time.
        again_s: Mean seconds to read them again.
        put_at_once_s: Mean seconds for each picture if several threads store.
        get_at_once_s: Mean seconds for each picture if several threads read for the first time.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    put_s: float
    get_s: float
    again_s: float
    put_at_once_s: float
    get_at_once_s: float


class StoreTimes(Comparison):
    """A picture stored in a folder against plain files that are synced, too; and all ways.

    Attributes:
        num_pictures: Number of pictures of each measurement.
        picture_bytes: Mean size of a picture.
        num_threads: Number of threads for pictures at once.
        ways: The ways.
    """

    num_pictures: int
    picture_bytes: int
    num_threads: int
    ways: tuple[StoreWay, ...]

    def tables(self) -> list[Table]:
        """Return the comparison, and all ways."""
        table = Table("", "put", "get", "get again", "put, at once", "get, at once")
        for column in table.columns[1:]:
            column.justify = "right"
        for way in self.ways:
            times = (way.put_s, way.get_s, way.again_s, way.put_at_once_s, way.get_at_once_s)
            table.add_row(way.label, *map(format_seconds, times))
        return [*super().tables(), table]


class _Picture:
    """An encoded picture with its record."""

    def __init__(self, number: int) -> None:
        self.png = encode_picture(Image.effect_noise(SIZE, 60 + number % 40).convert("RGB"))
        digest = hashlib.sha256(self.png).hexdigest()
        self.digest = digest
        self.artifact = Artifact(
            id=f"img-{digest[:NUM_DIGITS]}",
            sha256=digest,
            width=SIZE[0],
            height=SIZE[1],
            created=datetime.now(UTC),
            call=digest[:32],
        )
        self.sidecar = self.artifact.model_dump_json(indent=2, exclude_none=True).encode()


Put = Callable[[_Picture], object]
Get = Callable[[_Picture], bytes]


def bench_store(
    *,
    address: str | None = None,
    num_pictures: int = 50,
    num_threads: int = 8,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> StoreTimes:
    """Measure each way.

    Args:
        address: Address to measure, too, such as `s3://bucket/prefix`. Its pictures are stored below `bench-…`, and are
            not deleted.
        num_pictures: Number of pictures of each measurement.
        num_threads: Number of threads for pictures at once.
        folder: Folder for the files, which are deleted at the end; None for the temporary folder.
        say: Called with what is done next.

    Raises:
        InputError: If a number is not positive, or the address cannot be used.
        StorageError: If the storage fails.
    """
    require_positive(num_pictures=num_pictures, num_threads=num_threads)
    say("Encoding pictures")
    pictures = [_Picture(number) for number in range(2 * num_pictures)]
    with tempfile.TemporaryDirectory(prefix="mgem-bench-", dir=folder) as temporary:
        here = Path(temporary)
        in_folder = PictureFolder(here / "folder")
        ways: list[tuple[str, Put, Get]] = [
            ("plain files", partial(_write, here / "plain", False), partial(_read, here / "plain")),
            ("plain, synced", partial(_write, here / "synced", True), partial(_read, here / "synced")),
            ("store in a folder", partial(_put, in_folder), partial(_get, in_folder)),
        ]
        if address is not None:
            place = f"{address.rstrip('/')}/bench-{time.time_ns()}"
            writer, reader = (
                PictureBucket(place, copies=PictureCopies(here / name)) for name in ("of the writer", "of the reader")
            )
            ways.append((f"store at {address.partition('://')[0]}://", partial(_put, writer), partial(_get, reader)))
        measured = []
        for label, put, get in ways:
            say(f"Measuring: {label}")
            measured.append(_measured(label, put, get, pictures, num_threads))
    picture_bytes = sum(len(each.png) for each in pictures) // len(pictures)
    synced, ours = measured[1:3]
    return StoreTimes(
        name="store",
        setting=f"{num_pictures} pictures of {picture_bytes / 1e3:,.0f} KB; {num_threads} threads at once",
        note=_NOTE,
        ours_run=Run(label=f"{ours.label}, put", seconds=(ours.put_s,)),
        alternative_run=Run(label=f"{synced.label}, put", seconds=(synced.put_s,)),
        max_abs_difference={},
        max_abs_value={},
        machine=describe_machine(torch.device("cpu")),
        num_pictures=num_pictures,
        picture_bytes=picture_bytes,
        num_threads=num_threads,
        ways=tuple(measured),
    )


def _measured(label: str, put: Put, get: Get, pictures: Sequence[_Picture], num_threads: int) -> StoreWay:
    """Measure a way: with the first half of the pictures one after the other, with the other half at once."""
    first, second = pictures[: len(pictures) // 2], pictures[len(pictures) // 2 :]

    def check(picture: _Picture) -> bool:
        if get(picture) != picture.png:
            raise AssertionError(f"{label} has changed the picture {picture.artifact.id}.")
        return True

    with ThreadPoolExecutor(num_threads) as threads:
        return StoreWay(
            label=label,
            put_s=_seconds(lambda: [put(each) for each in first], len(first)),
            get_s=_seconds(lambda: [check(each) for each in first], len(first)),
            again_s=_seconds(lambda: [check(each) for each in first], len(first)),
            put_at_once_s=_seconds(lambda: list(threads.map(put, second)), len(second)),
            get_at_once_s=_seconds(lambda: list(threads.map(check, second)), len(second)),
        )


def _seconds(work: Callable[[], object], num: int) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) / num


def _write(root: Path, is_synced: bool, picture: _Picture) -> None:
    """Write plain files."""
    for suffix, data in ((".json", picture.sidecar), (".png", picture.png)):
        path = root / copy_name(picture.artifact.id, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            if is_synced:
                file.flush()
                os.fsync(file.fileno())


def _read(root: Path, picture: _Picture) -> bytes:
    """Read plain files."""
    Artifact.model_validate_json((root / copy_name(picture.artifact.id, ".json")).read_bytes())
    return (root / copy_name(picture.artifact.id)).read_bytes()


def _put(files: PictureFiles, picture: _Picture) -> None:
    """Store a picture as `ArtifactStore.put` does."""
    files.locate(picture.digest, NUM_DIGITS)
    files.add(picture.artifact, picture.sidecar, picture.png)


def _get(files: PictureFiles, picture: _Picture) -> bytes:
    """Read a picture as `ArtifactStore.get` and `path` do."""
    [name] = files.find(picture.artifact.id.removeprefix("img-"))
    Artifact.model_validate_json(files.sidecar(name))
    return files.path(name).read_bytes()
