"""Prompts to draw: COCO's captions (Karpathy's split), DrawBench, LIMA, or a plain list."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError
from mgem_agent.user_files import read_user_file

__all__ = ["read_drawing_prompts"]

_MAX_BYTES = 1 << 30
_KEYS = ("prompt", "Prompts", "Prompt", "caption", "instruction")


def read_drawing_prompts(file: Path, split: str = "test") -> list[str]:
    """Read prompts.

    Args:
        file: `dataset_coco.json` of Karpathy's split (the first caption of each picture), a CSV such as DrawBench's,
            JSON lines with `prompt` or LIMA's `conversations` (the first turn), or a text with one prompt a line.
        split: The split of Karpathy's file.

    Raises:
        InputError: If the file is missing or empty, or has another form.
    """
    try:
        text = read_user_file(file, "The prompts", max_bytes=_MAX_BYTES)
    except FileNotFoundError as error:
        raise InputError(
            f"There is no file {str(file)!r}. Give dataset_coco.json, a CSV, JSON lines or a text."
        ) from error
    try:
        found = [prompt.strip() for prompt in _prompts(file.suffix.lower(), text, split)]
    except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"{str(file)!r} has no prompts that can be read: {error!r}. A line of JSON needs one of "
            f"{', '.join(map(repr, _KEYS))}, or LIMA's conversations."
        ) from error
    found = [prompt for prompt in found if prompt]
    if not found:
        raise InputError(f"{str(file)!r} has no prompts. Karpathy's file needs pictures of the split {split!r}.")
    return found


def _prompts(suffix: str, text: str, split: str) -> Iterator[str]:
    if suffix == ".json":
        images: list[dict[str, Any]] = json.loads(text)["images"]
        yield from (str(each["sentences"][0]["raw"]) for each in images if each["split"] == split)
    elif suffix == ".jsonl":
        yield from (_of_line(json.loads(line)) for line in text.splitlines() if line.strip())
    elif suffix in (".csv", ".tsv"):
        rows = csv.DictReader(text.splitlines(), delimiter="\t" if suffix == ".tsv" else ",")
        yield from (str(next(row[key] for key in _KEYS if key in row)) for row in rows)
    else:
        yield from text.splitlines()


def _of_line(told: dict[str, Any]) -> str:
    if "conversations" in told:
        first = told["conversations"][0]
        return str(first["value"] if isinstance(first, dict) else first)
    return str(next(told[key] for key in _KEYS if key in told))
