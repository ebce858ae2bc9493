"""Draw the pages of a story in a thread while later pages are written.

Decisions that matter:

- **Only drawing has a thread.** Writing stays with whoever reads the events, so nothing is written ahead of them.
- **A page is handed over when it is written.** Its picture comes after its `SceneWritten`, never before.
- **Batches are used where they pay**; see `DrawingPace`.
- **If one side fails, the other keeps what it has.** Pages that are written are still drawn when the reasoner fails,
  and the rest is still written when a budget has no picture left. Then the error is raised.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from mgem_agent.errors import BudgetExceededError, GenerationCancelledError
from mgem_agent.workflows.drawing_pace import DrawingPace
from mgem_agent.workflows.story_events import SceneWritten, StoryEvent
from mgem_agent.workflows.story_pictures import StoryPictures
from mgem_agent.workflows.story_writer import StorySteps

__all__ = ["DrawingThread", "write_and_draw"]

MAX_WAIT_S = 0.1
"""Longest time in seconds without looking whether the story was cancelled."""


class DrawingThread:
    """Draws pages that are handed over, one batch after another.

    Args:
        pictures: Draws them; used by no other thread until `stop`.
        pace: Decides about batches.
        num_to_come: Number of pages that will be written.
        cancel: Set to stop.
    """

    def __init__(self, pictures: StoryPictures, pace: DrawingPace, num_to_come: int, cancel: threading.Event) -> None:
        self._pictures = pictures
        self._pace = pace
        self._cancel = cancel
        self._num_to_come = num_to_come
        self._changed = threading.Condition()
        self._ready: list[int] = []
        self._is_all = False
        self._is_paused = False
        self._started = self._last = time.monotonic()
        self._num_written = 0
        self._events: queue.SimpleQueue[StoryEvent | None] = queue.SimpleQueue()
        self._is_over = False
        self.error: BaseException | None = None
        run: Callable[[], None] = self._run
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(run,), name="story-pictures", daemon=True)

    def start(self, ready: Iterable[int] = ()) -> None:
        """Start.

        Args:
            ready: Numbers of pages that were written before.
        """
        self._ready.extend(ready)
        self._started = self._last = time.monotonic()
        self._thread.start()

    def hand_over(self, index: int) -> None:
        """Draw a page that is now written."""
        with self._changed:
            self._ready.append(index)
            self._num_to_come -= 1
            self._num_written += 1
            self._last = time.monotonic()
            self._changed.notify()

    def finish(self) -> None:
        """Say that no page follows."""
        with self._changed:
            self._is_all = True
            self._changed.notify()

    def events(self, *, to_the_end: bool = False) -> Iterator[StoryEvent]:
        """Yield events of the drawing.

        Args:
            to_the_end: Whether to wait until everything is drawn; otherwise only what has happened is yielded.
        """
        while not self._is_over:
            try:
                event = self._events.get(block=to_the_end)
            except queue.Empty:
                return
            if event is None:
                self._is_over = True
                return
            yield event

    def stop(self) -> None:
        """Stop if it still runs, and wait for its end."""
        if self._thread.is_alive():
            if not self._is_over:
                self._cancel.set()
            self.finish()
            self._thread.join()

    def _run(self) -> None:
        try:
            while (pages := self._next_pages()) is not None:
                self._draw(pages)
        except BaseException as error:  # raised by whoever reads the events
            self.error = error
        finally:
            self._events.put(None)

    def _draw(self, pages: list[int]) -> None:
        started, before = time.monotonic(), self._pictures.drawn_s
        num_before = self._pictures.num_drawn
        with closing(self._pictures.draw(pages)) as events:
            for event in events:
                self._events.put(event)
        if self._pictures.num_drawn == num_before:
            # A generator that fails is not tried again for each page: the rest is one batch at the end.
            self._is_paused = True
        elif self._pictures.num_drawn == num_before + len(pages):
            # Loading a model is part of the clock's time, but not of what the generator reports.
            clock_s = time.monotonic() - started
            self._pace.note(len(pages), min(self._pictures.drawn_s - before, clock_s))

    def _next_pages(self) -> list[int] | None:
        """Wait for a batch, and return its pages; None at the end."""
        with self._changed:
            while True:
                if self._cancel.is_set() and (self._ready or not self._is_all):
                    raise GenerationCancelledError("The story was stopped. Resume it to continue.")
                if self._is_all or (self._ready and not self._is_paused and not self._is_worth_waiting()):
                    break
                self._changed.wait(MAX_WAIT_S)
            size = None if self._is_all else self._pace.max_batch_size
            pages, self._ready = self._ready[:size], self._ready[len(self._ready[:size]) :]
        return pages or None

    def _is_worth_waiting(self) -> bool:
        """Whether to wait for more pages. A page that takes longer than those before may take longer still."""
        now = time.monotonic()
        mean_s = (self._last - self._started) / self._num_written if self._num_written else 0.0
        return self._pace.is_worth_waiting(len(self._ready), self._num_to_come, max(mean_s, now - self._last))


def write_and_draw(writing: StorySteps[None], drawing: DrawingThread) -> StorySteps[None]:
    """Write pages, and have each drawn while the next ones are written.

    Args:
        writing: Writes the pages; see `write_pages`.
        drawing: Draws them; started already.

    Yields:
        Events of both, each in its order.

    Raises:
        MgemError: If writing or drawing fails or is cancelled. What is finished is kept.
    """
    problem: BaseException | None = None
    try:
        try:
            with closing(writing):
                for event in writing:
                    yield event
                    if isinstance(event, SceneWritten):
                        drawing.hand_over(event.scene.index)
                    yield from drawing.events()
                    if drawing.error is not None and not isinstance(drawing.error, BudgetExceededError):
                        break
        except Exception as error:  # raised below, once the pages that are written are drawn
            problem = error
        drawing.finish()
        yield from drawing.events(to_the_end=True)
    finally:
        drawing.stop()
    if problem is None:
        problem = drawing.error
    if problem is not None:
        raise problem
