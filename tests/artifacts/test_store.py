from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec.core
import pytest
from PIL import Image, PngImagePlugin

from mgem_agent.artifacts import ArtifactStore, default_artifact_root, encode_picture
from mgem_agent.errors import GeneratorOutputError, ImageError, InputError, ToolError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, ImageResult, Notice, draw

STORE_MANY = """
import sys
from PIL import Image
from mgem_agent.artifacts import ArtifactStore
store = ArtifactStore(sys.argv[1])
first, last = map(int, sys.argv[2:])
print("ready", flush=True)
for number in range(first, last):
    store.put_picture(Image.new("RGB", (300, 300), (number % 256, number // 256, 0)), origin=str(number))
"""


class Files:
    """The files of a store, as another program sees them: in a folder, or in a bucket."""

    def __init__(self, place: str) -> None:
        self.system, self.root = fsspec.core.url_to_fs(place, use_listings_cache=False)

    def names(self) -> list[str]:
        """The pictures and sidecars."""
        found = [str(path).removeprefix(f"{self.root}/") for path in self.system.find(self.root)]
        return sorted(name for name in found if not name.startswith("marks/"))

    def read(self, name: str) -> bytes:
        content: bytes = self.system.cat_file(f"{self.root}/{name}")
        return content

    def write(self, name: str, data: bytes) -> None:
        self.system.makedirs(f"{self.root}/{name}".rpartition("/")[0], exist_ok=True)
        self.system.pipe_file(f"{self.root}/{name}", data)

    def remove(self, name: str) -> None:
        self.system.rm_file(f"{self.root}/{name}")


def png(picture_id: str) -> str:
    return f"{picture_id[4:6]}/{picture_id}.png"


