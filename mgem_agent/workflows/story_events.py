"""What happens while a story is told, as it happens.

Events are plain frozen values, told apart by `kind`. Where an event of the agent says it, it is that one:
`AgentNotice`, and for pictures `DrawingProgress`, `PictureDrawn` and `DrawingFailed`, whose `call_id` is `scene-` and
the scene's place, from 1. A stream ends with `StoryFinished`, `ApprovalNeeded` or `StoryStopped`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgem_agent.agent.events import AgentNotice, DrawingFailed, DrawingProgress, PictureDrawn
from mgem_agent.workflows.story import Story, StoryScene

__all__ = [
    "ApprovalNeeded",
    "OutlineReady",
    "SceneWritten",
    "StoryEvent",
    "StoryFinished",
    "StoryPart",
    "StoryStopped",
    "StoryText",
    "scene_call_id",
    "scene_index",
]

StoryPart = Literal["title", "outline", "cast", "text", "caption"]
"""What the reasoner is writing."""


@dataclass(frozen=True, slots=True)
class StoryText:
    """A piece of what the reasoner writes, as it comes; what is made of it comes in later events.

    Attributes:
        text: The piece.
        part: What it is of; `text` is the page's.
        index: The scene, from 1; 0 where it is of the whole story.
        kind: What this event is.
    """

    text: str
    part: StoryPart
    index: int = 0
    kind: Literal["story_text"] = "story_text"


@dataclass(frozen=True, slots=True)
class OutlineReady:
    """Title, outline and cast are there.

    Attributes:
        story: As it stands.
        kind: What this event is.
    """

    story: Story
    kind: Literal["outline"] = "outline"


@dataclass(frozen=True, slots=True)
class ApprovalNeeded:
    """A person has to approve the outline, edit it or refuse it; `Storyteller.resume` takes the decision.

    Attributes:
        story: As it stands.
        kind: What this event is.
    """

    story: Story
    kind: Literal["approval"] = "approval"


@dataclass(frozen=True, slots=True)
class SceneWritten:
    """The text and the caption of a scene are there.

    Attributes:
        scene: The scene.
        kind: What this event is.
    """

    scene: StoryScene
    kind: Literal["scene"] = "scene"


@dataclass(frozen=True, slots=True)
class StoryStopped:
    """The story was cancelled; what is made is kept, and `Storyteller.resume` goes on.

    Attributes:
        story: As it stands.
        kind: What this event is.
    """

    story: Story
    kind: Literal["stopped"] = "stopped"


@dataclass(frozen=True, slots=True)
class StoryFinished:
    """Every scene is drawn or has failed, or the outline was refused.

    Attributes:
        story: As it is.
        kind: What this event is.
    """

    story: Story
    kind: Literal["finished"] = "finished"


StoryEvent = (
    StoryText
    | OutlineReady
    | ApprovalNeeded
    | SceneWritten
    | AgentNotice
    | DrawingProgress
    | PictureDrawn
    | DrawingFailed
    | StoryStopped
    | StoryFinished
)


def scene_call_id(index: int) -> str:
    """The `call_id` of a scene's picture."""
    return f"scene-{index}"


def scene_index(call_id: str) -> int:
    """The scene, from 1, that a `call_id` is of."""
    return int(call_id.removeprefix("scene-"))
