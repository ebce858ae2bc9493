"""Show a turn as plain text, for pipes: answers and picture paths on stdout, all else on stderr."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from mgem_agent.cli.printing import write_text

if TYPE_CHECKING:
    from rich.console import Console

    from mgem_agent.agent.events import AgentEvent

__all__ = ["PlainTurnDisplay"]


class PlainTurnDisplay:
    """Writes answers unchanged, and each picture's path on its own line.

    Args:
        file: Output for answers and paths.
        errors: Console for all other messages.
        shows_paths: Whether paths are written.
    """

    def __init__(self, file: IO[str], errors: Console, *, shows_paths: bool = True) -> None:
        self._file = file
        self._errors = errors
        self._shows_paths = shows_paths
        self._is_within_line = False
        self._waiting: list[tuple[str, bool]] = []

    def start(self) -> None:
        """Do nothing: plain text has no spinner."""

    def show(self, event: AgentEvent) -> None:
        """Write an event, if it has any text."""
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
        """Write events other than answers and pictures to stderr."""
        if event.kind == "failed":
            self.fail(event.message)
        elif event.kind == "notice":
            self.tell(event.message)
        elif event.kind == "looked" and event.follows is False:
            score = "" if event.score is None else f" ({event.score:.0%})"
            self.tell(f"{event.artifact_id} does not match its caption: {event.problem or 'no reason given'}{score}")
        elif event.kind == "finished" and event.turn.outcome != "answered":
            self.tell(f"The turn ended early: {event.turn.outcome.replace('_', ' ')}.")

    def tell(self, message: str) -> None:
        """Write a message to stderr once the current line of the answer is complete; both may be one terminal."""
        self._waiting.append((message, False))
        self._tell_what_waits()

    def fail(self, message: str) -> None:
        """Write an error to stderr, like `tell`."""
        self._waiting.append((message, True))
        self._tell_what_waits()

    def hint_at(self, message: str) -> None:
        """Write a message to stderr at once, because the user waits for it."""
        self._errors.print(message, markup=False, soft_wrap=True)

    def _say(self, text: str) -> None:
        """Write a piece of the answer; waiting messages are written when a line is complete."""
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
        """End the current line."""
        self._end_line()

    def _end_line(self) -> None:
        if self._is_within_line:
            write_text(self._file, "\n")
            self._is_within_line = False
        self._tell_what_waits()
