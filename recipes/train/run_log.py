"""The log of a run: one JSON object a line, with `step`, `loss`, `learning_rate`, `gradient_norm` and `time`.

A run that resumes at step n repeats the steps after n, so their lines are removed first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError

__all__ = ["LOG_FILE", "RunLog", "read_log"]

LOG_FILE = "log.jsonl"


class RunLog:
    """The log in a run's folder.

    Args:
        folder: The run's folder.
        step: Number of steps done; later lines are removed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / LOG_FILE
        if self._path.is_file():
            kept = [line for line in read_log(folder) if line["step"] <= step]
            passing = self._path.with_suffix(".part")
            passing.write_text("".join(_line(record) for record in kept), encoding="utf-8")
            passing.replace(self._path)

    def write(self, **record: Any) -> None:
        """Add a line.

        Args:
            **record: Its values; `step` must be one of them.
        """
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(record))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log, without a last line that a kill cut off.

    Args:
        folder: The run's folder.

    Raises:
        InputError: If the folder has no log.
    """
    path = folder / LOG_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            f"{str(folder)!r} is not the folder of a run: it has no {LOG_FILE}. Give the folder of a training."
        ) from error
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records