def sidecar(picture_id: str) -> str:
    return f"{picture_id[4:6]}/{picture_id}.json"


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store is; every test that asks for it holds in a folder and over the protocol of S3."""
    return str(tmp_path / "images") if request.param == "folder" else f"{request.getfixturevalue('s3')}/images"


@pytest.fixture
def store(place: str) -> ArtifactStore:
    return ArtifactStore(place)


@pytest.fixture
def files(place: str) -> Files:
    return Files(place)


@pytest.fixture
def folder(tmp_path: Path) -> ArtifactStore:
    """A store in a folder."""
    return ArtifactStore(tmp_path / "images")


def drawn(prompt: str = "a red fox", **fields: Any) -> ImageResult:
    pictures = {name: Image.new("RGB", (8, 8)) for name in ImageRequest(prompt=prompt, **fields).picture_ids}
    events = draw(FlatColourGenerator(size=(48, 32)), [ImageRequest(prompt=prompt, **fields)], pictures=pictures)
    [result] = [event for event in events if isinstance(event, ImageResult)]
    return result


def test_a_picture_is_stored_under_the_hash_of_its_bytes(store: ArtifactStore, files: Files) -> None:
    result = drawn(seed=7)
    artifact = store.put(result)
    data = store.path(artifact.id).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert (artifact.id, artifact.sha256) == (f"img-{digest[:12]}", digest)
    assert files.names() == [f"{digest[:2]}/{artifact.id}.json", f"{digest[:2]}/{artifact.id}.png"]
    assert files.read(png(artifact.id)) == data
    assert result.image is not None
    assert store.open(artifact.id).tobytes() == result.image.tobytes()
    assert store.get(artifact.id) == artifact
    assert (artifact.seed, artifact.asked, artifact.origin) == (7, result.request, "generated")
    assert artifact.recipe is not None and artifact.recipe.request == result.executed
    assert artifact.versions == {"flat": "1"} and artifact.created.utcoffset() is not None


def test_the_same_picture_is_stored_once_and_keeps_its_first_record(store: ArtifactStore, files: Files) -> None:
    first = store.put(drawn())
    again = store.put(drawn())
    assert again == first
    assert len(files.names()) == 2
    assert store.put(drawn(seed=1)).id != first.id


def test_notices_and_parents_are_kept(store: ArtifactStore) -> None:
    start = store.put_picture(Image.new("RGB", (8, 8), "red"), origin="fox.jpg")
    result = drawn("at night", task="edit", image=start.id)
    result = replace(result, notices=(Notice(argument="seed", message="m"),))
    artifact = store.put(result)
    assert artifact.parents == (start.id,)
    assert store.get(artifact.id).notices[0].message == "m"


def test_an_error_is_no_picture(store: ArtifactStore) -> None:
    request = ImageRequest(prompt="x")
    failed = ImageResult(0, request, request, "flat", "", error=GeneratorOutputError("blank"))
    with pytest.raises(InputError, match="no picture to store, but an error: blank"):
        store.put(failed)


def test_pictures_that_people_give(store: ArtifactStore, tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), "red").save(tmp_path / "fox.bmp")
    artifact = store.put_picture(tmp_path / "fox.bmp", origin="fox.bmp")
    assert (artifact.origin, artifact.recipe, artifact.seconds) == ("fox.bmp", None, None)
    assert store.put_picture((tmp_path / "fox.bmp").read_bytes(), origin="clipboard") == artifact
    with pytest.raises(ImageError):
        store.put_picture(b"hello", origin="hello.txt")


def test_a_file_of_the_store_is_known_again(store: ArtifactStore, files: Files) -> None:
    artifact = store.put(drawn())
    path = store.path(artifact.id)
    assert store.put_picture(path, origin="x") == artifact
    assert store.put_picture(str(path), origin="x") == artifact
    assert store.put_picture(path.read_bytes(), origin="x") == artifact
    assert len(files.names()) == 2


def test_ids_may_be_shortened(store: ArtifactStore) -> None:
    artifact = store.put(drawn())
    digits = artifact.id.removeprefix("img-")
    for short in (artifact.id[:8], digits[:4], f" {artifact.id} "):
        assert store.get(short) == artifact
    with pytest.raises(InputError, match="There is no picture 'img-0000' in .*Run: mgem images list"):
        store.get("img-0000")


@pytest.mark.parametrize(
    "wrong",
    ["", "img-", "img-ab", "../../etc/passwd", "img-../../x", "img-ABCDEF", "img-abcd*", "img-" + "a" * 65, "/etc"],
)
def test_an_id_is_never_a_path(folder: ArtifactStore, wrong: str) -> None:
    with pytest.raises(InputError, match="is not a picture id. An id is 'img-' and hexadecimal digits, at least 4"):
        folder.path(wrong)


def twins() -> tuple[Image.Image, Image.Image, str]:
    """Two pictures whose hashes begin with the same four digits, and the hash of the second."""
    seen: dict[str, Image.Image] = {}
    for number in range(65_536):
        image = Image.new("RGB", (1, 1), (number % 256, number // 256, 0))
        digest = hashlib.sha256(encode_picture(image)).hexdigest()
        if digest[:4] in seen:
            return seen[digest[:4]], image, digest
        seen[digest[:4]] = image
    raise AssertionError("65,536 pictures without a twin")


def test_ids_that_collide_get_longer(place: str) -> None:
    store = ArtifactStore(place, num_id_digits=4)
    image, twin, digest = twins()
    first, second = (store.put_picture(picture, origin="x") for picture in (image, twin))
    assert (first.id, second.id) == (f"img-{digest[:4]}", f"img-{digest[:8]}")
    assert store.put_picture(twin, origin="x") == second
    assert store.get(first.id) == first and store.get(second.id) == second
    assert store.open(first.id).tobytes() == image.tobytes()
    assert store.get(digest[:6]) == second


def test_an_id_that_is_cut_too_short(store: ArtifactStore, files: Files) -> None:
    first = store.put(drawn()).id
    twin = first[:-1] + ("0" if first[-1] != "0" else "1")
    files.write(png(twin), files.read(png(first)))
    with pytest.raises(InputError, match="is the beginning of 2 ids: img-[0-9a-f]{12}, img-.*Give more digits"):
        store.path(first[:-1])


def test_newest_first(folder: ArtifactStore) -> None:
    store, ids = folder, []
    for number in range(4):
        artifact = store.put(drawn(str(number)))
        stamp = 1_700_000_000 + number
        os.utime(store.path(artifact.id), (stamp, stamp))
        ids.append(artifact.id)
    assert [artifact.id for artifact in store.list()] == ids[::-1]
    assert [artifact.id for artifact in store.list(limit=2)] == [ids[3], ids[2]]
    assert ArtifactStore(store.root / "none").list() == []


def test_lineage(store: ArtifactStore) -> None:
    given = store.put_picture(Image.new("RGB", (8, 8)), origin="fox.jpg")
    first = store.put(drawn("a", task="edit", image=given.id))
    mask = "img-00000000dead"
    second = store.put(drawn("b", task="inpaint", image=first.id, mask=mask))
    third = store.put(drawn("c", references=(second.id, given.id)))
    found = store.lineage(third.id)
    assert list(found) == [third.id, second.id, given.id, first.id, mask]
    assert found[mask] is None and found[given.id] == given


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 9}', None])
def test_a_lost_sidecar_is_made_again_from_the_picture(
    store: ArtifactStore, files: Files, damage: bytes | None
) -> None:
    artifact = store.put(drawn("at night", task="edit", image="img-0123456789ab"))
    files.remove(sidecar(artifact.id)) if damage is None else files.write(sidecar(artifact.id), damage)
    found = store.get(artifact.id)
    assert (found.recipe, found.parents, found.sha256) == (artifact.recipe, artifact.parents, artifact.sha256)
    assert store.list() == [found]


def test_a_damaged_picture_is_said_to_be_and_mended_by_storing_it_again(place: str, files: Files) -> None:
    artifact = ArtifactStore(place).put(drawn())
    whole = files.read(png(artifact.id))
    files.write(png(artifact.id), whole[:200])
    shutil.rmtree(os.environ.get("MGEM_CACHE", "no-cache"), ignore_errors=True)  # as another machine reads it
    store = ArtifactStore(place)
    with pytest.raises(ImageError, match="cut off or damaged"):
        store.open(artifact.id)
    assert store.put(drawn()).id == artifact.id
    assert files.read(png(artifact.id)) == whole
    assert store.open(artifact.id).size == (48, 32)


def test_a_full_disk_loses_nothing(folder: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store, kept = folder, folder.put(drawn("kept"))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ToolError, match="cannot be written: No space left on device"):
            store.put(drawn("lost"))
    assert store.list() == [kept]
    assert store.put(drawn("lost")).title == "lost"
    assert len(store.list()) == 2


def test_a_kill_leaves_whole_pictures_only(place: str, store: ArtifactStore, files: Files) -> None:
    def pictures() -> int:
        return sum(name.endswith(".png") for name in files.names())

    with subprocess.Popen([sys.executable, "-c", STORE_MANY, place, "0", "60000"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        end = time.monotonic() + 60
        while pictures() < 5 and time.monotonic() < end:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    stored = store.list()
    assert len(stored) == pictures() >= 5
    for artifact in stored:
        assert artifact.origin != "unknown"
        assert hashlib.sha256(store.path(artifact.id).read_bytes()).hexdigest() == artifact.sha256


def test_two_processes_may_store_at_once(place: str, store: ArtifactStore, files: Files) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", STORE_MANY, place, first, last], stdout=subprocess.DEVNULL)
        for first, last in (("0", "16"), ("4", "20"))
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert sorted(int(artifact.origin) for artifact in store.list()) == list(range(20))
    assert all(store.open(artifact.id).size == (300, 300) for artifact in store.list())
    assert len(files.names()) == 40


def test_what_a_killed_program_left_is_removed(folder: ArtifactStore) -> None:
    store = folder
    artifact = store.put(drawn())
    parent = store.path(artifact.id).parent
    old, new = parent / ".img-1.png.a.mgem-part", parent / ".img-2.png.b.mgem-part"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    ArtifactStore(store.root).put(drawn())
    assert (old.exists(), new.exists()) == (False, True)
    assert store.list() == [artifact]


def test_the_usual_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MGEM_HOME", str(tmp_path))
    assert default_artifact_root() == ArtifactStore().root == tmp_path / "images"
    monkeypatch.delenv("MGEM_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_artifact_root().parts[-2:] == ("mgem-agent", "images")


def test_a_picture_and_its_record_are_made_to_last_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("mgem_agent.artifacts.atomic_file._sync_folder", synced.append)
    store = ArtifactStore(tmp_path)
    artifact = store.put_picture(Image.new("RGB", (64, 48), "red"), origin="red.png")
    assert synced == [store.path(artifact.id).parent]
    assert store.get(artifact.id) == artifact


def spoil(store: ArtifactStore) -> list[Path]:
    """Put into a store what cannot be read: a half picture, one of a later version, a pipe, and one with a record."""
    folder = store.root / "ab"
    folder.mkdir(parents=True)
    half, later, pipe, recorded = (folder / f"img-ab{number:010d}.png" for number in range(4))
    half.write_bytes(encode_picture(Image.new("RGB", (40, 40)))[:60])
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("mgem", '{"format": 2}')
    Image.new("RGB", (4, 4)).save(later, pnginfo=chunks)
    later.with_suffix(".json").write_text('{"format": 2}')
    os.mkfifo(pipe)
    os.mkfifo(pipe.with_suffix(".json"))
    artifact = store.put_picture(Image.new("RGB", (9, 9)), origin="a cut picture")
    path = store.path(artifact.id)
    path.write_bytes(path.read_bytes()[:-20])
    return [half, later, pipe, path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_what_cannot_be_read_blocks_nothing_else(folder: ArtifactStore) -> None:
    store = folder
    fox = store.put(drawn())
    *unlisted, recorded = spoil(store)
    skipped: dict[Path, str] = {}
    listed = store.list(on_skip=lambda path, error: skipped.update({path: str(error)}))
    assert fox.id in [artifact.id for artifact in listed] and len(listed) == 2
    assert sorted(skipped) == sorted(unlisted)
    assert [artifact.id for artifact in store.list(2)] == [artifact.id for artifact in listed]
    assert store.get(fox.id) == fox
    assert sorted(store.damaged()) == sorted([*unlisted, recorded])
    assert "is not a regular file" in store.damaged()[unlisted[2]]
    with pytest.raises(InputError, match="There is no picture"):
        store.path(unlisted[2].stem)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_in_place_of_a_record_is_not_waited_for(folder: ArtifactStore) -> None:
    store = folder
    fox = store.put(drawn())
    record = store.path(fox.id).with_suffix(".json")
    record.unlink()
    os.mkfifo(record)
    assert store.get(fox.id).recipe == fox.recipe
    assert store.find_drawn({"key": drawn().request}, generator="flat") == {}


def test_a_sparse_file_is_not_hashed(store: ArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(60 * 2**30)
    with pytest.raises(ImageError, match=r"has 64,424,509,440 bytes, and was not read"):
        store.put_picture(path, origin="a test")


def test_a_picture_that_is_shown_on_black_says_so(store: ArtifactStore) -> None:
    picture = Image.new("RGBA", (40, 20), (255, 255, 255, 0))
    picture.paste((255, 255, 255, 255), (10, 5, 20, 15))
    [notice] = store.put_picture(picture, origin="a logo").notices
    assert notice.message.startswith("The picture is white on a transparent background.")
