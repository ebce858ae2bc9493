"""A turn as plain text, for pipes: the answer and the paths of its pictures on one side, all else on the other."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from mgem_agent.cli.printing import write_text

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
        self._waiting: list[tuple[str, bool]] = []

    def start(self) -> None:
        """Do nothing: what is written stays."""

    def show(self, event: AgentEvent) -> None:
        """Write an event, if there is anything to be said of it."""
        if event.kind == "text":
            self._say(event.text)
        elif event.kind == "picture":
            if self._shows_paths:
                self._end_line()
                write_text(self._file, f"{event.path}\n")
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
        """Write a sentence to the side, when the line of the answer is complete: both may be the same terminal."""
        self._waiting.append((message, False))
        self._tell_what_waits()

    def fail(self, message: str) -> None:
        """Write an error to the side, as `tell` does."""
        self._waiting.append((message, True))
        self._tell_what_waits()

    def hint_at(self, message: str) -> None:
        """Write it to the side at once: a person waits for it."""
        self._errors.print(message, markup=False, soft_wrap=True)

    def _say(self, text: str) -> None:
        """Write a piece of the answer; what waits is told as soon as a line is complete."""
        line, end, rest = text.partition("\n") if self._waiting else (text, "", "")
        for piece in (line + end, rest):
            if piece:
                write_text(self._file, piece)
                self._is_within_line = not piece.endswith("\n")
                self._tell_what_waits()

    def _tell_what_waits(self) -> None:
        if self._is_within_line:
            return
        waiting, self._waiting = self._waiting, []
        for message, is_error in waiting:
            if is_error:
                self._errors.print("Error: ", style="bold red", end="")
            self._errors.print(message, markup=False, soft_wrap=True)

    def close(self) -> None:
        """End the line that is open."""
        self._end_line()

    def _end_line(self) -> None:
        if self._is_within_line:
            write_text(self._file, "\n")
            self._is_within_line = False
        self._tell_what_waits()
