"""What a name of a picture comes to: bytes, an id, or a refusal."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mgem_agent.artifacts.named_picture import resolve_picture
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import ImageError, InputError


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()
TEXT = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{TEXT}"
PRIVATE = "/home/u/private.png"
TAKEN = [
    URL,
    {"type": "image", "base64": TEXT},
    {"type": "image", "base64": TEXT, "mime_type": "image/png", "id": "b1", "url": None, "file_id": ""},
    {"type": "image", "source_type": "base64", "data": TEXT},
    {"type": "image", "url": URL},
    {"type": "image_url", "image_url": URL},
    {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
]
FILE_BLOCKS = [
    PRIVATE,
    "private.png",
    "IMG-20240101-WA0003.jpg",
    "img-0123/../private.jpg",
    {"type": "image", "url": PRIVATE},
    {"type": "image_url", "image_url": PRIVATE},
    {"type": "image_url", "image_url": {"url": PRIVATE}},
]
REFUSED = [
    {"type": "image_url", "image_url": {"url": {"type": "image", "url": PRIVATE}}},
    {"type": "image_url", "image_url": {"type": "image", "url": PRIVATE}},
    {"type": "image_url", "image_url": {"image_url": {"url": PRIVATE}}},
    {"type": "image", "url": {"type": "image", "url": PRIVATE}},
    {"type": "image", "base64": TEXT, "url": PRIVATE},
    {"type": "image", "file_id": "img-0123", "url": PRIVATE},
    {"type": "image_url", "image_url": URL, "url": PRIVATE},
    {"type": "image_url", "url": PRIVATE},
    {"type": "image", "image_url": {"url": PRIVATE}},
    {"type": "image", "source": {"type": "url", "url": PRIVATE}},
    {"type": "image", "source_type": "path", "data": PRIVATE},
    {"type": "image", "data": PRIVATE},
    {"type": "image", "file_id": PRIVATE},
    {"type": "image", "file_id": ["img-0123"]},
    {"type": "image", "base64": PRIVATE.encode()},
    {"type": "image", "base64": {"url": PRIVATE}},
    {"type": "image"},
    {"type": "file", "url": PRIVATE},
    {"type": {"type": "image"}, "url": PRIVATE},
    {"type": "image_url", "image_url": {}},
    {"type": "image_url", "image_url": [PRIVATE]},
    {},
    None,
    7,
    [PRIVATE],
]


def never(name: str) -> bytes:
    raise AssertionError(f"{name} was read")


@pytest.mark.parametrize("named", TAKEN)
def test_data_is_always_taken(named: Any) -> None:
    found = resolve_picture(named)
    assert (found.data, found.picture_id) == (PNG, None)


@pytest.mark.parametrize("named", REFUSED)
def test_forms_that_are_not_known_are_refused(named: Any) -> None:
    with pytest.raises(InputError) as caught:
        resolve_picture(named, allow_ids=True, read_file=never)
    assert PRIVATE not in str(caught.value) or "file_id" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("named", FILE_BLOCKS)
def test_a_file_is_read_once_by_the_reader_alone(named: Any) -> None:
    read: list[str] = []

    def reader(name: str) -> bytes:
        read.append(name)
        return PNG

    assert resolve_picture(named, read_file=reader).data == PNG
    assert len(read) == 1
    with pytest.raises(InputError, match=r"^The picture is not given as data\. Give 'base64', or a data URL"):
        resolve_picture(named)


@pytest.mark.parametrize("named", ["img-0123abcd", {"type": "image", "file_id": "img-0123abcd"}])
def test_an_id_is_one_only_where_it_may_be_named(named: Any) -> None:
    assert resolve_picture(named, allow_ids=True, read_file=never).picture_id == "img-0123abcd"
    with pytest.raises(InputError, match="is not given as data"):
        resolve_picture(named)


def test_a_mapping_is_read_once() -> None:
    class Shifty(dict[str, Any]):
        """Answers `get` with another address each time."""

        def get(self, key: Any, default: Any = None) -> Any:
            return PRIVATE if key == "url" else super().get(key, default)

    assert resolve_picture(Shifty(type="image", base64=TEXT), read_file=never).data == PNG


def test_a_kept_picture_has_one_id_however_it_was_named(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    names = {resolve_picture(named).keep(store) for named in TAKEN}
    assert len(names) == 1
    assert resolve_picture(names.copy().pop(), allow_ids=True).keep(store) in names


def test_a_message_names_the_file_that_is_no_picture(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    found = resolve_picture(str(notes), read_file=lambda name: Path(name).read_bytes())
    with pytest.raises(ImageError, match=r"^'.*notes\.txt' is not a picture of a known format"):
        found.keep(ArtifactStore(tmp_path / "store"))


KEYS = st.sampled_from(
    ["type", "image_url", "url", "base64", "file_id", "data", "source", "source_type", "path", "id", "detail"]
)
LEAVES = st.sampled_from(
    [None, "", "image", "image_url", "base64", "url", PRIVATE, "../x.png", f"file://{PRIVATE}", "img-0123abcd",
     "IMG-0123abcd", "img-0123/../../x", URL, TEXT, 7, True, "\ud800", "data:,%zz", "data:", "C:\\x.png"]
)  # fmt: skip
BLOCKS = st.recursive(
    LEAVES,
    lambda inner: st.dictionaries(KEYS, inner, max_size=5) | st.lists(inner, max_size=2),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(block=BLOCKS, kind=st.sampled_from(["image", "image_url", None]))
def test_no_form_reads_a_file_where_none_may_be_named(block: Any, kind: str | None) -> None:
    if isinstance(block, dict) and kind is not None:
        block = {**block, "type": kind}
    try:
        found = resolve_picture(block)
    except InputError:
        return
    assert found.picture_id is None
    assert isinstance(found.data, bytes)
    assert found.origin == "a picture given as data"


@settings(max_examples=200, deadline=None)
@given(block=BLOCKS, kind=st.sampled_from(["image", "image_url"]))
def test_whatever_is_read_went_through_the_guard(block: Any, kind: str) -> None:
    asked: list[str] = []

    def guard(name: str) -> bytes:
        asked.append(name)
        raise InputError("closed")

    if isinstance(block, dict):
        block = {**block, "type": kind}
    try:
        found = resolve_picture(block, allow_ids=True, read_file=guard)
    except InputError:
        assert len(asked) <= 1
    else:
        assert not asked
        assert found.picture_id in (None, "img-0123abcd")
