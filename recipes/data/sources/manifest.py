"""Manifests: what is known of each source of the paper's two mixes, as YAML files in `recipes/data/manifests`.

A manifest names the source's home, licence, size, files, converter and known trouble. What nobody could verify is
listed under `unverified`; a checksum that is not known is left out. Paths are relative to the root folder of the data.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mgem_agent.errors import InputError

__all__ = ["Manifest", "SourceFile", "load_manifests", "mix_names", "sources_of"]


def _within(path: str) -> str:
    """Check that a path stays within the root folder."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts:
        raise ValueError(f"is a path within the root folder, got {path!r}")
    return path


Place = Annotated[str, AfterValidator(_within)]
Count = Annotated[int, Field(ge=1)]


class SourceFile(BaseModel):
    """One file or folder of a source, and where it comes from: exactly one of `hub`, `url` and `manual`.

    Args:
        to: Where it is kept below the root: a file, or for `manual` also a folder.
        hub: Data set on the Hugging Face hub.
        path: The file's path in it.
        url: Web address.
        manual: What a person must do, if it cannot be fetched.
        unpack: The file is an archive; folder that its content goes to.
        strip: Leading folders of the archive's names to leave out.
        flat: Whether to leave out all folders of the archive's names.
        sha256: Checksum, in hexadecimal; None if it is not known. Large files of the hub have theirs there.
        num_bytes: Exact size in bytes, if it is known.
        about_bytes: Approximate size in bytes, as its page shows it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: Place
    hub: str | None = None
    path: str | None = None
    url: str | None = None
    manual: str | None = None
    unpack: Place | None = None
    strip: Annotated[int, Field(ge=0)] = 0
    flat: bool = False
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    num_bytes: Count | None = None
    about_bytes: Count | None = None

    @model_validator(mode="after")
    def _check_origin(self) -> SourceFile:
        if sum(origin is not None for origin in (self.hub, self.url, self.manual)) != 1:
            raise ValueError("needs exactly one of hub, url and manual")
        if (self.hub is None) != (self.path is None):
            raise ValueError("needs path together with hub, and only then")
        return self

    @property
    def origin(self) -> str:
        """Where it comes from, for a person."""
        return self.url or (f"hub: {self.hub}/{self.path}" if self.hub else "by hand")


class Manifest(BaseModel):
    """A source of records.

    Args:
        name: Name of the manifest's file.
        title: What it is.
        mixes: Approximate number of its records in each mix, by the paper.
        home: Its page.
        licence: Its licence.
        converter: Reader of its records; see `converters`.
        records: Glob patterns of the files of its records, below the root.
        pictures: Folder of its pictures, for converters of names without folders.
        rename: New beginnings of the pictures' paths, by old beginning; the longest that fits counts.
        drop: Records whose picture begins with one of these are left out, before `rename`.
        folders: Beginnings of the paths of its own pictures, for the report.
        take: Number of records to draw; None for all.
        pictures_of: Other sources, whose pictures it needs too.
        trouble: Known trouble.
        unverified: Facts of this manifest that nobody has verified.
        files: Its files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    mixes: dict[str, Count]
    home: str
    licence: str
    converter: Literal["llava", "docvqa", "chartqa", "dvqa", "ai2d", "lima", "oasst2", "laion_gpt4v"]
    records: Annotated[tuple[Place, ...], Field(min_length=1)]
    pictures: Place = ""
    rename: dict[str, Place] = {}
    drop: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    take: Count | None = None
    pictures_of: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    files: Annotated[tuple[SourceFile, ...], Field(min_length=1)]

    def renamed(self, picture: str) -> str | None:
        """Return where a picture of a record is below the root; None if the record is left out.

        Args:
            picture: Its path as the source's records have it.
        """
        if picture.startswith(self.drop):
            return None
        fitting = [old for old in self.rename if picture.startswith(old)]
        if not fitting:
            return picture
        old = max(fitting, key=len)
        return self.rename[old] + picture.removeprefix(old)


def load_manifests() -> dict[str, Manifest]:
    """Return the shipped manifests, by name.

    Raises:
        InputError: If one is not valid.
    """
    folder = importlib.resources.files("mgem_agent.recipes.data") / "manifests"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return {name: read_manifest(name, file.read_text("utf-8")) for file in files for name in [file.name[:-5]]}


def read_manifest(name: str, text: str) -> Manifest:
    """Return a manifest.

    Args:
        name: Its name.
        text: Its YAML.

    Raises:
        InputError: If it is not valid.
    """
    try:
        return Manifest.model_validate({"name": name, **yaml.safe_load(text)})
    except (yaml.YAMLError, TypeError, ValidationError) as error:
        raise InputError(f"The manifest {name!r} is not valid: {error}") from error


def mix_names(manifests: dict[str, Manifest]) -> tuple[str, ...]:
    """Return the names of the mixes, sorted."""
    return tuple(sorted({mix for manifest in manifests.values() for mix in manifest.mixes}))


def sources_of(manifests: dict[str, Manifest], mix: str, only: Sequence[str] = ()) -> list[Manifest]:
    """Return the sources of a mix.

    Args:
        manifests: All manifests.
        mix: Name of the mix.
        only: Names of the sources to use; empty for all.

    Raises:
        InputError: If there is no such mix or source.
    """
    found = {name: manifest for name, manifest in manifests.items() if mix in manifest.mixes}
    if not found:
        raise InputError(f"There is no mix {mix!r}. Give one of: {', '.join(mix_names(manifests))}.")
    for name in only:
        if name not in found:
            raise InputError(f"The mix {mix!r} has no source {name!r}. Give some of: {', '.join(found)}.")
    return [manifest for name, manifest in found.items() if not only or name in only]
