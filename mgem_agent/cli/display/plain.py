"""A turn as plain text, for pipes: the answer and the paths of its pictures on one side, all else on the other."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mgem_agent.agent.events import AgentEvent

__all__ = ["PlainTurnDisplay"]


class PlainTurnDisplay:
    """Writes answers as they are, a picture's path on a line of its own after what was said before it.

    Args:
        file: Where answers and paths go.
        errors: Where all else goes.
        shows_paths: Whether paths are written.
    """

    def __init__(self, file: IO[str], errors: Console, *, shows_paths: bool = True) -> None:
        self._file = file
        self._errors = errors
        self._shows_paths = shows_paths
        self._is_within_line = False

    def start(self) -> None:
        """Do nothing: what is written stays."""

    def show(self, event: AgentEvent) -> None:
        """Write an event, if there is anything to be said of it."""
        if event.kind == "text":
            self._file.write(event.text)
            self._file.flush()
            self._is_within_line = not event.text.endswith("\n") if event.text else self._is_within_line
        elif event.kind == "picture":
            if self._shows_paths:
                self._end_line()
                self._file.write(f"{event.path}\n")
                self._file.flush()
            for notice in event.notices:
                self.tell(notice)
        elif event.kind in ("confirm", "finished"):
            self._end_line()
        self._report(event)

    def _report(self, event: AgentEvent) -> None:
        """Say to the side what is neither answer nor picture."""
        if event.kind == "failed":
            self.fail(event.message)
        elif event.kind == "notice":
            self.tell(event.message)
        elif event.kind == "looked" and event.follows is False:
            self.tell(f"{event.artifact_id} does not follow its caption: {event.problem or 'no reason given'}")
        elif event.kind == "finished" and event.turn.outcome != "answered":
            self.tell(f"The turn ended early: {event.turn.outcome.replace('_', ' ')}.")

    def tell(self, message: str) -> None:
        """Write a sentence to the side."""
        self._errors.print(message, markup=False, highlight=False, soft_wrap=True)

    def fail(self, message: str) -> None:
        """Write an error to the side."""
        self._errors.print("Error: ", style="bold red", end="")
        self.tell(message)

    def hint_at(self, message: str) -> None:
        """Write it to the side."""
        self.tell(message)

    def close(self) -> None:
        """End the line that is open."""
        self._end_line()

    def _end_line(self) -> None:
        if self._is_within_line:
            self._file.write("\n")
            self._file.flush()
            self._is_within_line = False
