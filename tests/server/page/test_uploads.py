"""Pictures and recipes that a form sends."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from fastapi import UploadFile
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import ImageError, InputError
from mgem_agent.server.page.uploads import store_upload, store_uploads, uploaded_recipe


def upload(name: str, data: bytes) -> UploadFile:
    return UploadFile(io.BytesIO(data), filename=name)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


async def test_a_picture_keeps_its_name_without_folders(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for name in ("cat.png", "/etc/cat.png", "C:\\photos\\cat.png"):
        assert store.get(await store_upload(upload(name, png()), store)).origin == "cat.png"
    with pytest.raises(ImageError, match=r"The file 'x\.png'"):
        await store_upload(upload("x.png", b"no"), store)


async def test_too_many_pictures_are_refused_before_one_is_stored(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(InputError, match="3 pictures were sent. A message takes at most 2"):
        await store_uploads([upload(f"{n}.png", png()) for n in range(3)], store, most=2)
    assert await store_uploads([upload("", b"")], store, most=0) == [] and store.list() == []


async def test_a_recipe_is_read_and_its_errors_name_the_upload() -> None:
    recipe = await uploaded_recipe(upload("story.yaml", b"premise: A mouse.\nscenes: 2\n"))
    assert (recipe.premise, recipe.num_scenes) == ("A mouse.", 2)
    for name, data, message in (
        ("story.txt", b"premise: x", "is not a story recipe"),
        ("story.yaml", b"premis: x", r"The recipe 'story\.yaml' is not valid"),
        ("story.json", b"{", r"The recipe 'story\.json' cannot be read"),
        ("big.yaml", b"x" * 1_000_002, "larger than"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            await uploaded_recipe(upload(name, data))
        assert "mgem-recipe-" not in str(caught.value)
