"""File names as people have them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from PIL import Image

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.cli.typed_path import find_picture, store_typed, typed_path, typed_paths
from mgem_agent.errors import ImageError, InputError

NAMES = [
    "a b.png",
    "img-001.png",
    "IMG-20240101-WA0003.jpg",
    "it's.png",
    'a "b".png',
    "ä%20b.png",
    "a\\b.png",
    "a#b?.png",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_every_way_in_which_terminals_paste_a_file(folder: Path, name: str) -> None:
    path = folder / name
    Image.new("RGB", (4, 3)).save(path, "PNG")
    escaped = "".join(letter if letter.isalnum() or letter in "/._-" else f"\\{letter}" for letter in str(path))
    pasted = [name, f" {name} ", f"./{name}", str(path), shlex.quote(str(path)), escaped, path.as_uri()]
    pasted.append(path.as_uri().replace("file://", "file://localhost"))
    if '"' not in name and "\\" not in name:
        pasted.append(f'"{path}"')
    store = ArtifactStore(folder / "store")
    assert {find_picture(text, store) for text in pasted} == {store.list()[0].id}
    assert all(typed_path(text).resolve() == path for text in pasted)


def test_a_name_is_taken_as_it_is_written_if_there_is_such_a_file(folder: Path) -> None:
    for name in ("'quoted'.png", "quoted.png"):
        (folder / name).touch()
    assert typed_path("'quoted'.png").name == "'quoted'.png"
    assert typed_path("'new'.png").name == "new.png"


def test_homes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert typed_path("~/a.png") == folder / "a.png"
    with pytest.raises(InputError, match="begins with an unknown home folder"):
        typed_path("~nosuchuser/a.png")


@pytest.mark.parametrize("text", ["file://server/a.png", "https://example.org/a.png"])
def test_other_machines_are_no_files(text: str) -> None:
    assert str(typed_path(text)) == str(Path(text))


def test_several_files_may_be_dropped(folder: Path) -> None:
    for name in ("a b.png", "c.png"):
        (folder / name).touch()
    assert typed_paths(r"a\ b.png c.png") == [Path("a b.png"), Path("c.png")]
    assert typed_paths("a b.png") == [Path("a b.png")]
    assert typed_paths("c.png no.png") == [Path("c.png no.png")]


def test_ids_and_what_is_nothing(folder: Path) -> None:
    store = ArtifactStore(folder / "store")
    name = store.put_picture(Image.new("RGB", (4, 3)), origin="a test").id
    assert find_picture(name, store) == find_picture(name[:10], store) == name
    with pytest.raises(InputError, match="There is no picture 'img-0000'"):
        find_picture("img-0000", store)
    for text in ("", "no.png", "img-001.png", "x" * 5000, "nul\0l"):
        assert find_picture(text, store) is None
    with pytest.raises(ImageError, match="is a folder"):
        find_picture(str(folder), store)
    assert store_typed(name[:10], store) == name
    with pytest.raises(ImageError, match=r"^There is no file 'no\.png'"):
        store_typed("no.png", store)
