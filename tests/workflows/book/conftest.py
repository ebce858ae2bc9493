"""A story of three scenes, as far as a test wants it told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, ImageResult, draw
from mgem_agent.workflows import Story, StoryRecipe, StoryScene

MakeStory = Callable[..., Story]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def make_story(store: ArtifactStore) -> MakeStory:
    def make(num_drawn: int = 3, *, size: int = 32, scene: dict[str, Any] | None = None, **fields: Any) -> Story:
        requests = [ImageRequest(prompt=f"a fox, part {n}", seed=n, width=size, height=size) for n in (1, 2, 3)]
        scenes = []
        for event in draw(FlatColourGenerator(), requests):
            if not isinstance(event, ImageResult):
                continue
            index = event.index + 1
            known: dict[str, Any] = {
                "index": index,
                "title": f"Part {index}",
                "text": f"The fox walks {index} miles.\n\nThen it\nrests.",
                "caption": f"a fox, part {index}",
                "alt_text": f"A fox on page {index}",
            }
            if index <= num_drawn:
                known |= {"status": "drawn", "artifact_id": store.put(event).id, "executed": event.executed}
                known |= {"generator": "flat", "model": event.model}
            else:
                known |= {"status": "failed", "message": "The brush broke."}
            scenes.append(StoryScene(**(known | (scene or {}))))
        whole: dict[str, Any] = {
            "version": "0.1.0",
            "session": "s",
            "created": datetime(2026, 1, 2, tzinfo=UTC),
            "updated": datetime(2026, 1, 2, tzinfo=UTC),
            "state": "finished",
            "recipe": StoryRecipe(premise="A fox walks."),
            "title": "The Fox",
            "style": "ink",
            "scenes": tuple(scenes),
            "reasoner": "scripted",
            "generator": "flat",
        }
        return Story(**(whole | fields))

    return make
