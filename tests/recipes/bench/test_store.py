"""The benchmark of stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.store import StoreTimes, bench_store


def test_every_way_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path))
    said: list[str] = []
    times = bench_store(
        address=f"memory://{tmp_path.name}", num_pictures=2, num_threads=2, folder=tmp_path, say=said.append
    )
    labels = ["plain files", "plain, synced", "store in a folder", "store at memory://"]
    assert [way.label for way in times.ways] == labels and said[-1] == "Measuring: store at memory://"
    assert all(value > 0 for way in times.ways for value in (way.put_s, way.get_s, way.again_s, way.put_at_once_s))
    assert list(tmp_path.iterdir()) == []
    assert StoreTimes.model_validate_json(times.model_dump_json()) == times
    console = Console(width=120, record=True)
    console.print(times.render())
    assert "put, at once" in console.export_text() and times.ratio > 0


def test_a_number_of_pictures_is_needed() -> None:
    with pytest.raises(InputError, match="num_pictures"):
        bench_store(num_pictures=0)
