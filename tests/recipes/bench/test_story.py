"""The benchmark of a story: its figures follow from stories that are really told."""

from __future__ import annotations

import pytest

from mgem_agent.cli.bench_story import tell_story
from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.story import StoryPlan, StoryTimes, bench_story


@pytest.fixture(scope="module")
def told() -> tuple[StoryTimes, list[StoryPlan]]:
    plans: list[StoryPlan] = []

    def tell(plan: StoryPlan) -> int:
        plans.append(plan)
        return tell_story(plan)

    return bench_story(tell, single_s=0.01, answer_s=0.001, batch_single_s=0.02), plans


def test_every_story_is_told(told: tuple[StoryTimes, list[StoryPlan]]) -> None:
    _, plans = told
    assert [(plan.is_given, plan.overlap) for plan in plans[1:5]] == [
        (False, True),
        (False, False),
        (False, True),
        (True, True),
    ]
    assert [len(plan.reasoner.requests) for plan in plans[1:5]] == [19, 19, 19, 0]
    assert [plan.generator.num_batches for plan in plans[5:]] == [1, 8]
    assert all(len(plan.generator.drawn) == 8 for plan in plans)


def test_the_figures(told: tuple[StoryTimes, list[StoryPlan]]) -> None:
    times, _ = told
    assert times.alternative >= 19 * 0.001 + 8 * 0.01
    assert min(times.writing_s) >= 19 * 0.001 and min(times.drawing_s) >= 8 * 0.01
    assert times.longer_s == max(times.writing_s[0], times.drawing_s[0])
    assert times.ratio_to_longer == times.ours / times.longer_s
    assert min(times.drawing.one_by_one_run.seconds) >= 8 * 0.02
    assert StoryTimes.model_validate_json(times.model_dump_json()) == times


def test_numbers_are_checked() -> None:
    with pytest.raises(InputError, match=r"^repeats must be at least 1, got 0\.$"):
        bench_story(tell_story, repeats=0)


def test_a_missing_picture_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"^a story has 7 picture\(s\), not 8$"):
        bench_story(lambda _: 7)
