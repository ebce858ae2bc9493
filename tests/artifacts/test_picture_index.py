"""The index of a large folder of pictures finds what the files say, whatever happens to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mgem_agent.artifacts import picture_index
from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.drawn_call import call_key
from mgem_agent.artifacts.picture_index import INDEX_FILE, PictureIndex
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

Draw = Callable[..., Artifact]
OLD_S = 1_700_000_000


@pytest.fixture
def index(tmp_path: Path) -> PictureIndex:
    return PictureIndex(tmp_path, min_pictures=2)


@pytest.fixture
def drawn(tmp_path: Path) -> Draw:
    """Draw and store a picture, for a call if it has a key."""
    store, numbers = ArtifactStore(tmp_path), iter(range(100))

    def make(call: str | None = None, seed: int | None = None, age_s: int = 0) -> Artifact:
        request = ImageRequest(prompt=f"a fox {next(numbers)}", seed=seed)
        [result] = [
            event for event in draw(FlatColourGenerator(size=(16, 16)), [request]) if isinstance(event, ImageResult)
        ]
        artifact = store.put(result) if call is None else store.put(replace(result, call=call))
        path = store.path(artifact.id)
        os.utime(path, (OLD_S - age_s, OLD_S - age_s))
        return artifact

    return make


def settle(root: Path) -> None:
    """Let all folders be old enough for their times to be trusted."""
    for number, folder in enumerate(sorted(root.glob("[0-9a-f][0-9a-f]"))):
        os.utime(folder, (OLD_S + number, OLD_S + number))


def listed_folders(index: PictureIndex, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the folders that are read to find the newest pictures."""
    scanned = picture_index.scanned
    read: list[str] = []

    def noting(folder: str | os.PathLike[str]) -> object:
        read.append(Path(folder).name)
        return scanned(folder)

    with monkeypatch.context() as patch:
        patch.setattr(picture_index, "scanned", noting)
        index.newest()
    return read[1:]


def test_the_newest_are_first(index: PictureIndex, drawn: Draw) -> None:
    ids = [drawn(age_s=age).id for age in (30, 10, 20)]
    assert index.newest() == [ids[1], ids[2], ids[0]]
    assert index.newest(1) == [ids[1]]


def test_a_small_folder_and_a_missing_one_have_no_index(drawn: Draw, tmp_path: Path) -> None:
    assert PictureIndex(tmp_path / "missing").newest() == []
    first = drawn()
    assert PictureIndex(tmp_path, min_pictures=2).newest() == [first.id]
    assert not (tmp_path / INDEX_FILE).exists()


def test_only_folders_that_changed_are_read(
    index: PictureIndex, drawn: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = drawn(age_s=1), drawn(age_s=2)
    settle(tmp_path)
    assert index.newest() == [kept.id, gone.id] and (tmp_path / INDEX_FILE).is_file()
    assert listed_folders(index, monkeypatch) == []
    new = drawn(age_s=0)
    assert listed_folders(index, monkeypatch) == [new.id[4:6]]
    assert index.newest() == [new.id, kept.id, gone.id]
    ArtifactStore(tmp_path).path(gone.id).unlink()
    assert index.newest() == [new.id, kept.id]
    (tmp_path / gone.id[4:6] / f"{gone.id}.json").unlink()
    (tmp_path / gone.id[4:6]).rmdir()
    assert index.newest() == [new.id, kept.id]


def test_a_folder_that_just_changed_is_read_again(
    index: PictureIndex, drawn: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another picture may be stored within the resolution of the folder's time."""
    first = drawn()
    drawn()
    settle(tmp_path)
    os.utime(tmp_path / first.id[4:6])
    index.newest()
    assert listed_folders(index, monkeypatch) == [first.id[4:6]]


@pytest.mark.parametrize("damage", ["garbage", "older format", "locked"])
def test_a_broken_index_is_made_again(
    index: PictureIndex, drawn: Draw, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {drawn().id, drawn().id}
    index.newest()
    file = tmp_path / INDEX_FILE
    monkeypatch.setattr(picture_index, "BUSY_S", 0.05)
    if damage == "garbage":
        file.write_bytes(b"no database" * 100)
    other = sqlite3.connect(file)
    if damage == "older format":
        other.execute("PRAGMA user_version=99")
    elif damage == "locked":
        other.execute("BEGIN EXCLUSIVE")
    assert set(index.newest()) == ids
    other.close()
    assert set(index.newest()) == ids
    assert sqlite3.connect(file).execute("SELECT count(*) FROM picture").fetchone() == (2,)
    assert not list(tmp_path.glob(f".{INDEX_FILE}*"))


def test_an_index_that_cannot_be_saved_is_done_without(
    index: PictureIndex, drawn: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {drawn().id, drawn().id}

    def fail(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(picture_index.os, "replace", fail)
    assert set(index.newest()) == ids
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_pictures_of_calls_and_seeds_are_found(index: PictureIndex, drawn: Draw, tmp_path: Path) -> None:
    called, seeded, large, _ = drawn(call="a" * 32), drawn(seed=5), drawn(seed=2**63 - 1), drawn(call="b" * 32)
    assert index.drawn_for(["a" * 32], []) == [called.id]
    assert index.drawn_for(["a" * 32], [5, 2**63 - 1]) == sorted([called.id, seeded.id, large.id])
    assert index.drawn_for(["c" * 32], []) == []
    # The same picture, drawn again for another call: only its sidecar changes.
    settle(tmp_path)
    index.drawn_for([], [])
    sidecar = tmp_path / called.id[4:6] / f"{called.id}.json"
    passing = sidecar.with_suffix(".part")
    passing.write_text(sidecar.read_text().replace("a" * 32, "d" * 32))
    passing.replace(sidecar)
    assert index.drawn_for(["d" * 32], []) == [called.id] and index.drawn_for(["a" * 32], []) == []
    sidecar.write_text("not JSON")
    os.utime(sidecar.parent)
    assert index.drawn_for(["d" * 32], []) == []


def test_sidecars_are_read_once(
    index: PictureIndex, drawn: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [drawn(call="a" * 32), drawn(call="b" * 32)]
    settle(tmp_path)
    assert index.drawn_for(["b" * 32], []) == [pictures[1].id]
    monkeypatch.setattr(picture_index, "_signs", lambda path: pytest.fail(f"{path} is read again"))
    assert index.drawn_for(["b" * 32], []) == [pictures[1].id]


def test_a_store_finds_pictures_of_its_calls_by_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_index, "MIN_PICTURES", 1)
    store = ArtifactStore(tmp_path)
    fox, owl = ImageRequest(prompt="a fox"), ImageRequest(prompt="an owl", seed=3)
    key = call_key("turn", "0.0", fox)
    results = [
        event for event in draw(FlatColourGenerator(size=(16, 16)), [fox, owl]) if isinstance(event, ImageResult)
    ]
    stored = [store.put(replace(results[0], call=key)), store.put(results[1])]
    asked = {key: fox, "x" * 32: owl}
    assert store.find_drawn(asked, generator="flat") == dict(zip(asked, stored, strict=True))
    assert store.find_drawn(asked, generator="other") == {}
    assert [artifact.id for artifact in store.list(1)] == [store.ids()[0]]
