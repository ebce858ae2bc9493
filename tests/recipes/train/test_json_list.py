"""The places of a list's items in its file."""

from __future__ import annotations

import io
import json

import pytest

from mgem_agent.recipes.train import json_list
from mgem_agent.recipes.train.json_list import list_items


@pytest.mark.parametrize("read_bytes", [1, 5, 1000])
def test_items_are_at_their_offsets(monkeypatch: pytest.MonkeyPatch, read_bytes: int) -> None:
    monkeypatch.setattr(json_list, "_READ_BYTES", read_bytes)
    items = [{"a": 'ä]"} 画,'}, 1.5, None, ["x", {"y": []}], "é"]
    data = ("\n [ " + " ,\n".join(json.dumps(item, ensure_ascii=False) for item in items) + " ]\n").encode()
    found = list(list_items(io.BytesIO(data)))
    assert [json.loads(item) for _, item in found] == items
    assert all(data[place : place + len(item)] == item for place, item in found)
    assert list(list_items(io.BytesIO(b"[]"))) == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "the list does not end"),
        (b"{}", "does not begin with"),
        (b"[1, 2", "the list does not end"),
        (b'[{"a" 1}]', "delimiter"),
        (b"[1] [2]", "more after the list"),
    ],
)
def test_what_is_no_list_is_refused(data: bytes, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        list(list_items(io.BytesIO(data)))
