"""Which records make which step: all of them, alike with alike, the same for every process and after every break."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mgem_agent.recipes.train.batch_plan import BatchPlan

RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.integers(10, 500, size=1000).tolist()
IMAGES = RANDOM.integers(0, 2, size=1000).tolist()


def make_plan(*, global_batch: int = 16, seed: int = 0, group_by_length: bool = True, **changes: object) -> BatchPlan:
    values = {"lengths": LENGTHS, "num_images": IMAGES, "files": [0] * 1000, "repeats": [1.0], **changes}
    return BatchPlan(**values, global_batch=global_batch, seed=seed, group_by_length=group_by_length)  # type: ignore[arg-type]


def epoch(plan: BatchPlan, number: int = 0) -> list[list[int]]:
    return [plan.step(number * plan.steps_per_epoch + step) for step in range(plan.steps_per_epoch)]


@pytest.mark.parametrize("group_by_length", [True, False])
def test_every_record_comes_once_an_epoch_and_the_last_step_is_filled_up(group_by_length: bool) -> None:
    plan = make_plan(group_by_length=group_by_length)
    assert plan.steps_per_epoch == 63
    counts = Counter(record for step in epoch(plan) for record in step)
    assert counts.keys() == set(range(1000))
    assert sorted(counts.values()) == [1] * 992 + [2] * 8


def test_like_comes_with_like() -> None:
    steps = epoch(make_plan())
    mixed = [step for step in steps if len({IMAGES[record] for record in step}) == 2]
    assert len(mixed) <= 1
    spread = [max(LENGTHS[record] for record in step) - min(LENGTHS[record] for record in step) for step in steps]
    apart = [
        max(LENGTHS[record] for record in step) - min(LENGTHS[record] for record in step)
        for step in epoch(make_plan(group_by_length=False))
    ]
    assert sum(spread) < 0.15 * sum(apart)


def test_epochs_and_seeds_differ_and_each_is_repeatable() -> None:
    plan = make_plan()
    assert epoch(plan) == epoch(make_plan())
    assert epoch(plan, 0) != epoch(plan, 1)
    assert epoch(plan) != epoch(make_plan(seed=1))


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_processes_share_a_step_out(num_processes: int) -> None:
    plan = make_plan()
    shares = [plan.share(5, process, num_processes, 2) for process in range(num_processes)]
    assert sorted(record for share in shares for row in share for record in row) == sorted(plan.step(5))
    assert {len(share) for share in shares} == {8 // num_processes}
    for together in zip(*shares, strict=True):  # longest first, all processes alike
        lengths = [LENGTHS[record] for row in together for record in row]
        assert lengths == sorted(lengths, reverse=True)


def test_files_are_repeated_as_asked() -> None:
    plan = make_plan(files=[0] * 600 + [1] * 400, repeats=[2, 0.5], global_batch=14)
    assert plan.steps_per_epoch == 100
    counts = Counter(record for step in epoch(plan) for record in step)
    assert all(counts[record] == 2 for record in range(600))
    assert sum(counts[record] for record in range(600, 1000)) == 200
    others = Counter(record for step in epoch(plan, 1) for record in step)
    assert {record for record in others if record >= 600} != {record for record in counts if record >= 600}


def test_fewer_records_than_a_step_needs_come_several_times() -> None:
    plan = make_plan(lengths=[3, 1, 2], num_images=[0, 0, 0], files=[0, 0, 0])
    assert plan.steps_per_epoch == 1
    assert Counter(plan.step(0)).keys() == {0, 1, 2}
    assert len(plan.step(7)) == 16
