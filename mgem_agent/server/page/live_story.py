"""A story that is written and drawn in the background, as the parts that a page shows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from mgem_agent.agent.events import AgentNotice, DrawingFailed, DrawingProgress, PictureDrawn
from mgem_agent.server.page.live import Live
from mgem_agent.workflows.story import STORY_FILE, Story, read_story
from mgem_agent.workflows.story_events import (
    ApprovalNeeded,
    OutlineReady,
    PageScored,
    SceneWritten,
    StoryEvent,
    StoryFinished,
    StoryStopped,
    StoryText,
    scene_index,
)
from mgem_agent.workflows.storytelling import Storyteller

__all__ = ["LiveStory"]

WRITING = {
    "title": "Writing the title",
    "outline": "Planning the scenes",
    "cast": "Describing the characters",
    "text": "Writing page {}",
    "caption": "Choosing what picture {} shows",
}


class LiveStory(Live):
    """A story in progress.

    Args:
        teller: The storyteller, which has the story's folder.
        about: What the story is about, until it has a title.
    """

    def __init__(self, teller: Storyteller, about: str = "") -> None:
        super().__init__()
        self.teller = teller
        self.about = about
        self._is_at_end = False
        self._draft = ""
        self._drafting: tuple[str, int] = ("", 0)
        if (Path(teller.folder) / STORY_FILE).is_file():
            self._show_story(read_story(teller.folder))
        else:
            self.show("head", "head", story=None, about=about)

    @property
    def is_done(self) -> bool:
        """Whether the story is finished, waits for a decision, or was stopped."""
        return self.is_over or self._is_at_end

    def start(self, events: Callable[[], AsyncGenerator[StoryEvent, None]]) -> None:
        """Start the story.

        Args:
            events: Creates the iterator of its events.
        """

        async def work() -> None:
            async for event in events():
                self.apply(event)

        self.begin(work)

    def stop(self) -> None:
        """Stop; finished parts are kept, and the story can be continued."""
        self.teller.cancel()
        if not self.is_begun:
            self.abort()

    def apply(self, event: StoryEvent) -> None:
        """Show an event."""
        if isinstance(event, StoryText):
            self._write(event)
        elif isinstance(event, DrawingProgress):
            number = scene_index(event.call_id)
            self._page(number, step=event.step, num_steps=event.num_steps, is_drawing=True)
            self.say(status=f"Drawing page {number}")
        elif isinstance(event, (PictureDrawn, DrawingFailed)):
            number = scene_index(event.call_id)
            self._page(number, is_drawing=False)
            done = "is drawn" if isinstance(event, PictureDrawn) else f"has no picture: {event.message}"
            self.say(announcement=f"Page {number} {done}")
        elif isinstance(event, SceneWritten):
            self._page(event.scene.index, draft="")
            self.say(announcement=f"Page {event.scene.index} is written.")
        elif isinstance(event, PageScored):
            self._page(event.index)
            self.say(status=f"Page {event.index} is scored")
        elif isinstance(event, AgentNotice):
            self.show(f"notice-{len(self.parts)}", "notice", message=event.message)
        elif isinstance(event, OutlineReady):
            self._show_story(event.story)
            self.say(announcement="The outline is written.")
        elif isinstance(event, (ApprovalNeeded, StoryFinished, StoryStopped)):
            self._is_at_end = True
            self._show_story(event.story)

    def _write(self, event: StoryText) -> None:
        if self._drafting != (event.part, event.index):
            self._drafting, self._draft = (event.part, event.index), ""
        self._draft += event.text
        self.say(status=WRITING[event.part].format(event.index))
        if event.part == "text":
            self._page(event.index, draft=self._draft)
        elif event.part != "caption":
            self.show("head", "head", draft=self._draft)

    def _show_story(self, story: Story) -> None:
        self.show("head", "head", story=story, about=self.about, draft="")
        if story.state != "outlining":
            for scene in story.scenes:
                self.show(f"page-{scene.index}", "page", scene=scene)

    def _page(self, number: int, **data: object) -> None:
        """Show a page with its latest record."""
        story = read_story(self.teller.folder)
        if self.part("page-1") is None:
            self._show_story(story)
        self.show(f"page-{number}", "page", scene=story.scenes[number - 1], **data)
