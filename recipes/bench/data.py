"""How long a training takes to start on many records, and its memory: shards against files, against `json.load`.

`mgem bench data` writes records of its own, each with a small picture, in every form. Then each start is measured in a
process of its own: from the imports to the first batch, with the order of all records. That `json.load` only reads the
list is in its favour.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgem_agent.errors import MgemError
from mgem_agent.recipes.bench.measure import require_positive
from mgem_agent.recipes.data.shards.pack import index_folder, pack_records

__all__ = ["DataStart", "DataStarts", "Start", "bench_data"]

Start = Literal["load", "check", "index"]
"""Only load the JSON list; check all records, then start; or start by the index."""

_WORDS = (
    "a the red small large dog house street light two on under beside tall old quiet morning water tree sky".split()
)
_MEAN_WORDS = 120
_PICTURE = "picture.jpg"
_NOTE = "Imports are not timed. Each start has a process of its own. On a busy machine, compare the processor's times."


class DataStart(BaseModel):
    """One way to start.

    Attributes:
        label: Its name.
        seconds: Seconds from after the imports to the first batch.
        processor_seconds: CPU seconds of the same, user and system.
        peak_bytes: Most memory of the process.
        import_bytes: Its memory after the imports.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    seconds: float
    processor_seconds: float
    peak_bytes: int
    import_bytes: int


class DataStarts(BaseModel):
    """All ways to start; the first is the baseline.

    Attributes:
        num_records: The records.
        list_bytes: Bytes of the JSON list.
        starts: The ways.
    """

    model_config = ConfigDict(frozen=True)

    num_records: int
    list_bytes: int
    starts: tuple[DataStart, ...]

    def render(self) -> RenderableType:
        """Return the figures as a table for the terminal."""
        table = Table("", "time", "processor", "memory", "without imports")
        for column in table.columns[1:]:
            column.justify = "right"
        for start in self.starts:
            sizes = (start.peak_bytes, start.peak_bytes - start.import_bytes)
            times = (f"{seconds:.2f} s" for seconds in (start.seconds, start.processor_seconds))
            table.add_row(start.label, *times, *(f"{size / 1e6:,.0f} MB" for size in sizes))
        title = f"{self.num_records:,} records with pictures; as a JSON list: {self.list_bytes / 1e6:,.0f} MB"
        return Group(Text(title, "bold"), table, Text(_NOTE))


def bench_data(
    *,
    num_records: int = 30_000,
    folder: Path | None = None,
    num_processes: int = 1,
    say: Callable[[str], None] = lambda message: None,
) -> DataStarts:
    """Write records, and measure each way to start.

    Args:
        num_records: Number of records.
        folder: Folder for the records, about 6 KB each, which are deleted at the end; None for the temporary folder.
        num_processes: Processes that pack the shards.
        say: Called with what is done next.

    Raises:
        InputError: If there are no records.
        MgemError: If a start fails.
    """
    require_positive(num_records=num_records)
    with tempfile.TemporaryDirectory(prefix="mgem-bench-", dir=folder) as here:
        say("Writing records")
        listed, lines = _write(Path(here), num_records)
        say("Packing shards")
        pack_records(lines, str(Path(here, "shards")), num_processes=num_processes)
        starts = []
        ways: list[tuple[str, Start, Path]] = [
            ("json.load, list", "load", listed),
            ("start, list, all checked", "check", listed),
            ("start, lines, all checked", "check", lines),
            ("start, lines, index", "index", lines),
            ("start, shards", "index", Path(here, "shards")),
        ]
        for label, way, path in ways:
            if path == lines and way == "index":
                index_folder(str(lines))
            say(f"Measuring: {label}")
            starts.append(DataStart(label=label, **_measured(way, path)))
        return DataStarts(num_records=num_records, list_bytes=listed.stat().st_size, starts=tuple(starts))


def _write(folder: Path, num_records: int) -> tuple[Path, Path]:
    """Write the records as a list and as lines."""
    Image.effect_noise((24, 24), 40).convert("RGB").save(folder / _PICTURE, quality=70)
    listed, lines = folder / "records.json", folder / "records.jsonl"
    with listed.open("w", encoding="utf-8") as as_list, lines.open("w", encoding="utf-8") as as_lines:
        for place, record in enumerate(_records(num_records)):
            text = json.dumps(record)
            as_list.write(("[" if place == 0 else ",\n") + text)
            as_lines.write(text + "\n")
        as_list.write("]")
    return listed, lines


def _records(num_records: int) -> Iterator[dict[str, Any]]:
    """Yield captions and dialogues of different lengths."""
    draw = random.Random(0)
    for number in range(num_records):
        turns = []
        for place in range(draw.choice((1, 1, 2, 4))):
            question = " ".join(draw.choices(_WORDS, k=12))
            answer = " ".join(draw.choices(_WORDS, k=1 + int(draw.expovariate(1 / _MEAN_WORDS))))
            turns.append({"from": "human", "value": f"<image>\n{question}?" if place == 0 else f"{question}?"})
            turns.append({"from": "gpt", "value": f"{answer}."})
        yield {"id": str(number), "image": _PICTURE, "conversations": turns}


def _measured(way: Start, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "mgem_agent.recipes.bench.data_start", way, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MgemError(f"The start from {path.name!r} ended with {done.returncode}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
