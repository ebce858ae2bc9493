from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.workflows.book import BookPicture
from mgem_agent.workflows.book.picture_data import DEFAULT_HUE, hue_of, page_picture


def picture_of(folder: Path, size: tuple[int, int], colour: tuple[int, int, int] = (200, 30, 30)) -> BookPicture:
    path = folder / "picture.png"
    Image.new("RGB", size, colour).save(path)
    return BookPicture("img-0000", path, *size, alt="a picture")


def embedded(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(
    ("size", "shown", "carried"),
    [
        ((128, 128), (256, 256), (512, 512)),  # twice its size, sharp on a screen of two pixels for one
        ((64, 32), (192, 96), (384, 192)),
        ((256, 128), (288, 144), (576, 288)),
    ],
)
def test_a_small_picture_stays_small_and_sharp(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int], carried: tuple[int, int]
) -> None:
    picture = page_picture(picture_of(tmp_path, size))
    assert picture.is_small and (picture.width, picture.height) == shown
    assert embedded(picture.uri).size == carried


def test_a_large_picture_is_carried_no_larger_than_it_is_seen(tmp_path: Path) -> None:
    picture = page_picture(picture_of(tmp_path, (2560, 640)))
    assert not picture.is_small and (picture.width, picture.height) == (1280, 320)
    assert embedded(picture.uri).size == (1280, 320)


def test_the_hue_of_a_book_is_that_of_its_cover(tmp_path: Path) -> None:
    assert hue_of(picture_of(tmp_path, (32, 32), (255, 0, 0))) == 0
    assert hue_of(picture_of(tmp_path, (32, 32), (0, 0, 255))) == 240
    assert hue_of(picture_of(tmp_path, (32, 32), (90, 90, 90))) == DEFAULT_HUE
    assert hue_of(None) == DEFAULT_HUE
