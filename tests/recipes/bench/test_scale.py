from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from mgem_agent.errors import InputError, MgemError, MissingDependencyError
from mgem_agent.recipes.bench.comparison import Comparison
from mgem_agent.recipes.bench.scale import BatchOfStories, BatchSeconds, BatchTimes, bench_scale, bench_story_batch


def shared_work(plan: BatchOfStories, folder: Path) -> BatchSeconds:
    folder.mkdir()
    work_s = plan.num_stories * plan.num_scenes * plan.single_s / plan.num_workers
    return BatchSeconds(start_s=3.0, work_s=work_s)


def small() -> BatchTimes:
    return bench_story_batch(shared_work, num_stories=2, num_scenes=2, single_s=0.05)


def missing() -> Comparison:
    raise MissingDependencyError("Work on Ray", "ray", "ray")


def test_two_workers_are_compared_with_one() -> None:
    found = small()
    assert found.ratio == 2 and found.start_s == (3.0,)
    assert (found.ours_run.label, found.alternative_run.label) == ("two workers", "one worker")
    with pytest.raises(InputError):
        bench_story_batch(shared_work, num_stories=0)


def test_a_part_that_cannot_be_measured_is_left_out() -> None:
    found = bench_scale({"batch": small, "other": missing})
    assert found.figures.keys() == {"batch"} and "mgem-agent[ray]" in found.skipped["other"]
    assert found.model_dump(mode="json")["figures"]["batch"]["ratio"] > 1
    console = Console(width=100, record=True)
    console.print(found.render())
    shown = console.export_text()
    assert "two workers" in shown and "start before it" in shown and "other: not measured." in shown
    with pytest.raises(MgemError, match="No part of this benchmark .* The first: Work on Ray needs"):
        bench_scale({"other": missing})
