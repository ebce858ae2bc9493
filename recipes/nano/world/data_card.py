"""The card of a data set in Markdown: counts of its records and answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.record_files import read_records
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.emoji import EMOJI_PACKAGES
from mgem_agent.user_files import user_path

__all__ = ["data_card", "write_data_card"]

_INTRODUCTION = """# Data card

Records in LLaVA's format, made by `mgem data`. Scenes are composed from emoji pictures, shapes, charts and printed
words. Every question about them has one right answer, which comes from the composition rather than from the picture.
Held-out scenes have their own seed and at least one pair (two things, a thing and its background, a word and its
colours, a shape and its colour) that no training scene has. English only. Drawn pictures only: a model cannot learn
photographs from them. Answers of the kind `replay` were written by a language model and may be wrong.
"""


def data_card(files: Sequence[Path]) -> str:
    """Return the card of some files of records.

    Args:
        files: The files.

    Raises:
        InputError: If one cannot be read.
    """
    sources = "\n".join(f"- `{package.name}` {package.version}, {package.licence}" for package in EMOJI_PACKAGES)
    parts = [_INTRODUCTION, f"Pictures of {len(load_concepts())} things come from these npm packages:\n\n{sources}\n"]
    parts += [_section(file) for file in files]
    return "\n".join(parts)


def write_data_card(folder: str | Path) -> Path:
    """Write the card of all files of records in a folder.

    Args:
        folder: The folder; the card is its `README.md`.

    Raises:
        InputError: If there are no records in it.
    """
    folder = user_path(folder)
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise InputError(f"{str(folder)!r} has no file of records (*.jsonl). Make one first: mgem data scenes --help")
    path = folder / "README.md"
    path.write_text(data_card(files), encoding="utf-8")
    return path


def _section(file: Path) -> str:
    kinds: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    words: Counter[str] = Counter()
    num_records = num_turns = num_drawing = 0
    for record in read_records(file):
        num_records += 1
        kinds[str(record.get("kind", "other"))] += 1
        answers.update(record.get("answer_kinds", ()))
        for turn in record["conversations"]:
            if turn["from"] == "gpt":
                num_turns += 1
                num_drawing += "<h>" in turn["value"]
                if turn["value"] in ("Yes.", "No."):
                    words[turn["value"]] += 1
    lines = [f"## {file.name}", "", f"{num_records:,} records, {num_turns:,} answers.", ""]
    if num_drawing:
        lines += [f"{num_drawing:,} answers have a caption to draw.", ""]
    if words:
        lines += [f"Yes and no: {words['Yes.']:,} and {words['No.']:,}.", ""]
    lines += _table("records", kinds)
    if answers:
        lines += _table("answers", answers)
    return "\n".join(lines)


def _table(title: str, counts: Mapping[str, int]) -> list[str]:
    rows = [f"| {name} | {count:,} |" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return [f"| kind | {title} |", "| --- | ---: |", *rows, ""]
