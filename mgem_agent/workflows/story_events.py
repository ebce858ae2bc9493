"""The events of a story in progress.

Events are frozen values with a `kind`. The agent's own events are reused: `AgentNotice`, and for pictures
`DrawingProgress`, `PictureDrawn` and `DrawingFailed`, whose `call_id` is `scene-` and the scene's number, from 1. A
stream ends with `StoryFinished`, `ApprovalNeeded` or `StoryStopped`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgem_agent.agent.events import AgentNotice, DrawingFailed, DrawingProgress, PictureDrawn
from mgem_agent.workflows.page_score import PageScore
from mgem_agent.workflows.story import Story, StoryScene

__all__ = [
    "ApprovalNeeded",
    "OutlineReady",
    "PageScored",
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
"""The part of the story that the reasoner is writing."""


@dataclass(frozen=True, slots=True)
class StoryText:
    """A piece of streamed text from the reasoner; later events have the parsed result.

    Attributes:
        text: The piece.
        part: The part of the story that is being written; `text` is the text of a page.
        index: Number of the scene, from 1; 0 for the whole story.
        kind: Kind of this event.
    """

    text: str
    part: StoryPart
    index: int = 0
    kind: Literal["story_text"] = "story_text"


@dataclass(frozen=True, slots=True)
class OutlineReady:
    """Title, outline and cast are written.

    Attributes:
        story: The story so far.
        kind: Kind of this event.
    """

    story: Story
    kind: Literal["outline"] = "outline"


@dataclass(frozen=True, slots=True)
class ApprovalNeeded:
    """A person must approve, edit or refuse the outline; `Storyteller.resume` takes the decision.

    Attributes:
        story: The story so far.
        kind: Kind of this event.
    """

    story: Story
    kind: Literal["approval"] = "approval"


@dataclass(frozen=True, slots=True)
class SceneWritten:
    """The text and the caption of a scene are written.

    Attributes:
        scene: The scene.
        kind: Kind of this event.
    """

    scene: StoryScene
    kind: Literal["scene"] = "scene"


@dataclass(frozen=True, slots=True)
class PageScored:
    """A picture of a page was scored.

    Attributes:
        index: Number of the page, from 1.
        score: The score.
        kind: Kind of this event.
    """

    index: int
    score: PageScore
    kind: Literal["scored"] = "scored"


@dataclass(frozen=True, slots=True)
class StoryStopped:
    """The story was cancelled. Finished parts are kept, and `Storyteller.resume` continues.

    Attributes:
        story: The story so far.
        kind: Kind of this event.
    """

    story: Story
    kind: Literal["stopped"] = "stopped"


@dataclass(frozen=True, slots=True)
class StoryFinished:
    """Every scene is drawn or has failed, or the outline was refused.

    Attributes:
        story: The story.
        kind: Kind of this event.
    """

    story: Story
    kind: Literal["finished"] = "finished"


StoryEvent = (
    StoryText
    | OutlineReady
    | ApprovalNeeded
    | SceneWritten
    | PageScored
    | AgentNotice
    | DrawingProgress
    | PictureDrawn
    | DrawingFailed
    | StoryStopped
    | StoryFinished
)


def scene_call_id(index: int) -> str:
    """Return the `call_id` of a scene's picture."""
    return f"scene-{index}"


def scene_index(call_id: str) -> int:
    """Return the number of the scene, from 1, that a `call_id` belongs to."""
    return int(call_id.removeprefix("scene-"))
