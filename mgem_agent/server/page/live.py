"""What runs in the background and is watched by any number of browser pages: turns, drawings and stories.

Decisions that matter:

- **The run does not belong to a request.** A page that is reloaded or closed changes nothing; a new page shows the
  state so far and then follows.
- **A page receives states, not events.** The run is a list of parts, each with its latest state. A slow or late page
  gets what has changed since it looked last, so nothing is missed and nothing is repeated.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mgem_agent.errors import MgemError
from mgem_agent.redaction import redact

__all__ = ["IN_QUEUE", "Live", "LivePart", "LivePlace", "PartChange"]

LOGGED_AS_FAILED = "The server failed unexpectedly ({}). Its log has the details."
IN_QUEUE = "Waiting for a free place"
_log = logging.getLogger(__name__)
PACE_S = 0.08
"""Seconds between two updates of a page, at least."""


@dataclass
class LivePart:
    """A part of what a page shows while something runs.

    Attributes:
        key: Its name within the run: letters, digits and hyphens.
        kind: Kind of the part, which selects its template.
        data: Variables of the template.
        added: Version of the run at which it was added.
        changed: Version of the run at which it changed last.
    """

    key: str
    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    added: int = 0
    changed: int = 0


@dataclass(frozen=True)
class PartChange:
    """A part that a page has to show anew.

    Attributes:
        part: The part.
        is_new: Whether the page does not have it yet.
    """

    part: LivePart
    is_new: bool


class Live:
    """A run in the background.

    Attributes:
        id: Prefix of the ids of its elements in a page.
        status: What happens now, in a few words.
        announcement: The latest milestone, for screen readers.
        error: Why it failed; empty if it did not.
        is_begun: Whether a worker has begun with it; until then, it waits in the queue.
        is_over: Whether it has ended.
    """

    def __init__(self) -> None:
        self.id = f"live-{secrets.token_hex(4)}"
        self.status = IN_QUEUE
        self.announcement = ""
        self.error = ""
        self.is_begun = False
        self.is_over = False
        self.version = 0
        self._parts: dict[str, LivePart] = {}
        self._task: asyncio.Task[None] | None = None
        self._change = asyncio.Event()

    @property
    def parts(self) -> list[LivePart]:
        """The parts, in order."""
        return list(self._parts.values())

    def part(self, key: str) -> LivePart | None:
        """Return a part by its key, or None."""
        return self._parts.get(key)

    def show(self, key: str, kind: str, **data: Any) -> LivePart:
        """Add a part, or change the named variables of an existing one."""
        self.version += 1
        part = self._parts.setdefault(key, LivePart(key, kind, added=self.version))
        part.kind, part.changed = kind, self.version
        part.data |= data
        self._notify()
        return part

    def say(self, *, status: str | None = None, announcement: str | None = None) -> None:
        """Set the status, the announcement or both."""
        if status is not None and status != self.status:
            self.status = status
            self.version += 1
        if announcement is not None:
            self.announcement = announcement
            self.version += 1
        self._notify()

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start the run; called once, on the event loop."""
        self._task = asyncio.create_task(self._run(work))

    def noticing_begin(self, start: Callable[[], Generator[Any, None, None]], status: str) -> Callable[..., Any]:
        """Return a generator function that sets the status when a worker begins with it, in any thread.

        Args:
            start: Creates the generator of events.
            status: The status from then on.
        """
        loop = asyncio.get_running_loop()

        def begun() -> Generator[Any, None, None]:
            loop.call_soon_threadsafe(self.has_begun, status)
            yield from start()

        return begun

    def has_begun(self, status: str) -> None:
        """Note that a worker has begun."""
        self.is_begun = True
        self.say(status=status)

    def abort(self) -> None:
        """Cancel the run, whatever it does."""
        if self._task is not None:
            self._task.cancel()

    @property
    def is_done(self) -> bool:
        """Whether its work is saved, so that it ends in a moment."""
        return self.is_over

    async def wait(self) -> None:
        """Wait until it has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def watch(self) -> AsyncIterator[list[PartChange]]:
        """Yield what a page must change: first every part, then what changes; ends with the run."""
        known = -1
        while True:
            change, is_over, version = self._change, self.is_over, self.version
            yield [PartChange(part, part.added > known) for part in self.parts if part.changed > known]
            known = version
            if is_over:
                return
            if self.version == known:
                await change.wait()
            await asyncio.sleep(PACE_S)

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            self.error = self.error or "It was stopped before it began."
        except MgemError as error:
            self.error = redact(str(error))
        except Exception as error:  # a model or a generator may raise anything; the page says that it failed
            self.error = LOGGED_AS_FAILED.format(type(error).__name__)
            _log.error("%s failed", type(self).__name__, exc_info=error)
        finally:
            self.is_over = True
            self.status = ""
            self.version += 1
            self._notify()

    def _notify(self) -> None:
        """Wake every page; the next change has an event of its own."""
        self._change.set()
        self._change = asyncio.Event()


Run = TypeVar("Run", bound=Live)


class LivePlace(Generic[Run]):
    """The runs of one kind, by whose and what they are, such as a user and a session.

    A run that has ended is kept until it is replaced or removed, because its error may not have been seen.
    """

    def __init__(self) -> None:
        self._runs: dict[Hashable, Run] = {}

    def get(self, key: Hashable) -> Run | None:
        """Return the run, running or ended; None if there is none."""
        return self._runs.get(key)

    def running(self, key: Hashable) -> Run | None:
        """Return the run if it has not ended."""
        run = self._runs.get(key)
        return run if run is not None and not run.is_over else None

    async def running_long(self, key: Hashable) -> Run | None:
        """Return the run if it has not ended. One whose work is saved is waited for: to the user it has ended."""
        run = self.running(key)
        if run is not None and run.is_done:
            await run.wait()
        return self.running(key)

    def keys(self) -> list[Hashable]:
        """Return the keys of the runs that have not ended."""
        return [key for key, run in self._runs.items() if not run.is_over]

    def put(self, key: Hashable, run: Run) -> None:
        """Add a run in place of one that has ended."""
        self._runs[key] = run

    def remove(self, key: Hashable) -> None:
        """Forget a run that has ended."""
        if self.running(key) is None:
            self._runs.pop(key, None)
