"""The context of a running turn, which is not stored: earlier messages, and the signals that stop the turn."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from langchain_core.messages import BaseMessage

from mgem_agent.agent.events import TurnOutcome
from mgem_agent.errors import GenerationCancelledError
from mgem_agent.tools.budget import Meter

__all__ = ["TurnContext"]


@dataclass(slots=True)
class TurnContext:
    """The context of a run of the graph, which is not stored.

    Attributes:
        history: Messages of earlier turns.
        meter: Counts what the turn spends, and refuses what would pass a budget.
        cancel: Set to stop reasoning and drawing.
        why: Why it was set.
        drawing: Set to stop the current drawing; None while nothing is drawn.
        is_resumed: Whether the turn was interrupted before.
        said: Text of an answer that was interrupted and will not be asked for again.
        is_abandoned: Whether the run was given up, so that the rest of the turn is left for a later resume.
    """

    history: list[BaseMessage]
    meter: Meter = field(default_factory=Meter)
    cancel: threading.Event = field(default_factory=threading.Event)
    why: TurnOutcome | None = None
    drawing: threading.Event | None = None
    is_resumed: bool = False
    said: str = ""
    is_abandoned: bool = False

    def stop(self, why: TurnOutcome) -> None:
        """Stop the run; only the first reason is recorded."""
        if not self.cancel.is_set():
            self.why = why
            self.cancel.set()
            self.stop_drawing()

    def begin_drawing(self) -> threading.Event:
        """Return the event that stops the drawing that is about to start."""
        self.drawing = drawing = threading.Event()
        if self.cancel.is_set():  # checked after the assignment, so that a concurrent `stop` is not missed
            drawing.set()
        return drawing

    def stop_drawing(self) -> bool:
        """Stop only the current drawing; return whether one was running that was not already being stopped."""
        drawing = self.drawing
        if drawing is None or drawing.is_set():
            return False
        drawing.set()
        return True

    def abandon(self) -> None:
        """Stop the run and leave its turn unfinished, so that it can be resumed."""
        self.is_abandoned = True
        self.stop("cancelled")

    def check(self) -> None:
        """Prevent the current step from being stored as done if the run is abandoned.

        Raises:
            GenerationCancelledError: If the run is abandoned.
        """
        if self.is_abandoned:
            raise GenerationCancelledError("The turn was left unfinished. Resume it to continue.")
