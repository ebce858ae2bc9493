"""Pictures at an address: ids that are claimed, marks of calls, copies on this machine, and failures of the storage."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from mgem_agent.artifacts import picture_bucket
from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.picture_bucket import PictureBucket
from mgem_agent.artifacts.picture_copies import PictureCopies
from mgem_agent.artifacts.picture_file import encode_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import ImageError, InputError, StorageError, ToolError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

FOX, SEEDED = ImageRequest(prompt="a fox"), ImageRequest(prompt="a fox", seed=7)


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address of fsspec's memory."""
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path / "cache"))
    yield f"memory://{tmp_path.name}/pictures"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["memory", "s3"])
def place(request: pytest.FixtureRequest) -> str:
    """An address in memory, and one of a real server."""
    found: str = request.getfixturevalue("address" if request.param == "memory" else "s3")
    return found


def drawn(request: ImageRequest, call: str | None = None) -> ImageResult:
    [result] = [each for each in draw(FlatColourGenerator(size=(16, 16)), [request]) if isinstance(each, ImageResult)]
    return replace(result, call=call)


def squares(number: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (number, 0, 0))


def record(data: bytes, picture_id: str) -> tuple[Artifact, bytes]:
    artifact = Artifact.model_validate(
        {"id": picture_id, "sha256": hashlib.sha256(data).hexdigest(), "width": 8, "height": 8, "created": time.time()}
    )
    return artifact, artifact.model_dump_json().encode()


def test_pictures_are_found_by_their_calls_and_by_seeds(place: str) -> None:
    store = ArtifactStore(place)
    store.put(drawn(FOX, "first"))
    again = store.put(drawn(FOX, "second"))  # the same picture, drawn for another call
    asked = {"second": FOX, "third": FOX, "fourth": SEEDED}
    assert ArtifactStore(place).find_drawn(asked, generator="flat") == {"second": again}
    seeded = store.put(drawn(SEEDED))
    assert store.find_drawn(asked, generator="flat") == {"second": again, "fourth": seeded}
    assert store.find_drawn(asked, generator="other") == {}
    system, root = fsspec.url_to_fs(f"{place}/{again.id[4:6]}/{again.id}.png")
    system.rm_file(root)
    assert store.find_drawn({"second": FOX}, generator="flat") == {}
    with pytest.raises(InputError, match=f"There is no picture '{again.id}' in '{place}'"):
        store.get(again.id)


def test_of_two_pictures_with_one_id_each_keeps_its_own(place: str) -> None:
    first, second = encode_picture(squares(1)), encode_picture(squares(2))
    files, name = PictureBucket(place), "img-abcd"
    assert files.add(*record(first, name), first)
    assert not files.add(*record(second, name), second)
    assert files.path(name).read_bytes() == first
    assert files.locate(hashlib.sha256(first).hexdigest(), 60) == (
        f"img-{hashlib.sha256(first).hexdigest()[:60]}",
        False,
    )


def test_an_id_is_claimed_before_its_picture_is_there(place: str) -> None:
    data, other = encode_picture(squares(1)), encode_picture(squares(2))
    digest = hashlib.sha256(data).hexdigest()
    name = f"img-{digest[:4]}"
    system, root = fsspec.url_to_fs(place)
    _, claim = record(other, name)
    system.pipe_file(f"{root}/{name[4:6]}/{name}.json", claim)
    files, store = PictureBucket(place), ArtifactStore(place, num_id_digits=4)
    assert store.list() == [] and files.locate(digest, 4) == (f"img-{digest[:8]}", False)
    assert store.put_picture(data, origin="x").id == f"img-{digest[:8]}"
    _, own = record(data, f"img-{digest[:12]}")  # a killed program has left only the record
    system.pipe_file(f"{root}/{name[4:6]}/img-{digest[:12]}.json", own)
    assert PictureBucket(place).locate(digest, 12) == (f"img-{digest[:12]}", False)
    assert ArtifactStore(place).put_picture(data, origin="y").origin == "y"
    assert ArtifactStore(place).get(f"img-{digest[:12]}").origin == "y"


