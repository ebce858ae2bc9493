"""Reading JSON lists piece by piece."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.sources.converters import json_objects
from mgem_agent.recipes.train import json_list


@pytest.mark.parametrize("read_bytes", [1, 7, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_bytes: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_list, "_READ_BYTES", read_bytes)
    items = [{"a": "]},{ é"}, 12, [1, 2], "x", {"b": {"c": None}}, True]
    path = tmp_path / "a.json"
    path.write_text("\n " + json.dumps(items, indent=indent, ensure_ascii=False), encoding="utf-8")
    assert list(json_objects(path)) == items
    path.write_text("[]", encoding="utf-8")
    assert list(json_objects(path)) == []


def test_a_list_that_ends_early_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, {"b"', encoding="utf-8")
    read = json_objects(path)
    assert next(read) == {"a": 1}
    with pytest.raises(InputError, match=r"is not a complete JSON list: .*Fetch it again"):
        next(read)


def test_a_line_that_is_not_json_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"b\n', encoding="utf-8")
    assert list(json_objects(path)) == [{"a": 1}, None]
