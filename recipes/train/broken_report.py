"""The records that a training could not use or had to repair, with reasons: counted by source, and listed in files."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from mgem_agent.recipes.train.examples import BrokenRecord

__all__ = ["BrokenReport", "by_source"]


def by_source(counts: Mapping[tuple[str, str], int]) -> list[str]:
    """Return a line for each file, with the counts of its reasons.

    Args:
        counts: Number of records by file and reason.
    """
    files: dict[str, Counter[str]] = {}
    for (file, reason), count in counts.items():
        files.setdefault(file, Counter())[reason] += count
    return [
        f"{file}: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        for file, reasons in files.items()
    ]


class _Listed:
    """Records with reasons, each listed once in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: dict[tuple[str, int], str] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                self.seen[record["file"], record["position"]] = record["reason"]

    def add(self, records: Iterable[BrokenRecord]) -> None:
        for record in records:
            if (record.file, record.position) not in self.seen:
                self.seen[record.file, record.position] = record.reason
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(dataclasses.asdict(record)) + "\n")

    def summary(self, what: str) -> list[str]:
        counts = Counter(self.seen.values()).most_common()
        if not counts:
            return []
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
        lines = by_source(Counter((file, reason) for (file, _), reason in self.seen.items()))
        several = [f"  {line}" for line in lines] if len(lines) > 1 else []
        return [f"{len(self.seen)} record(s) {what}: {reasons}; see {self.path}", *several]


class BrokenReport:
    """The records that one process could not use or had to repair.

    Args:
        folder: The run's folder.
        process: Index of the process; each writes its own files.
    """

    def __init__(self, folder: Path, process: int) -> None:
        self._broken = _Listed(folder / f"broken-{process}.jsonl")
        self._repaired = _Listed(folder / f"repaired-{process}.jsonl")

    def add(self, broken: Iterable[BrokenRecord], repaired: Iterable[BrokenRecord] = ()) -> None:
        """Add records; a repeated one counts once.

        Args:
            broken: Records that were replaced.
            repaired: Records whose marks were repaired.
        """
        self._broken.add(broken)
        self._repaired.add(repaired)

    def summary(self) -> str:
        """Return the counts by reason, and by source if there are several; empty if there is nothing to say."""
        return "\n".join([*self._repaired.summary("repaired"), *self._broken.summary("not used")])
