"""The log of a run, one JSON object a line: what a person plots and a resumed run goes on writing.

A run that is taken up again at step n makes the steps after n once more; their lines are taken out first.
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
        step: Steps that were made before; later lines are taken out.
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
            **record: What it says; `step` among it.
        """
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(record))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log; a last one that was cut off by a kill is left out.

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
            f"{str(folder)!r} is no folder of a run: it has no {LOG_FILE}. Give what run.output names."
        ) from error
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records
