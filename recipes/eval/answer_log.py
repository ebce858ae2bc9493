"""A log of answers, so that an interrupted evaluation can resume.

It has one JSON object a line, with the `id` of the question. A file next to it has the settings, as for training
records: answers of another model, another seed or changed weights are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mgem_agent.recipes.data.record_files import RecordWriter
from mgem_agent.user_files import user_path

__all__ = ["AnswerLog", "state_of"]


class AnswerLog:
    """The answers so far. Use `AnswerLog.open`.

    Args:
        writer: Writer of the file.

    Attributes:
        answers: The answers by id.
    """

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer
        with writer.path.open(encoding="utf-8") as lines:  # not splitlines: answers may contain line separators
            self.answers: dict[str, dict[str, Any]] = {found["id"]: found for found in map(json.loads, lines)}

    def add(self, answer: Mapping[str, Any]) -> None:
        """Store an answer.

        Args:
            answer: Plain values, including `id`.
        """
        self._writer.write(answer)
        self.answers[answer["id"]] = dict(answer)

    @classmethod
    @contextmanager
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Iterator[AnswerLog]:
        """Open the log of a file, which is created if missing.

        Args:
            path: The file.
            settings: What the answers depend on.

        Raises:
            InputError: If the file has answers of other settings, or cannot be written.
        """
        with RecordWriter.open(path, settings) as writer:
            yield cls(writer)


def state_of(name: str | os.PathLike[str]) -> str | None:
    """Return a hash of the sizes and times of a folder's files; None if it is not a folder.

    Args:
        name: A folder, or any other name.
    """
    folder = user_path(name)
    if not folder.is_dir():
        return None
    found = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        state = file.stat()
        found.update(f"{file.relative_to(folder)}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    return found.hexdigest()[:16]
