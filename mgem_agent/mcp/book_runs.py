"""Tell books in the background, so that a call can end before its book does.

A run ends when the book is finished, waits for a person, fails or is stopped. It is always continued from the folder.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mgem_agent.agent.events import AgentNotice, DrawingFailed, DrawingProgress, PictureDrawn
from mgem_agent.errors import MgemError
from mgem_agent.mcp.books import BookRecord
from mgem_agent.mcp.parts import McpParts
from mgem_agent.tools.one_by_one import OneByOne
from mgem_agent.workflows.outline_decision import OutlineDecision
from mgem_agent.workflows.recipe_options import has_everything
from mgem_agent.workflows.story import STORY_FILE, Story
from mgem_agent.workflows.story_events import (
    OutlineReady,
    PageScored,
    SceneWritten,
    StoryEvent,
    StoryStopped,
    StoryText,
    scene_index,
)

if TYPE_CHECKING:
    from mgem_agent.workflows.story_revision import PageRevision
    from mgem_agent.workflows.storytelling import Storyteller

__all__ = ["BookRun", "BookSteps", "find_run", "running_long", "start_run"]

_runs: dict[Path, BookRun] = {}


@dataclass(frozen=True, slots=True)
class BookSteps:
    """What a run does to a book that has begun.

    Attributes:
        revision: A change of one page, made first.
        go_on: Whether the book is then continued.
        decision: The decision about its outline, if it waits for one.
    """

    revision: PageRevision | None = None
    go_on: bool = True
    decision: OutlineDecision | None = None


@dataclass(eq=False)
class BookRun:
    """A book that is being told.

    Attributes:
        num_pages: Number of pages.
        message: What is being done.
        task: Ends with the run.
        is_done: Whether its work is saved, so that it ends in a moment.
        stopped_by: Why the story stopped before its end; empty if it did not, or was asked to.
    """

    num_pages: int
    message: str = "Starting"
    task: asyncio.Task[None] | None = None
    is_done: bool = False
    stopped_by: str = ""
    _written: set[int] = field(default_factory=set, repr=False)
    _drawn: dict[int, float] = field(default_factory=dict, repr=False)
    _is_outlined: bool = False
    _notice: str = ""
    _teller: Storyteller | None = field(default=None, repr=False)
    _is_stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def total(self) -> int:
        """Number of steps: the outline, and for each page its text and its picture."""
        return 1 + 2 * self.num_pages

    @property
    def done(self) -> float:
        """Number of finished steps, with the shares of unfinished pictures."""
        return self._is_outlined + len(self._written) + sum(self._drawn.values())

    def stop(self) -> None:
        """Stop; finished parts are kept."""
        self._is_stopped.set()
        if self._teller is not None:
            self._teller.cancel()

    def tell(self, teller: Storyteller, record: BookRecord, steps: BookSteps) -> None:
        """Tell the story until it ends or a person has to decide; called in a thread."""
        self._teller = teller
        try:
            self._tell(teller, record, steps)
        finally:
            self.is_done = True

    def _tell(self, teller: Storyteller, record: BookRecord, steps: BookSteps) -> None:
        if not (teller.folder / STORY_FILE).exists():
            self._follow(teller.stream(record.recipe), record)
            return
        self._note_story(teller.story())
        if steps.revision is not None:
            self._follow(teller.stream_revision(steps.revision), record, is_revision=True)
        if steps.go_on and record.waiting_page(teller.story()) is None:
            self._follow(teller.stream_resume(steps.decision), record)

    def _follow(
        self, events: Generator[StoryEvent, None, None], record: BookRecord, *, is_revision: bool = False
    ) -> None:
        with closing(events):
            for event in events:
                self._note(event)
                if self._is_stopped.is_set() and self._teller is not None:
                    self._teller.cancel()  # again: starting a stream forgets an earlier one
                if is_revision or record.approve != "pages" or not isinstance(event, PictureDrawn):
                    continue
                if scene_index(event.call_id) not in record.approved:
                    return

    def _note_story(self, story: Story) -> None:
        self._is_outlined = bool(story.scenes)
        self._written = {scene.index for scene in story.scenes if scene.status != "planned"}
        self._drawn = {scene.index: 1.0 for scene in story.scenes if scene.status == "drawn"}

    def _note(self, event: StoryEvent) -> None:
        if isinstance(event, OutlineReady):
            self._note_story(event.story)
            self.message = "The outline is written"
        elif isinstance(event, StoryText):
            self.message = f"Writing the {event.part}" + (f" of page {event.index}" if event.index else "")
        elif isinstance(event, SceneWritten):
            self._written = self._written | {event.scene.index}
            self.message = f"Page {event.scene.index} is written"
        elif isinstance(event, DrawingProgress):
            page = scene_index(event.call_id)
            self.message = f"Drawing page {page}: step {event.step} of {event.num_steps}"
            self._drawn = self._drawn | {page: event.step / (event.num_steps + 1)}
        elif isinstance(event, PageScored):
            self.message = f"Page {event.index} is scored"
        elif isinstance(event, AgentNotice):
            self._notice = event.message
        elif isinstance(event, StoryStopped):
            self.stopped_by = "" if self._is_stopped.is_set() else self._notice
        elif isinstance(event, PictureDrawn | DrawingFailed):
            page = scene_index(event.call_id)
            self.message = f"Page {page} {'is drawn' if isinstance(event, PictureDrawn) else 'failed'}"
            self._drawn = self._drawn | {page: 1.0}


def find_run(folder: Path) -> BookRun | None:
    """Return the run of a book in this process; None if it does not run here.

    Args:
        folder: The book's folder.
    """
    run = _runs.get(folder.absolute())
    if run is None or run.task is None or run.task.done() or run.task.get_loop().is_closed():
        return None
    return run


async def running_long(folder: Path) -> BookRun | None:
    """Return the run of a book as `find_run` does; one whose work is saved is waited for, because it has ended."""
    run = find_run(folder)
    if run is not None and run.is_done and run.task is not None:
        await asyncio.wait([run.task])
    return find_run(folder)


def start_run(parts: McpParts, book_id: str, record: BookRecord, steps: BookSteps | None = None) -> BookRun:
    """Tell a book in the background; called on the event loop.

    Args:
        parts: The parts of the server.
        book_id: The book.
        record: Its record.
        steps: What to do; by default, go on.

    Raises:
        InputError: If it is not the id of a book.
    """
    folder = parts.books.folder(book_id)
    run = BookRun(num_pages=record.recipe.num_scenes)
    wanted = steps if steps is not None else BookSteps()

    def work(cancel: threading.Event) -> None:
        from mgem_agent.workflows.storytelling import Storyteller  # imports langchain

        generator = parts.recorded_generator(record.generator)
        needs_reasoner = parts.reasoner is not None and not has_everything(record.recipe)
        reasoner = parts.chat_model() if needs_reasoner else None
        teller = Storyteller(
            reasoner,
            OneByOne(generator) if record.approve == "pages" else generator,
            parts.store,
            folder=folder,
            approve_outline=record.approve != "none",
            budget=parts.budgets.book.within(record.limits),
            prices=parts.prices,
            overlap=record.approve != "pages",
            **parts.story_options(None if parts.reasoner is None else parts.chat_model),
        )
        run.tell(teller, record, wanted)

    async def told() -> None:
        problem = ""
        try:
            await parts.run("story", work, title=record.recipe.title or record.recipe.premise[:80], on_cancel=run.stop)
            problem = run.stopped_by
        except MgemError as error:
            problem = str(error)
        except Exception as error:  # a third-party model may raise anything; nobody else awaits this task
            logging.getLogger(__name__).exception("The book %s failed", book_id)
            problem = f"Unexpected {type(error).__name__}. The log of the server says more."
        if problem != record.problem:
            parts.books.write(book_id, record.model_copy(update={"problem": problem}))

    key = folder.absolute()
    _runs[key] = run
    run.task = asyncio.get_running_loop().create_task(told())
    run.task.add_done_callback(lambda task: _runs.pop(key) if _runs.get(key) is run else None)
    return run
