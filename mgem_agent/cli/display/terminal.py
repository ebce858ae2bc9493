"""Show a turn in a terminal: Markdown as it streams, a progress bar for each drawing, and pictures inline.

Only the window at the bottom is redrawn: lines that may still change, the bars and the spinner. It is removed before a
picture is shown, because drawing a picture moves the cursor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mgem_agent.cli.display.markdown import MarkdownStream

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.progress import Progress, TaskID
    from rich.segment import Segment

    from mgem_agent.agent.events import (
        AgentEvent,
        CaptionReady,
        DrawingFailed,
        DrawingProgress,
        LookedAt,
        PictureDrawn,
        TextPiece,
        TurnFinished,
    )
    from mgem_agent.cli.display.contract import PictureNames
    from mgem_agent.cli.display.pictures import PictureWindow

__all__ = ["TerminalTurnDisplay"]

REFRESHES_A_SECOND = 10
OUTCOMES = {
    "refused": "The model did not answer.",
    "cancelled": "The turn was cancelled. Finished pictures are kept.",
    "max_rounds": "The turn reached its limit of rounds.",
    "max_pictures": "The turn reached its limit of pictures.",
    "timeout": "The turn reached its time limit.",
    "budget": "The turn reached its budget. Finished pictures are kept.",
}


class TerminalTurnDisplay:
    """Shows turns on a terminal.

    Args:
        console: The terminal.
        window: Shows pictures.
        name_of: Names pictures.
    """

    def __init__(self, console: Console, window: PictureWindow, name_of: PictureNames) -> None:
        from rich.spinner import Spinner

        self._hint = ""
        self._spinner = Spinner("dots", style="dim")
        self._console = console
        self._window = window
        self._name_of = name_of
        self._markdown = MarkdownStream(console)
        self._live: Live | None = None
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._waiting_for = "thinking"
        self._handlers: dict[str, Any] = {
            "text": self._text,
            "caption": self._caption,
            "progress": self._progress,
            "picture": self._picture,
            "failed": self._failed,
            "looked": self._looked,
            "notice": lambda event: self._line(event.message, "yellow"),
            "confirm": lambda event: self.close(),
            "finished": self._finished,
        }

    def start(self) -> None:
        """Show a spinner: a model may take a minute to its first word."""
        self._waiting_for = "working"
        self._open()

    def show(self, event: AgentEvent) -> None:
        """Show an event."""
        self._handlers[event.kind](event)

    def tell(self, message: str) -> None:
        """Show a message of the program."""
        self._line(message, "dim")

    def fail(self, message: str) -> None:
        """Show an error."""
        self._line(f"Error: {message}", "red")

    def hint_at(self, message: str) -> None:
        """Show a message at the bottom until the turn ends."""
        self._hint = message

    def close(self) -> None:
        """Show all pending output and release the terminal."""
        rows = self._markdown.finish()
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        self._print(rows)
        self._bars, self._tasks, self._hint = None, {}, ""

    def _open(self) -> None:
        if self._live is None:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._bottom,
                console=self._console,
                refresh_per_second=REFRESHES_A_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def _bottom(self) -> RenderableType:
        """The window: lines that may still change, and the progress bars or the spinner."""
        from rich.console import Group
        from rich.segment import SegmentLines
        from rich.text import Text

        rows, bars = self._markdown.window(), self._bars
        parts: list[RenderableType] = [SegmentLines(rows, new_lines=True)] if rows else []
        if bars is not None:
            parts.append(bars)
        elif not rows or self._hint:
            self._spinner.update(text=f" {self._hint or self._waiting_for}")
            parts.append(self._spinner)
        return Group(*parts, *([Text(self._hint, style="yellow")] if bars is not None and self._hint else []))

    def _text(self, event: TextPiece) -> None:
        self._open()
        self._print(self._markdown.feed(event.text))

    def _caption(self, event: CaptionReady) -> None:
        self._end_text()
        self._line(f"✎ {event.prompt}", "italic cyan")
        self._waiting_for = "waiting for the generator"
        self._open()

    def _progress(self, event: DrawingProgress) -> None:
        self._end_text()
        self._open()
        if self._bars is None:
            self._bars = _bars(self._console)
        if event.call_id not in self._tasks:
            self._tasks[event.call_id] = self._bars.add_task(f"drawing {len(self._tasks) + 1}", total=None)
        self._bars.update(self._tasks[event.call_id], completed=event.step, total=event.num_steps or None)

    def _picture(self, event: PictureDrawn) -> None:
        self._end_text()
        self._end_bar(event.call_id)
        self._pause()
        self._window.show(event.path, self._name_of(event.artifact_id, event.call_id))
        for notice in event.notices:
            self._line(notice, "yellow")
        self._waiting_for = "thinking"
        self._open()

    def _failed(self, event: DrawingFailed) -> None:
        self._end_text()
        self._end_bar(event.call_id)
        is_wish = event.error == "GenerationCancelledError"
        self._line(event.message if is_wish else f"Not drawn: {event.message}", "dim" if is_wish else "red")
        self._waiting_for = "thinking"

    def _looked(self, event: LookedAt) -> None:
        if event.follows is None:
            return
        score = "" if event.score is None else f" ({event.score:.0%})"
        verdict = "matches its caption" if event.follows else f"does not match its caption: {event.problem}"
        self._line(f"{event.artifact_id} {verdict}{score}", "dim")

    def _finished(self, event: TurnFinished) -> None:
        self.close()
        if event.turn.outcome in OUTCOMES:
            self._line(OUTCOMES[event.turn.outcome], "dim")

    def _line(self, message: str, style: str) -> None:
        self._end_text()
        self._console.print(message, style=style, markup=False, highlight=False)

    def _end_text(self) -> None:
        if not self._markdown.is_empty:
            self._print(self._markdown.finish())

    def _end_bar(self, call_id: str) -> None:
        task = self._tasks.pop(call_id, None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
        if not self._tasks:
            self._bars = None

    def _pause(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _print(self, rows: list[list[Segment]]) -> None:
        from rich.segment import SegmentLines

        if rows:
            self._console.print(SegmentLines(rows, new_lines=True), end="", crop=False, no_wrap=True)


def _bars(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, auto_refresh=False)
