from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.nano import download
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.emoji import EMOJI_PACKAGES, EmojiAssets, fetch_emoji


def test_pictures_and_annotations_are_read_from_the_archives(assets: EmojiAssets) -> None:
    assert [concept.name for concept in assets.concepts] == [concept.name for concept in load_concepts()]
    fox = next(concept for concept in assets.concepts if concept.name == "fox")
    assert fox.tags == ("fox", "animal", "face")
    assert assets.picture(fox).mode == "RGBA"
    assert assets.picture("fox").size == (256, 256)
    assert assets.picture("fox") is assets.picture(fox)
    with pytest.raises(InputError, match="There is no picture of 'gryphon'"):
        assets.picture("gryphon")


def test_an_unpacked_folder_serves_too(tmp_path: Path, emoji_folder: Path, assets: EmojiAssets) -> None:
    import tarfile

    for archive in emoji_folder.glob("*.tgz"):
        with tarfile.open(archive) as tar:
            tar.extractall(tmp_path, filter="data")
    unpacked = EmojiAssets.open(source=tmp_path / "package")
    assert unpacked.picture("owl").tobytes() == assets.picture("owl").tobytes()


def test_it_can_be_sent_to_another_process(assets: EmojiAssets) -> None:
    sent = pickle.loads(pickle.dumps(assets))
    assert sent.picture("bee").tobytes() == assets.picture("bee").tobytes()


def test_the_cache_serves_offline_and_its_lack_is_said(tmp_path: Path, emoji_folder: Path) -> None:
    assert [path.parent for path in fetch_emoji(emoji_folder, offline=True)] == [emoji_folder] * 2
    with pytest.raises(InputError, match="The emoji set is not here .* Run once without --offline and MGEM_OFFLINE"):
        EmojiAssets.open(cache=tmp_path, offline=True)


def test_what_is_missing_is_fetched_by_its_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch_file(url: str, path: Path, *, sha256: str, num_bytes: int, report: object) -> Path:
        asked.append((url, sha256, num_bytes))
        path.write_bytes(b"")
        return path

    monkeypatch.setattr(download, "fetch_file", fetch_file)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name)
    fetch_emoji(tmp_path)
    fetch_emoji(tmp_path)
    assert asked == [(package.url, package.sha256, package.num_bytes) for package in EMOJI_PACKAGES]
    assert asked[0][0] == "https://registry.npmjs.org/@lobehub/fluent-emoji-3d/-/fluent-emoji-3d-1.1.0.tgz"


def test_what_is_no_emoji_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder '.*none' with an emoji set"):
        EmojiAssets.open(source=tmp_path / "none")
    with pytest.raises(InputError, match="lacks 2.. pictures, such as that of 'monkey'"):
        EmojiAssets.open(source=tmp_path)
    (tmp_path / "broken.tgz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="broken.tgz' cannot be read: .* Delete it, and it is fetched again"):
        EmojiAssets.open(source=tmp_path)
