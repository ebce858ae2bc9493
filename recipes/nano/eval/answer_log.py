"""Answers on disk as they come, so that an interrupted evaluation goes on where it was.

One JSON object a line, each with the `id` of its question. What they are answers of stands beside them, as with records
of data: another model, another seed or changed weights do not add to them.
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
        writer: Adds to the file, whose last line is whole.

    Attributes:
        answers: Them, by id.
    """

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer
        with writer.path.open(encoding="utf-8") as lines:  # not splitlines: an answer may have separators of its own
            self.answers: dict[str, dict[str, Any]] = {found["id"]: found for found in map(json.loads, lines)}

    def add(self, answer: Mapping[str, Any]) -> None:
        """Keep an answer.

        Args:
            answer: Plain values, `id` among them.
        """
        self._writer.write(answer)
        self.answers[answer["id"]] = dict(answer)

    @classmethod
    @contextmanager
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Iterator[AnswerLog]:
        """Yield the log of a file, which is made if there is none.

        Args:
            path: The file.
            settings: What answers depend on.

        Raises:
            InputError: If the file has answers of other settings, or cannot be written.
        """
        with RecordWriter.open(path, settings) as writer:
            yield cls(writer)


def state_of(name: str | os.PathLike[str]) -> str | None:
    """Return what changes when the weights in a folder do; None of what is no folder.

    Args:
        name: A folder, or a name of another kind.
    """
    folder = user_path(name)
    if not folder.is_dir():
        return None
    found = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        state = file.stat()
        found.update(f"{file.relative_to(folder)}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    return found.hexdigest()[:16]
