"""The sources that a teacher writes about: descriptions of pictures, or conversations; each once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.record_files import read_records
from mgem_agent.recipes.data.teacher_prompts import TeacherKind, TeacherSource
from mgem_agent.user_files import user_path

__all__ = ["distinct_sources", "read_sources", "same_words"]

_MARKUP = re.compile(r"</?h>|<GEN>|<image>", re.IGNORECASE)


def read_sources(path: str | Path, kind: TeacherKind) -> list[TeacherSource]:
    """Read the sources of records. Their ids are made unique.

    Args:
        path: For `recaption`, a text file with one description a line, or JSON lines of records whose first answer is
            a description; for `in_context`, JSON lines of records with conversations, as `mgem data` writes them.
        kind: Kind of the records.

    Raises:
        InputError: If the file cannot be read, or is empty.
    """
    path = user_path(path)
    if kind == "recaption" and path.suffix != ".jsonl":
        sources = _lines(path)
    else:
        sources = [_of_record(record, number, path.stem, kind) for number, record in enumerate(read_records(path))]
    if not sources:
        raise InputError(f"{str(path)!r} has no sources.")
    return list(_with_unique_ids(sources))


def _lines(path: Path) -> list[TeacherSource]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}. Name a text file, one description a line.") from error
    return [TeacherSource(f"{path.stem}-{number}", line.strip()) for number, line in enumerate(lines) if line.strip()]


def _of_record(record: dict[str, Any], number: int, name: str, kind: TeacherKind) -> TeacherSource:
    identifier, rounds = str(record.get("id") or f"{name}-{number}"), _rounds(record, number)
    if kind == "in_context":
        return TeacherSource(identifier, rounds=rounds)
    description = " ".join(_MARKUP.sub(" ", rounds[0][1]).split()) if rounds else ""
    if not description:
        raise InputError(f"Record {number} has no description as its first answer.")
    return TeacherSource(identifier, description)


def _rounds(record: dict[str, Any], number: int) -> tuple[tuple[str, str], ...]:
    turns = record["conversations"]
    try:
        return tuple(
            (question["value"], answer["value"]) for question, answer in zip(turns[::2], turns[1::2], strict=True)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"Record {number} does not alternate between questions and answers.") from error


def _with_unique_ids(sources: Sequence[TeacherSource]) -> Iterator[TeacherSource]:
    seen: set[str] = set()
    for number, source in enumerate(sources):
        identifier = source.id if source.id not in seen else f"{source.id}#{number}"
        seen.add(identifier)
        yield TeacherSource(identifier, source.description, source.rounds)


def same_words(*texts: str) -> str:
    """Return a key that is the same for texts of the same words, whatever their case and punctuation."""
    return "\n".join(" ".join(re.findall(r"\w+", text.casefold())) for text in texts)


def distinct_sources(sources: Sequence[TeacherSource]) -> list[TeacherSource]:
    """Return the sources without those that have the words of an earlier one.

    Args:
        sources: The sources.
    """
    first: dict[str, TeacherSource] = {}
    for source in sources:
        key = same_words(source.description, *(text for turn in source.rounds for text in turn))
        first.setdefault(key, source)
    return list(first.values())
