"""Pictures and recipes that a form sends."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from fastapi import UploadFile

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.tools.printable_text import printable_text
from mgem_agent.workflows.story_recipe import StoryRecipe, load_story_recipe

__all__ = ["store_upload", "store_uploads", "uploaded_recipe"]

ENDINGS = (".yaml", ".yml", ".json")
MAX_RECIPE_BYTES = 1_000_000
MAX_NAME_CHARS = 100


async def store_uploads(files: Iterable[UploadFile], store: ArtifactStore, *, most: int) -> list[str]:
    """Store the pictures of a form, and return their ids.

    Args:
        files: The files; an empty file input sends one without a name.
        store: The user's pictures.
        most: Maximum number.

    Raises:
        InputError: If there are too many.
        ImageError: If one is not a picture.
    """
    given = [file for file in files if file.filename]
    if len(given) > most:
        raise InputError(f"{len(given)} pictures were sent. A message takes at most {most}.")
    return [await store_upload(file, store) for file in given]


async def store_upload(file: UploadFile, store: ArtifactStore) -> str:
    """Store one picture, and return its id.

    Raises:
        ImageError: If it is not a picture.
    """
    name, data = _name_of(file), await file.read()
    artifact = await asyncio.to_thread(store.put_picture, data, origin=name, name=f"the file {name!r}")
    return artifact.id


async def uploaded_recipe(file: UploadFile) -> StoryRecipe:
    """Return the story recipe of an uploaded file.

    Raises:
        InputError: If it is too large or not a valid recipe, or names pictures, which an upload does not have.
    """
    name, data = _name_of(file), await file.read(MAX_RECIPE_BYTES + 1)
    if not name.lower().endswith(ENDINGS):
        raise InputError(f"{name!r} is not a story recipe. Upload a file whose name ends in {', '.join(ENDINGS)}.")
    with tempfile.TemporaryDirectory(prefix="mgem-recipe-") as folder:
        path = Path(folder) / f"recipe{Path(name).suffix.lower()}"
        path.write_bytes(data)
        try:
            return await asyncio.to_thread(load_story_recipe, path)
        except InputError as error:
            raise InputError(str(error).replace(repr(str(path)), repr(name)).replace(folder, "the upload")) from error


def _name_of(file: UploadFile) -> str:
    """Return the name of a file without folders and control characters."""
    name = PureWindowsPath(PurePosixPath(file.filename or "").name).name
    return printable_text(name)[:MAX_NAME_CHARS] or "a picture"
