"""Events turn into JSON and back, and their call ids into scenes."""

from __future__ import annotations

from pydantic import TypeAdapter

from mgem_agent.workflows.story import StoryScene
from mgem_agent.workflows.story_events import SceneWritten, StoryEvent, StoryText, scene_call_id, scene_index


def test_events_round_trip() -> None:
    adapter: TypeAdapter[StoryEvent] = TypeAdapter(StoryEvent)
    for event in (StoryText("It", "text", 3), SceneWritten(StoryScene(index=3))):
        assert adapter.validate_json(adapter.dump_json(event)) == event


def test_call_ids_name_scenes() -> None:
    assert scene_index(scene_call_id(12)) == 12
