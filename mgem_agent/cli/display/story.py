"""Show the progress of a story on stderr: bars at a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mgem_agent.cli.printing import open_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from mgem_agent.workflows import Story, StoryScene
    from mgem_agent.workflows.story_events import PageScored

__all__ = ["StoryDisplay", "print_outline", "scored_line"]

WRITING = {"title": "the title", "outline": "the outline", "cast": "the cast"}


class StoryDisplay:
    """Shows events; use it in a `with` statement.

    Args:
        console: The console; a new one on stderr if not given.
        quiet: Whether to show only notices and failures.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = console or open_console(stderr=True, soft_wrap=True)
        self._quiet = quiet
        self._columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
        )
        is_live = self.console.is_terminal and not quiet
        self._bars: Progress | None = (
            Progress(*self._columns, console=self.console, transient=True) if is_live else None
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Start the progress bars."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the progress bars; printed lines remain."""
        if self._bars is not None:
            self._bars.stop()

    def show(self, event: Any) -> None:
        """Show one event of a story or of a replay."""
        handler = getattr(self, f"_show_{getattr(event, 'kind', 'replayed')}", None)
        if handler is not None:
            handler(event)

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            self.console.print(text, markup=False)

    def _show_story_text(self, event: Any) -> None:
        if self._bars is None:
            return
        what = WRITING.get(event.part) or f"page {event.index}" + (", picture" if event.part == "caption" else "")
        self._bars.update(self._task("writing", f"Writing {what}"), description=f"Writing {what}")

    def _show_outline(self, event: Any) -> None:
        self._done("writing")
        self.say(f"{event.story.title}: {len(event.story.scenes)} scenes")

    def _show_scene(self, event: Any) -> None:
        self._done("writing")
        self.say(f"  page {event.scene.index} written{_named(event.scene)}")

    def _show_progress(self, event: Any) -> None:
        if self._bars is None:
            return
        task = self._task(event.call_id, f"Drawing {event.call_id.replace('-', ' ')}")
        state = f"{event.step}/{event.num_steps}" if event.num_steps else f"{event.step}"
        self._bars.update(task, completed=event.step, total=event.num_steps or None, state=state)

    def _show_picture(self, event: Any) -> None:
        self._done(event.call_id)
        self.say(f"  {event.call_id.replace('-', ' ')} drawn: {event.artifact_id}")

    def _show_scored(self, event: Any) -> None:
        self.say(f"  {scored_line(event)}")

    def _show_failed(self, event: Any) -> None:
        self._done(event.call_id)
        self.console.print(f"  {event.call_id.replace('-', ' ')} not drawn: {event.message}", markup=False)

    def _show_notice(self, event: Any) -> None:
        self.console.print(f"  Notice: {event.message}", markup=False)

    def _show_replayed(self, event: Any) -> None:
        self._done(f"scene-{event.index}")

    def _task(self, name: str, description: str) -> Any:
        if self._bars is not None and name not in self._tasks:
            self._tasks[name] = self._bars.add_task(description, total=None, state="")
        return self._tasks.get(name)

    def _done(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)


def _named(scene: StoryScene) -> str:
    return f": {scene.title}" if scene.title else ""


def print_outline(story: Story, console: Console) -> None:
    """Print title, outline and cast of a story, for approval by the user."""
    from rich.text import Text

    console.print(Text(story.title, style="bold"))
    for scene in story.scenes:
        line = f"{scene.title}: {scene.summary}" if scene.title and scene.summary else scene.title or scene.summary
        console.print(Text(f"  {scene.index}. {line}"))
    for character in story.cast:
        console.print(Text(f"  {character.name}: {character.looks}", style="italic"))


def scored_line(event: PageScored) -> str:
    """Return the score of a page and what is wrong with it, in a line."""
    score = event.score
    wrong = [f"missing: {', '.join(score.missing)}"] if score.missing else []
    wrong += [score.caption.what_is_wrong] if score.caption.what_is_wrong else []
    known = "not scored" if score.score is None else f"scored {score.score:.0%}"
    return f"page {event.index} {known}" + (f" ({'; '.join(wrong)})" if wrong else "")
