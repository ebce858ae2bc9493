"""What is an id of a stored picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.artifacts.picture_id import is_picture_id, picture_id_digits
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError

NO_IDS = [
    "", "img-", "img-123", "img-12345g", "img-0123ABCD", "IMG-0123abcd", "Img-0123", "img-001.png", "img-0123.png",
    "IMG-20240101-WA0003.jpg", "img-0123/../private.png", "img-0123\\..\\private.png", "img-0123/", "img-0123\n",
    " img-0123", "img-img-0123", "img-\u0661\u0662\u0663\u0664", "img-" + "0" * 65, "a/img-0123",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_IDS)
def test_only_a_full_match_is_an_id(text: str) -> None:
    assert not is_picture_id(text)


@pytest.mark.parametrize("text", ["img-0123", "img-" + "0123456789abcdef" * 4])
def test_ids(text: str) -> None:
    assert is_picture_id(text)
    assert picture_id_digits(text) == picture_id_digits(text.removeprefix("img-")) == text[4:]


@pytest.mark.parametrize("thing", [None, 7, b"img-0123", {"id": "img-0123"}])
def test_what_is_no_string_is_no_id(thing: object) -> None:
    assert not is_picture_id(thing)


@pytest.mark.parametrize("text", ["img-0123/../private.png", "../../etc/passwd", "img-*"])
def test_the_store_opens_nothing_else(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="is not a picture id"):
        ArtifactStore(tmp_path).path(text)
