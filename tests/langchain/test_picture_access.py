"""What an outer model may name."""

from __future__ import annotations

import base64
import io
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import ImageError, InputError
from mgem_agent.langchain.picture_access import AllowPaths, PictureAccess, has_other_root

CLOSED = (
    r"^The file {name!r} may not be read here\. Allowed: ids of stored pictures \(img-…\), data URLs and image blocks"
    r"{folders}\. The developer's option allow_paths allows files\.$"
)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder with a picture and links, and a picture beside it."""
    album = tmp_path / "album"
    album.mkdir()
    Image.new("RGB", (4, 3), "red").save(album / "cat.png")
    Image.new("RGB", (6, 5), "blue").save(tmp_path / "secret.png")
    (album / "inside.png").symlink_to(album / "cat.png")
    (album / "outside.png").symlink_to(tmp_path / "secret.png")
    (album / "circle.png").symlink_to(album / "circle.png")
    return album


def closed(name: str, folders: str = "") -> str:
    return CLOSED.replace("{name!r}", repr(name).replace(".", r"\.")).replace("{folders}", folders)


@pytest.mark.parametrize("allow_paths", [False, True])
def test_ids_and_pixels_are_always_taken(store: ArtifactStore, allow_paths: bool) -> None:
    access = PictureAccess.of(allow_paths)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    stored = access.store(f"data:image/png;base64,{data}", store)
    for image in (
        stored,
        {"type": "image", "file_id": stored},
        {"type": "image", "base64": data, "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": data},
        {"type": "image", "url": f"data:image/png;base64,{data}"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ):
        assert access.store(image, store) == stored


@pytest.mark.parametrize(
    "block", [{"type": "image", "url": "{}"}, {"type": "image_url", "image_url": {"url": "{}"}}, "{}"]
)
def test_no_file_is_read_by_default(store: ArtifactStore, album: Path, block: Any) -> None:
    def named(name: str) -> Any:
        if isinstance(block, str):
            return name
        return {"type": "image", "url": name} if "url" in block else {"type": "image_url", "image_url": {"url": name}}

    for name in (str(album / "cat.png"), str(album / "none.png")):  # by the same words
        with pytest.raises(InputError, match=closed(name)):
            PictureAccess().store(named(name), store)
    assert store.list() == []


def test_a_folder_opens_what_is_in_it(store: ArtifactStore, album: Path) -> None:
    access = PictureAccess.of(album)
    for name in ("cat.png", str(album / "cat.png"), "inside.png", "../album/cat.png"):
        assert store.open(access.store(name, store)).size == (4, 3)
        assert store.open(access.store({"type": "image", "url": name}, store)).size == (4, 3)
    for name in ("none.png", "x" * 5000):
        with pytest.raises(ImageError, match=r"^There is no file '.*album"):
            access.store(name, store)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png", "outside.png", "/etc/passwd", "../none.png", "a\0b", "../album-2/cat.png",
        "img-x/../../secret.png", "IMG-x/../../secret.png", "img-0123/../../secret.png", "circle.png/../../secret.png",
    ],
)  # fmt: skip
def test_nothing_outside_of_it_is_opened(store: ArtifactStore, album: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"may not be read here\. .* and files in '.*album'\. The developer's option"):
        PictureAccess.of(album).store(name, store)
    assert store.list() == []


def test_of_several_folders_the_one_that_has_the_file_counts(store: ArtifactStore, album: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    access = PictureAccess.of([other, str(album)])
    assert store.open(access.store("cat.png", store)).size == (4, 3)
    assert store.open(access.store(str(album / "cat.png"), store)).size == (4, 3)


def test_true_opens_every_file(store: ArtifactStore, album: Path) -> None:
    assert store.open(PictureAccess.of(True).store(str(album / "outside.png"), store)).size == (6, 5)


@pytest.mark.parametrize("allow_paths", [False, True, "."])
@pytest.mark.parametrize("address", ["http://10.0.0.1/x.png", "https://example.org/x.png", "FILE:///etc/passwd"])
def test_nothing_is_fetched(store: ArtifactStore, allow_paths: AllowPaths, address: str) -> None:
    access = PictureAccess.of(allow_paths)
    for image in (address, {"type": "image", "url": address}, {"type": "image_url", "image_url": address}):
        with pytest.raises(ImageError, match=r"is a URL, and URLs are not downloaded here"):
            access.store(image, store)


def test_a_folder_must_be_one(album: Path) -> None:
    wanted = r"^allow_paths names '.*cat\.png', which is not a folder\. Give one or more, True for any file or False"
    with pytest.raises(InputError, match=wanted):
        PictureAccess.of([album, album / "cat.png"])


@pytest.mark.parametrize("name", ["IMG-20240101-WA0003.jpg", "img-1.png", "img-0123.png", "Img-0123abcd"])
def test_a_name_that_begins_like_an_id_is_that_of_a_file(
    store: ArtifactStore, album: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Image.new("RGB", (4, 3), "red").save(album / name, "PNG")
    monkeypatch.chdir(album)
    with pytest.raises(InputError, match="may not be read here"):
        PictureAccess().store(name, store)
    assert store.list() == []
    assert store.open(PictureAccess.of(album).store(name, store)).size == (4, 3)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": {"type": "image", "url": "{}"}}},
        {"type": "image", "base64": "AAAA", "url": "{}"},
        {"type": "image", "file_id": "img-0123", "url": "{}"},
        {"type": "image", "source_type": "base64", "data": "AAAA", "url": "{}"},
        {"type": "image", "file_id": "{}"},
    ],
)
@pytest.mark.parametrize("allow_paths", [False, True])
def test_a_block_of_another_form_opens_nothing(
    store: ArtifactStore, album: Path, block: Any, allow_paths: bool
) -> None:
    def named(part: Any, name: str) -> Any:
        if isinstance(part, dict):
            return {key: named(value, name) for key, value in part.items()}
        return name if part == "{}" else part

    told = set()
    for name in ("cat.png", "not.png"):
        with pytest.raises(InputError) as caught:
            PictureAccess.of(allow_paths).store(named(block, str(album / name)), store)
        told.add(str(caught.value).replace(name, ""))
    assert len(told) == 1  # the same words whether the file exists or not
    assert store.list() == []


@pytest.mark.parametrize(
    ("name", "is_other"),
    [
        ("cat.png", False), ("sub\\cat.png", False), ("..\\secret.png", False), ("\\album\\cat.png", False),
        ("C:\\album\\cat.png", False), ("c:\\album\\cat.png", False), ("c:/album/cat.png", False),
        ("D:\\secret.png", True), ("D:secret.png", True), ("C:secret.png", True), ("\\\\host\\share\\x.png", True),
        ("//host/share/x.png", True), ("\\\\?\\C:\\secret.png", True), ("\\\\.\\pipe\\x", True),
    ],
)  # fmt: skip
def test_windows_never_looks_at_another_drive_or_server(name: str, is_other: bool) -> None:
    assert has_other_root(PureWindowsPath(name), PureWindowsPath("C:\\album")) is is_other
    assert not has_other_root(PurePosixPath("/etc/passwd"), PurePosixPath("/album"))
