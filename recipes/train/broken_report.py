"""The records that a training could not use, with reasons: counted, and listed in a file."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mgem_agent.recipes.train.examples import BrokenRecord

__all__ = ["BrokenReport"]


class BrokenReport:
    """The records that one process could not use.

    Args:
        folder: The run's folder.
        process: Index of the process; each writes its own file.
    """

    def __init__(self, folder: Path, process: int) -> None:
        self._path = folder / f"broken-{process}.jsonl"
        self._seen: dict[tuple[str, int], str] = {}
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                self._seen[record["file"], record["position"]] = record["reason"]

    def add(self, records: Iterable[BrokenRecord]) -> None:
        """Add records; a repeated one counts once.

        Args:
            records: The records.
        """
        for record in records:
            if (record.file, record.position) not in self._seen:
                self._seen[record.file, record.position] = record.reason
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(dataclasses.asdict(record)) + "\n")

    def summary(self) -> str:
        """Return the counts by reason as text; empty if every record was used."""
        counts = Counter(self._seen.values()).most_common()
        if not counts:
            return ""
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
        return f"{len(self._seen)} record(s) not used: {reasons}; see {self._path}"
