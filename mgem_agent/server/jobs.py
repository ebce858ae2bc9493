"""The queue of the server: what runs, what waits, and what is refused.

At most `workers` jobs run at once, each in a thread of its own; at most `queue` jobs wait; a further one is refused
with status 429. A job belongs to one request: a client that disconnects cancels its own job and no other. All methods
but `expects_more` are called on the event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from PIL import Image
from starlette.requests import Request

from mgem_agent.agent.async_bridge import in_thread
from mgem_agent.errors import GenerationCancelledError
from mgem_agent.server.http_errors import QueueFullError, ServerStoppingError
from mgem_agent.server.security import User
from mgem_agent.tools.budget import Meter
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["Job", "JobState", "Jobs"]

Result = TypeVar("Result")
Event = TypeVar("Event")

JobState = Literal["waiting", "running", "cancelled", "finished"]
CANCEL_AGAIN_S = 0.05
MAX_RETRY_S = 120
TYPICAL_JOB_S = 2.0


@dataclass(eq=False)
class Job:
    """A request that runs or waits.

    Attributes:
        user: Whose it is.
        kind: What it does, such as `chat` or `draw`.
        title: The prompt, or the beginning of the message.
        id: Its id.
        state: Whether it waits or runs.
        created: When it was requested, by `time.time()`.
        step: Number of finished steps of its drawing.
        num_steps: Number of steps of its drawing; 0 if unknown.
        cancel: Set to stop it.
    """

    user: User
    kind: str
    title: str = ""
    id: str = field(default_factory=lambda: f"job-{secrets.token_hex(8)}")
    state: JobState = "waiting"
    created: float = field(default_factory=time.time)
    step: int = 0
    num_steps: int = 0
    cancel: threading.Event = field(default_factory=threading.Event)
    on_cancel: Callable[[], object] | None = None
    admitted: asyncio.Future[None] | None = None
    started_s: float = 0.0


class Jobs:
    """Runs the jobs of all clients.

    Args:
        workers: Maximum number of running jobs.
        queue: Maximum number of waiting jobs.
        watch: Called with each job that has ended, and the seconds that it waited and ran.
    """

    def __init__(
        self, *, workers: int = 16, queue: int = 64, watch: Callable[[Job, float, float], None] | None = None
    ) -> None:
        self._workers = workers
        self._queue = queue
        self._watch = watch
        self._running: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="mgem-job")
        self._mean_s = TYPICAL_JOB_S
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_running(self) -> int:
        """Number of running jobs."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Number of waiting jobs."""
        return len(self._waiting)

    @property
    def is_draining(self) -> bool:
        """Whether the server is being stopped."""
        return self._is_draining

    def expects_more(self, num_waiting: int) -> bool:
        """Return whether more jobs run than are waiting for a generator; called from any thread."""
        return len(self._running) > num_waiting

    async def run(
        self,
        user: User,
        kind: str,
        work: Callable[[threading.Event], Result],
        *,
        request: Request | None = None,
        title: str = "",
        on_cancel: Callable[[], object] | None = None,
    ) -> Result:
        """Run a function in a thread, and return its result.

        Args:
            user: Whose job it is.
            kind: What it does.
            work: Called with an event that is set to stop it.
            request: The client's request; the job is cancelled when the client disconnects.
            title: The prompt, or the beginning of the message.
            on_cancel: Called repeatedly after a cancellation until the function returns.

        Raises:
            QueueFullError: If too many jobs wait.
            ServerStoppingError: If the server is being stopped.
            GenerationCancelledError: If the job was cancelled before it began.
        """
        job = Job(user, kind, title, on_cancel=on_cancel)
        async with _disconnect_cancels(request, lambda: self._cancel(job)), self._place(job):
            context = contextvars.copy_context()
            call: Callable[[], Result] = lambda: context.run(work, job.cancel)  # noqa: E731
            future = asyncio.get_running_loop().run_in_executor(self._executor, call)
            try:
                while not future.done():
                    # Waiting does not cancel the thread's future, so the thread always ends before its job.
                    await asyncio.wait([future], timeout=CANCEL_AGAIN_S if job.cancel.is_set() else 1.0)
                    if job.cancel.is_set() and on_cancel is not None and not future.done():
                        on_cancel()
            except asyncio.CancelledError:
                self._cancel(job)
                await _finished(future, on_cancel)
                raise
            return future.result()

    async def stream(
        self,
        user: User,
        kind: str,
        start: Callable[[], Generator[Event, None, None]],
        *,
        abandon: Callable[[], object],
        title: str = "",
    ) -> AsyncGenerator[Event, None]:
        """Run a generator of events in a thread, and yield its events.

        Closing the iteration, which a client's disconnect does, cancels the job.

        Args:
            user: Whose job it is.
            kind: What it does.
            start: Creates the generator.
            abandon: Called to stop it; it must make a blocked generator yield soon, and may be called repeatedly.
            title: The prompt, or the beginning of the message.

        Yields:
            The events in order.

        Raises:
            QueueFullError: As for `run`.
            ServerStoppingError: As for `run`.
        """
        job = Job(user, kind, title, on_cancel=abandon)
        async with self._place(job):
            events = in_thread(start, lambda: self._cancel(job), self._executor)
            try:
                async for event in events:
                    _note_progress(job, event)
                    yield event
            finally:
                await events.aclose()

    async def draw(
        self,
        user: User,
        generator: ImageGenerator,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        request: Request | None = None,
        on_progress: Callable[[GenerationProgress], None] | None = None,
        on_result: Callable[[ImageResult], None] | None = None,
        strict: bool = False,
        num_previews: int = 0,
        meter: Meter | None = None,
        kind: str = "draw",
    ) -> list[ImageResult]:
        """Draw pictures; those of equal shape are drawn in one batch with those of other clients.

        Args:
            user: Whose job it is.
            generator: A generator of `AgentService.generators`.
            requests: The pictures to draw.
            pictures: The pictures that the requests name, by id.
            request: As for `run`.
            on_progress: Called on the event loop with each step.
            on_result: Called in the drawing thread with each result, as soon as it is there.
            strict: As for `mgem_agent.tools.drawing.draw`.
            num_previews: As for `mgem_agent.tools.drawing.draw`.
            meter: As for `mgem_agent.tools.drawing.draw`.
            kind: What the job does.

        Returns:
            One result for each request, in their order. Errors of the generator are in the results.

        Raises:
            QueueFullError: As for `run`.
            ServerStoppingError: As for `run`.
        """
        loop = asyncio.get_running_loop()

        def work(cancel: threading.Event) -> list[ImageResult]:
            found: dict[int, ImageResult] = {}
            options: Any = {"pictures": pictures, "cancel": cancel, "strict": strict, "num_previews": num_previews}
            options["meter"] = meter
            for event in draw(generator, requests, **options):
                if isinstance(event, ImageResult):
                    found[event.index] = event
                    if on_result is not None:
                        on_result(event)
                elif on_progress is not None:
                    loop.call_soon_threadsafe(on_progress, event)
            return [found[index] for index in range(len(requests))]

        title = requests[0].prompt[:80] if requests else ""
        return await self.run(user, kind, work, request=request, title=title)

    def list(self, user: User) -> list[Job]:
        """Return the running and waiting jobs of a user, oldest first."""
        jobs = [*self._running.values(), *self._waiting]
        return sorted((job for job in jobs if job.user == user), key=lambda job: job.created)

    def cancel(self, user: User, job_id: str) -> bool:
        """Cancel a job.

        Args:
            user: Whose job it is.
            job_id: Its id.

        Returns:
            Whether there is such a job of this user.
        """
        job = next((job for job in self.list(user) if job.id == job_id), None)
        if job is not None:
            self._cancel(job)
        return job is not None

    def stop_accepting(self) -> None:
        """Refuse new jobs, and hand back those that wait; running ones continue."""
        self._is_draining = True
        while self._waiting:
            job = self._waiting.popleft()
            if job.admitted is not None and not job.admitted.done():
                job.admitted.set_exception(_stopping())

    async def drain(self, timeout_s: float) -> int:
        """Stop accepting jobs, and wait for the running ones; cancel those that take longer.

        Args:
            timeout_s: Seconds that they have.

        Returns:
            Number of jobs that were cancelled.
        """
        self.stop_accepting()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        late = list(self._running.values())
        for job in late:
            self._cancel(job)
        await self._idle.wait()
        return len(late)

    def close(self) -> None:
        """End the threads; no job may run."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _place(self, job: Job) -> AsyncIterator[None]:
        """Wait for a place among the running jobs, and free it at the end."""
        asked = time.monotonic()
        await self._admit(job)
        job.started_s = time.monotonic()
        try:
            yield
        finally:
            ran_s = time.monotonic() - job.started_s
            self._mean_s += 0.1 * (ran_s - self._mean_s)
            job.state = "cancelled" if job.cancel.is_set() else "finished"
            del self._running[job.id]
            self._start_next()
            if self._watch is not None:
                self._watch(job, job.started_s - asked, ran_s)

    def check_room(self) -> None:
        """Check whether a job would run or wait.

        Raises:
            QueueFullError: If too many jobs wait.
            ServerStoppingError: If the server is being stopped.
        """
        if self._is_draining:
            raise _stopping()
        if len(self._waiting) >= self._queue and not self._has_place:
            raise QueueFullError(
                f"{len(self._running)} requests run and {len(self._waiting)} wait, the maximum (server.queue). "
                "Send the request again after the seconds in the header Retry-After.",
                retry_after_s=self._retry_after_s(),
            )

    @property
    def _has_place(self) -> bool:
        return len(self._running) < self._workers and not self._waiting

    async def _admit(self, job: Job) -> None:
        self.check_room()
        if self._has_place:
            self._begin(job)
            return
        job.admitted = asyncio.get_running_loop().create_future()
        self._waiting.append(job)
        try:
            await job.admitted
        except BaseException:
            with suppress(ValueError):
                self._waiting.remove(job)
            if self._running.pop(job.id, None) is not None:  # admitted and cancelled at the same time
                self._start_next()
            raise

    def _begin(self, job: Job) -> None:
        job.state = "running"
        self._running[job.id] = job
        self._idle.clear()

    def _start_next(self) -> None:
        while self._waiting and len(self._running) < self._workers:
            job = self._waiting.popleft()
            if job.admitted is not None and not job.admitted.done():
                self._begin(job)
                job.admitted.set_result(None)
        if not self._running:
            self._idle.set()

    def _cancel(self, job: Job) -> None:
        job.cancel.set()
        if job.state == "waiting" and job.admitted is not None and not job.admitted.done():
            job.admitted.set_exception(GenerationCancelledError("The request was cancelled before it began."))
        elif job.state == "running" and job.on_cancel is not None:
            job.on_cancel()

    def _retry_after_s(self) -> int:
        rounds = (len(self._waiting) + 1) / self._workers
        return min(MAX_RETRY_S, max(1, math.ceil(rounds * self._mean_s)))


def _stopping() -> ServerStoppingError:
    return ServerStoppingError("The server is being stopped. Send the request again; nothing of it was done.")


def _note_progress(job: Job, event: Any) -> None:
    step, num_steps = getattr(event, "step", None), getattr(event, "num_steps", None)
    if isinstance(step, int) and isinstance(num_steps, int):
        job.step, job.num_steps = step, num_steps


async def _finished(future: asyncio.Future[Any], on_cancel: Callable[[], object] | None) -> None:
    """Wait until a cancelled thread has ended."""
    while not future.done():
        if on_cancel is not None:
            on_cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future], timeout=CANCEL_AGAIN_S)
    if not future.cancelled():
        future.exception()  # retrieve it, so that asyncio does not log it


@asynccontextmanager
async def _disconnect_cancels(request: Request | None, cancel: Callable[[], object]) -> AsyncIterator[None]:
    """Call a function if the client disconnects meanwhile. The request's body must have been read."""
    if request is None:
        yield
        return

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
