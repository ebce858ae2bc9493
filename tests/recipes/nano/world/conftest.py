from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.emoji import EMOJI_PACKAGES, EmojiAssets


def drawn_picture(number: int) -> bytes:
    image = Image.new("RGBA", (24, 24), (0, 0, 0, 0))
    colour = (number % 256, (number * 7) % 256, 120, 255)
    ImageDraw.Draw(image).ellipse((4, 2 + number % 6, 20, 22), fill=colour)
    file = io.BytesIO()
    image.save(file, "webp", lossless=True, quality=0, method=0)
    return file.getvalue()


def emoji_files() -> dict[str, bytes]:
    files = {f"assets/{c.picture}.webp": drawn_picture(n) for n, c in enumerate(load_concepts())}
    files["en/data.json"] = json.dumps([{"hexcode": "1F98A", "label": "fox", "tags": ["animal", "face"]}]).encode()
    return files


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="session")
def emoji_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two archives of the emoji set, with drawn pictures."""
    folder = tmp_path_factory.mktemp("emoji")
    files = emoji_files()
    annotations = {"en/data.json": files.pop("en/data.json")}
    for package, content in zip(EMOJI_PACKAGES, (files, annotations), strict=True):
        write_archive(folder / package.file_name, content)
    return folder


@pytest.fixture(scope="session")
def assets(emoji_folder: Path) -> EmojiAssets:
    return EmojiAssets.open(source=emoji_folder)
