"""Records with their pictures: one, two and none, and some that cannot be used."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


def picture_bytes(colour: str, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, kind)
    return file.getvalue()


def turns(question: str, answer: str = "Yes.") -> list[dict[str, Any]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


@pytest.fixture
def records() -> list[Any]:
    """Seven records; those at 3 and 5 cannot be used."""
    return [
        {"id": "a", "image": "red.png", "conversations": turns("<image>\nRed?")},
        {"id": "b", "image": ["sub/blue.jpg", "red.png"], "conversations": turns("<image><image>\nÜber?")},
        {"id": "c", "conversations": turns("Words?", "Only words.")},
        {"id": "d", "image": "gone.png", "conversations": turns("<image>?")},
        {"id": "e", "image": "red.png", "conversations": turns("<image>?", "x" * 70_000)},
        {"id": "f", "conversations": turns("Words?")[:1]},
        {"id": "g", "conversations": turns("Draw.")},
    ]


@pytest.fixture
def records_file(tmp_path: Path, records: list[Any]) -> Path:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "red.png").write_bytes(picture_bytes("red"))
    (folder / "sub" / "blue.jpg").write_bytes(picture_bytes("blue", "JPEG"))
    file = folder / "records.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file