def test_the_list_is_asked_for_again_after_a_while(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = ArtifactStore(address), ArtifactStore(address)
    first = here.put_picture(squares(1), origin="1")
    assert there.ids() == [first.id]
    before = there.revision()
    second = here.put_picture(squares(2), origin="2")
    assert set(here.ids()) == {first.id, second.id}
    assert there.get(second.id) == second
    assert there.ids() == [first.id]
    monkeypatch.setattr(picture_bucket, "LISTED_S", -1.0)
    assert set(there.ids()) == {first.id, second.id} and there.revision() != before


def test_the_newest_are_first(address: str) -> None:
    store = ArtifactStore(address)
    ids = [store.put_picture(squares(number), origin="x").id for number in range(4)]
    assert ArtifactStore(address).ids() == ids[::-1]
    assert [artifact.id for artifact in store.list(2)] == ids[:1:-1]
    assert list(store.records(ids[:2])) == ids[:2]


def test_each_user_has_pictures_below(address: str) -> None:
    store = ArtifactStore(address)
    inner = store.below("users", "ann")
    artifact = inner.put_picture(squares(1), origin="x")
    assert (inner.place, store.ids(), inner.ids()) == (f"{address}/users/ann", [], [artifact.id])
    assert inner.root != store.root


def test_a_damaged_picture_is_named(address: str) -> None:
    store = ArtifactStore(address)
    whole, cut = (store.put_picture(squares(number), origin="x") for number in (1, 2))
    fsspec.filesystem("memory").pipe_file(f"{address}/{cut.id[4:6]}/{cut.id}.png", b"\x89PNG\r\n\x1a\n" + b"0" * 90)
    assert list(store.damaged()) == [store.root / cut.id[4:6] / f"{cut.id}.png"]
    assert store.records([whole.id, cut.id, "img-00000000dead"]).keys() == {whole.id, cut.id}


def test_a_failure_is_no_missing_picture(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(address)
    artifact = store.put_picture(squares(1), origin="x")

    def broken(*given: Any, **named: Any) -> None:
        raise OSError("the network is down")

    with monkeypatch.context() as patch:
        for name in ("info", "cat_file", "ls"):
            patch.setattr(MemoryFileSystem, name, broken)
        for ask in (store.get, store.path):
            with pytest.raises(StorageError, match="cannot be read: OSError: the network is down. Check the address"):
                ask(artifact.id)
        with pytest.raises(StorageError, match="cannot be read"):
            store.list()
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "pipe_file", broken)
        patch.setattr(MemoryFileSystem, "pipe", broken)
        with pytest.raises(ToolError, match=r"\.json' cannot be written: OSError: .*before is still there") as failed:
            store.put_picture(squares(2), origin="x")
        assert failed.value.retryable
    assert store.get(artifact.id) == artifact


def test_copies_are_checked_and_the_oldest_removed(tmp_path: Path) -> None:
    copies = PictureCopies(tmp_path, max_bytes=250)
    data = [bytes([number]) * 100 for number in range(3)]
    names = [f"img-{hashlib.sha256(each).hexdigest()[:12]}" for each in data]
    for name, each in zip(names[:2], data, strict=False):
        os.utime(copies.put(name, each), (1, 1))
    assert copies.get(names[1]) == copies.path(names[1])  # which is used, and so is the newer one
    copies.put(names[2], data[2])
    assert [copies.get(name) is not None for name in names] == [False, True, True]
    copies.path(names[1]).write_bytes(b"damaged")
    assert copies.get(names[1]) is None and copies.get("img-00000000dead") is None


def test_a_copy_that_cannot_be_written_loses_no_picture(address: str, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("a file where the folder should be")
    files = PictureBucket(address, copies=PictureCopies(tmp_path / "full"))
    data = encode_picture(squares(1))
    name = f"img-{hashlib.sha256(data).hexdigest()[:12]}"
    assert files.add(*record(data, name), data)
    with pytest.raises(ToolError, match="cannot be written"):
        files.path(name)
    assert ArtifactStore(address).open(name).size == (8, 8)
    with pytest.raises(ImageError, match="There is no file"):
        files.path("img-00000000dead")


def test_how_many_requests_it_takes(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the guide states it."""
    from s3fs import S3FileSystem

    asked: list[str] = []
    inner: Any = vars(S3FileSystem)["_call_s3"]

    async def counted(self: Any, method: str, *given: Any, **named: Any) -> Any:
        asked.append(method)
        return await inner(self, method, *given, **named)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)

    def requests(work: Callable[[], object]) -> list[str]:
        asked.clear()
        work()
        return sorted(asked)

    copies = PictureCopies(Path(os.environ["MGEM_CACHE"], "of another machine"))
    store, other = ArtifactStore(s3), PictureBucket(s3, copies=copies)
    assert requests(lambda: store.put_picture(squares(1), origin="x")) == ["get_object"] * 2 + ["put_object"] * 2
    assert requests(lambda: store.put(drawn(SEEDED, "call"))) == ["get_object"] * 2 + ["put_object"] * 4
    first, second = store.ids()
    assert requests(lambda: store.get(first)) == ["get_object"] * 2
    assert requests(lambda: store.path(first)) == ["get_object"]
    assert requests(lambda: other.path(other.find(first.removeprefix("img-"))[0])) == ["get_object"] * 2


def test_a_bucket_that_does_not_exist_is_found_out(s3: str, address: str) -> None:
    ArtifactStore(f"{s3}/new/prefix").check()
    ArtifactStore(address).check()
    missing = ArtifactStore(f"{s3}-missing/prefix")
    assert missing.list() == []
    with pytest.raises(StorageError, match="-missing/prefix' cannot be read: FileNotFoundError: "):
        missing.check()
    with pytest.raises(ToolError, match="cannot be written: FileNotFoundError: The specified bucket does not exist"):
        missing.put_picture(squares(1), origin="x")
