"""The stories of `mgem bench story`."""

from __future__ import annotations

from pathlib import Path

from mgem_agent.cli.bench_story import tell_story
from mgem_agent.recipes.bench.story import StoryPlan, scripted_author
from mgem_agent.testing import FlatColourGenerator


def test_a_given_story_is_drawn_and_not_written(tmp_path: Path) -> None:
    reasoner, generator = scripted_author(), FlatColourGenerator(size=(16, 16))
    assert tell_story(StoryPlan(reasoner, generator, tmp_path, num_scenes=2, is_given=True)) == 2
    assert reasoner.requests == () and len(generator.drawn) == 2
