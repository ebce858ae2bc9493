"""The benchmark of the arbiter's swaps, over tiny real models."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from mgem_agent.device_memory.arbiter import shared_arbiter
from mgem_agent.recipes.bench.model_swap import PolicyTimes, measure_model_swap


def test_turns_are_measured_under_each_policy(vlm_folder: Path, pipeline_folder: Path) -> None:
    before = shared_arbiter()
    found = measure_model_swap(turns=1, model=vlm_folder, pipeline=pipeline_folder)
    assert shared_arbiter() is before
    kept, unloaded = found.policies
    assert (kept.policy, unloaded.policy) == ("keep", "unload"), "on a CPU swapping moves nothing"
    assert kept.moved_bytes == 0 < unloaded.moved_bytes


def test_the_table_compares_with_keeping_both(vlm_folder: Path, pipeline_folder: Path) -> None:
    found = measure_model_swap(turns=1, model=vlm_folder, pipeline=pipeline_folder)
    kept = PolicyTimes(policy="keep", seconds=(1.0,), moved_bytes=0)
    swapped = PolicyTimes(policy="swap", seconds=(1.5, 1.7, 1.6), moved_bytes=2**30)
    text = io.StringIO()
    Console(file=text, width=120).print(*found.model_copy(update={"policies": (kept, swapped)}).tables())
    assert "1.60 s" in text.getvalue() and "1.6×" in text.getvalue() and "1.0 GiB" in text.getvalue()
    assert found.ratio > 0 and found.ours_run.label == "keep"
