"""Each way to start makes the same first batch; starts are measured in processes of their own."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mgem_agent.errors import InputError, MgemError
from mgem_agent.recipes.bench import data
from mgem_agent.recipes.bench.data import DataStart, DataStarts, bench_data
from mgem_agent.recipes.bench.data_start import first_batch, main
from mgem_agent.recipes.data.shards.pack import index_folder, pack_records

write = data._write  # pyright: ignore[reportPrivateUsage]


def test_every_way_makes_the_same_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed, lines = write(tmp_path, 20)
    assert len(json.loads(listed.read_text())) == len(lines.read_text().splitlines()) == 20
    pack_records(lines, str(tmp_path / "shards"))
    tokens = [first_batch(path, check_first=True) for path in (listed, lines, tmp_path / "shards")]
    index_folder(str(lines))
    tokens.append(first_batch(lines, check_first=False))
    assert len(set(tokens)) == 1 and tokens[0] > 16 * 16
    for way in ("load", "index"):
        main(way, listed if way == "load" else tmp_path / "shards")  # type: ignore[arg-type]
        measured = json.loads(capsys.readouterr().out)
        assert (
            measured["seconds"] > 0
            and measured["processor_seconds"] >= 0
            and measured["peak_bytes"] >= measured["import_bytes"] > 2**20
        )


def test_the_figures_are_a_table() -> None:
    start = DataStart(
        label="start, shards", seconds=1.5, processor_seconds=1.25, peak_bytes=3_000_000, import_bytes=1_000_000
    )
    printed = StringIO()
    Console(file=printed, width=100).print(DataStarts(num_records=2000, list_bytes=10**7, starts=(start,)).render())
    for words in (
        "2,000 records with pictures; as a JSON list: 10 MB",
        "start, shards",
        "1.50 s",
        "1.25 s",
        "3 MB",
        "2 MB",
    ):
        assert words in printed.getvalue()


def test_what_cannot_be_measured_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="num_records must be at least 1, got 0"):
        bench_data(num_records=0)
    with pytest.raises(MgemError, match=r"^The start from 'none.json' ended with 1: "):
        data._measured("load", tmp_path / "none.json")  # pyright: ignore[reportPrivateUsage]


@pytest.mark.slow
def test_all_starts_are_measured(tmp_path: Path) -> None:
    said: list[str] = []
    starts = bench_data(num_records=10, folder=tmp_path, say=said.append)
    assert [start.label for start in starts.starts] == [
        "json.load, list", "start, list, all checked", "start, lines, all checked", "start, lines, index",
        "start, shards",
    ]  # fmt: skip
    assert said[0] == "Writing records" and said[-1] == "Measuring: start, shards"
    assert list(tmp_path.iterdir()) == []
