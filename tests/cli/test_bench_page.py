"""The story of `mgem bench page`, with everything counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.cli import factories
from mgem_agent.cli.bench_page import counted_story
from mgem_agent.recipes.bench.story import scripted_author
from mgem_agent.settings import load_settings
from mgem_agent.testing import FlatColourGenerator


def test_a_story_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    author = scripted_author()
    monkeypatch.setattr(factories, "open_reasoner", lambda settings: author)
    monkeypatch.setattr(factories, "open_generator", lambda settings: FlatColourGenerator(num_steps=4))
    counts = counted_story(load_settings())(tmp_path, 8)
    assert (counts.num_scenes, counts.drawings, counts.answers) == (8, 8, len(author.requests))
    assert counts.steps == sum(4 for _ in range(8))
    assert counts.input_tokens > counts.output_tokens > 0
    assert (tmp_path / "story" / "story.json").is_file()
