"""The emoji pictures of scenes: downloaded once, not part of this repository.

Two packages of the npm registry, both under the MIT licence: `@lobehub/fluent-emoji-3d` (Microsoft's Fluent pictures,
256 px) and `emojibase-data` (Unicode's annotations). Both are pinned by version and checksum. Pictures are read from
the archive, because unpacking thousands of small files takes longer than reading the few hundred that are used.
"""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.world.concepts import Concept, load_concepts
from mgem_agent.user_files import user_path

__all__ = ["EMOJI_PACKAGES", "EmojiAssets", "fetch_emoji"]

PICTURE_PX = 256
_ANNOTATIONS = "en/data.json"


@dataclass(frozen=True)
class NpmPackage:
    """An archive of the npm registry.

    Args:
        name: Name in the registry.
        version: Release.
        sha256: Checksum of the archive, in hexadecimal.
        num_bytes: Its size.
        licence: Its licence.
    """

    name: str
    version: str
    sha256: str
    num_bytes: int
    licence: str

    @property
    def file_name(self) -> str:
        """Name of the archive in the cache."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def url(self) -> str:
        """URL of the archive in the registry."""
        return f"https://registry.npmjs.org/{self.name}/-/{self.name.split('/')[-1]}-{self.version}.tgz"


EMOJI_PACKAGES = (
    NpmPackage(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        15_792_027,
        "MIT",
    ),
    NpmPackage(
        "emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a", 6_711_091, "MIT"
    ),
)
"""The archives of pictures and annotations."""


def fetch_emoji(cache: str | Path | None = None, *, offline: bool = False) -> tuple[Path, ...]:
    """Return the archives of the emoji set; download those that the cache lacks.

    Args:
        cache: Folder for them; default: `emoji` in the cache of this package (`MGEM_CACHE`).
        offline: Whether downloads are forbidden, as with `MGEM_OFFLINE=1`.

    Raises:
        InputError: If an archive is missing and cannot be downloaded.
    """
    from mgem_agent.nano.download import fetch_file
    from mgem_agent.nano.language_model import is_offline, locked, nano_cache
    from mgem_agent.nano.progress import shown_progress

    folder = user_path(cache) if cache is not None else nano_cache().parent / "emoji"
    paths = tuple(folder / package.file_name for package in EMOJI_PACKAGES)
    for package, path in zip(EMOJI_PACKAGES, paths, strict=True):
        if path.is_file():
            continue
        if offline or is_offline():
            raise InputError(
                f"The emoji set is not here ({str(path)!r} is missing), and nothing may be fetched. Run once without "
                f"--offline and MGEM_OFFLINE, or name a folder that has {package.file_name!r} with --emoji."
            )
        with (
            locked(path),
            shown_progress(f"Fetching {package.name} {package.version}", package.num_bytes) as report,
        ):
            fetch_file(package.url, path, sha256=package.sha256, num_bytes=package.num_bytes, report=report)
    return paths


class EmojiAssets:
    """The pictures of the concepts. Create it with `EmojiAssets.open`.

    It can be pickled for other processes.

    Args:
        concepts: Concepts with pictures.
        pictures: The pictures as WebP or PNG, by name of the concept.

    Attributes:
        concepts: Concepts with pictures, with Unicode's annotations as tags.
    """

    def __init__(self, concepts: tuple[Concept, ...], pictures: Mapping[str, bytes]) -> None:
        self.concepts = concepts
        self._files = dict(pictures)
        self._pictures: dict[str, Image.Image] = {}

    @classmethod
    def open(
        cls, cache: str | Path | None = None, offline: bool = False, source: str | Path | None = None
    ) -> EmojiAssets:
        """Read the emoji set, and download it first if necessary.

        Args:
            cache: Folder for downloads; default: the cache of this package.
            offline: Whether downloads are forbidden.
            source: Another folder to read it from: with the two archives (`*.tgz`), or unpacked, with
                `assets/*.webp` and `en/data.json`.

        Raises:
            InputError: If it cannot be downloaded, or the folder has no emoji set.
        """
        members = _members(fetch_emoji(cache, offline=offline)) if source is None else _own(user_path(source))
        wanted = {f"assets/{concept.picture}.webp": concept for concept in load_concepts()}
        pictures: dict[str, bytes] = {}
        annotations: dict[str, tuple[str, ...]] = {}
        for name, data in members:
            if name in wanted:
                pictures[wanted[name].name] = data
            elif name == _ANNOTATIONS:
                annotations = _read_annotations(data)
        missing = [concept.name for concept in load_concepts() if concept.name not in pictures]
        if missing or not annotations:
            what = f"{len(missing)} pictures, such as that of {missing[0]!r}" if missing else repr(_ANNOTATIONS)
            raise InputError(
                f"The emoji set in {str(source or cache or 'the cache')!r} lacks {what}. It needs the archives "
                + " and ".join(repr(package.file_name) for package in EMOJI_PACKAGES)
                + ", or what is in them, in folders 'assets' and 'en'."
            )
        concepts = tuple(
            replace(concept, tags=annotations.get(concept.picture.removesuffix("-fe0f"), ()))
            for concept in load_concepts()
        )
        return cls(concepts, pictures)

    def picture(self, concept: Concept | str) -> Image.Image:
        """Return the picture of a concept.

        Args:
            concept: A concept or its name.

        Returns:
            RGBA, 256 px wide and high; shared, so do not change it.

        Raises:
            InputError: If there is none, or it cannot be read.
        """
        name = concept if isinstance(concept, str) else concept.name
        if name not in self._pictures:
            try:
                picture = Image.open(io.BytesIO(self._files[name])).convert("RGBA")
            except KeyError as error:
                raise InputError(f"There is no picture of {name!r}. Name a concept of `.concepts`.") from error
            except (UnidentifiedImageError, OSError) as error:
                raise InputError(
                    f"The picture of {name!r} in the emoji set is damaged: {error}. Delete the set and fetch it again."
                ) from error
            if picture.size != (PICTURE_PX, PICTURE_PX):
                picture = picture.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC)
            self._pictures[name] = picture
        return self._pictures[name]

    def __getstate__(self) -> dict[str, Any]:
        return {"concepts": self.concepts, "_files": self._files, "_pictures": {}}


def _own(folder: Path) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {str(folder)!r} with an emoji set. Leave it out to fetch one.")
    archives = sorted(folder.glob("*.tgz"))
    if archives:
        yield from _members(tuple(archives))
        return
    for file in (*sorted(folder.glob("assets/*.webp")), *folder.glob(_ANNOTATIONS)):
        yield file.relative_to(folder).as_posix(), file.read_bytes()


def _members(archives: tuple[Path, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each relevant file; npm archives have a top folder `package`."""
    for archive in archives:
        try:
            with tarfile.open(archive, "r|gz") as tar:
                for member in tar:
                    name = member.name.partition("/")[2]
                    if member.isfile() and (name.startswith("assets/") or name == _ANNOTATIONS):
                        file = tar.extractfile(member)
                        if file is not None:
                            yield name, file.read()
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            raise InputError(
                f"{str(archive)!r} cannot be read: {error}. Delete it, and it is fetched again."
            ) from error


def _read_annotations(data: bytes) -> dict[str, tuple[str, ...]]:
    try:
        entries = json.loads(data)
        return {entry["hexcode"].lower(): (entry["label"], *entry.get("tags", ())) for entry in entries}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{_ANNOTATIONS!r} of the emoji set is not what it should be: {error!r}.") from error
