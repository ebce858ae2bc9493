"""A turn of a chat that runs in the background, as the parts that a page shows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import (
    AgentEvent,
    AgentNotice,
    CaptionReady,
    ConfirmationNeeded,
    DrawingFailed,
    DrawingProgress,
    LookedAt,
    PictureDrawn,
    TextPiece,
)
from mgem_agent.server.page.live import Live

__all__ = ["THINKING", "LiveTurn"]

THINKING, DRAWING = "Thinking", "Drawing"


class LiveTurn(Live):
    """A turn in progress.

    Args:
        agent: The agent that runs it.
        session: Name of the session.
        text: The user's text; empty for a turn that is resumed.
        picture_ids: Ids of the user's pictures.
        prompt: What is drawn, if the turn begins with a drawing.
        num_before: Number of finished turns of the session before it.

    Attributes:
        num_drawing: Number of pictures that are being drawn.
    """

    def __init__(
        self,
        agent: MgemAgent,
        session: str,
        *,
        text: str = "",
        picture_ids: Sequence[str] = (),
        prompt: str = "",
        num_before: int = 0,
    ) -> None:
        super().__init__()
        self.num_before = num_before
        self._prompt = prompt
        self.agent = agent
        self.session = session
        self.text = text
        self.picture_ids = tuple(picture_ids)
        self.num_drawing = 0
        self._num_texts = 0
        self._is_writing = False
        self._is_waiting = False
        self._keys: dict[str, str] = {}

    @property
    def is_done(self) -> bool:
        """Whether the turn is saved, or waits for a decision."""
        is_saved = len(self.agent.sessions.turns(self.session, limit=self.num_before + 1)) > self.num_before
        return self.is_over or self._is_waiting or is_saved

    def start(self, events: Callable[[], AsyncGenerator[AgentEvent, None]]) -> None:
        """Start the turn.

        Args:
            events: Creates the iterator of its events.
        """

        async def work() -> None:
            async for event in events():
                self.apply(event)

        self.begin(work)

    def stop(self) -> None:
        """Stop the turn: what is finished is kept; a turn that has not begun is dropped."""
        if not self.agent.cancel(self.session):
            self.abort()

    def skip_drawing(self) -> bool:
        """Stop the current drawing; the turn continues. Return whether something was being drawn."""
        return self.agent.cancel_drawing(self.session)

    def apply(self, event: AgentEvent) -> None:
        """Show an event."""
        if isinstance(event, TextPiece):
            self._write(event.text)
            return
        self._is_writing = False
        if isinstance(event, CaptionReady):
            self._draw(event.call_id, prompt=event.prompt)
            self._count()
        elif isinstance(event, DrawingProgress):
            self._draw(event.call_id, state="drawing", **_progress(event))
            self._count()
        elif isinstance(event, PictureDrawn):
            self._draw(
                event.call_id,
                state="drawn",
                picture=event.artifact_id,
                prompt=event.prompt,
                notices=event.notices,
            )
            self._count(f"Picture drawn: {event.prompt}")
        elif isinstance(event, DrawingFailed):
            self._draw(event.call_id, state="failed", message=event.message)
            self._count(f"Not drawn: {event.message}")
        elif isinstance(event, LookedAt):
            self._look(event)
        elif isinstance(event, AgentNotice):
            self.show(f"notice-{len(self.parts)}", "notice", message=event.message)
        elif isinstance(event, ConfirmationNeeded):
            self._is_waiting = True
            self.say(announcement="The captions wait for your decision.")

    def _draw(self, call_id: str, **data: Any) -> None:
        """Show the state of a drawing; there may have been no caption, such as in a turn that is resumed."""
        key = self._keys.setdefault(call_id, f"draw-{len(self._keys) + 1}")  # a call's id may have any characters
        if self.part(key) is None:
            data = {"prompt": self._prompt, "state": "waiting", "step": 0, "num_steps": 0, **data}
        self.show(key, "drawing", **data)

    def _write(self, text: str) -> None:
        if not self._is_writing:
            self._is_writing = True
            self._num_texts += 1
        key = f"text-{self._num_texts}"
        known = self.part(key)
        self.show(key, "text", text=(known.data["text"] if known is not None else "") + text)
        self.say(status=THINKING)

    def _look(self, event: LookedAt) -> None:
        if event.follows is False:
            problem = event.problem or "It does not follow its caption."
            self._draw(event.call_id, notices=(f"Looked at: {problem}",))

    def _count(self, announcement: str | None = None) -> None:
        waiting = [part for part in self.parts if part.data.get("state") in ("waiting", "drawing")]
        self.num_drawing = len(waiting)
        self.say(status=DRAWING if waiting else THINKING, announcement=announcement)


def _progress(event: DrawingProgress) -> dict[str, Any]:
    """Return the steps of a drawing, and its preview where there is a new one."""
    steps: dict[str, Any] = {"step": event.step, "num_steps": event.num_steps}
    return steps if event.preview is None else steps | {"preview": event.preview}
