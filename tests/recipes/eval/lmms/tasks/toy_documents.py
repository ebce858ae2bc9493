"""Functions of the toy tasks. lmms-eval imports this file by its path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image


def to_visual(doc: dict[str, Any]) -> list[Image.Image]:
    return [Image.new("RGB", (128, 128), doc["colour"])]


def to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    return str(doc["question"])


def to_choice(doc: dict[str, Any]) -> list[str]:
    return list(doc["choices"])


def to_target(doc: dict[str, Any]) -> int:
    return list(doc["choices"]).index(doc["answer"])


def answered(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    return {"answered": float(bool(results[0].strip()))}


def drawn(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    answer = json.loads(results[0])
    files = [Path(name) for name in answer["images"]]
    return {"drawn": float(bool(files) and all(file.is_file() for file in files))}


def scored(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    loss, is_greedy = results[0]
    return {"loss": loss, "acc": float(is_greedy)}
