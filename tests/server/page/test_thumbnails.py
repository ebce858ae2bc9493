"""Pictures in the size that a page shows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.server.page.thumbnails import Thumbnails, shown_size


@pytest.mark.parametrize(("size", "size_px", "expected"), [((1600, 800), 384, (384, 192)), ((64, 32), 384, (512, 256))])
def test_large_ones_are_reduced_and_small_ones_enlarged(
    tmp_path: Path, size: tuple[int, int], size_px: int, expected: tuple[int, int]
) -> None:
    store = ArtifactStore(tmp_path)
    name = store.put_picture(Image.new("RGB", size, "red"), origin="x").id
    data = Thumbnails().get(store, name, size_px)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("WEBP", expected)


def test_the_newest_are_kept_and_a_deleted_picture_is_not_shown(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    names = [store.put_picture(Image.new("RGB", (8, 8), color), origin="x").id for color in ("red", "blue")]
    thumbnails = Thumbnails(max_bytes=1)
    assert [thumbnails.get(store, name, 384) for name in (*names, *names)][0:2] == [
        thumbnails.get(store, name, 384) for name in names
    ]
    store.path(names[0]).unlink()
    with pytest.raises(InputError, match="There is no picture"):
        thumbnails.get(store, names[0], 384)


def test_shown_sizes_keep_the_shape() -> None:
    assert shown_size(64, 32) == (256, 128)
    assert shown_size(512, 512) == (512, 512)
    assert shown_size(4096, 1) == (1024, 1)
