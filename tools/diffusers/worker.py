"""One thread for each pipeline: it collects requests from several threads and draws them in batches.

A pipeline has internal state and is not thread-safe. Here any thread can add jobs to a queue. Jobs with equal keys are
drawn together, and each caller gets its own pictures and progress. The thread starts with the first job and ends after
a while without one, so nothing has to be closed.
"""

from __future__ import annotations

import atexit
import gc
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field

from PIL import Image

from mgem_agent.errors import GenerationCancelledError, GeneratorUnavailableError, MgemError, ToolError
from mgem_agent.tools.diffusers.plan import DrawingPlan
from mgem_agent.tools.diffusers.previews import OnStep, Unfinished
from mgem_agent.tools.image_generator import preview_steps
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress

__all__ = ["BatchWorker", "Job", "Outcome", "Unready"]

_CLOSE_S = 30.0
"""Seconds that the end of the program waits for the current step."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a job: a picture or an error.

    Attributes:
        job: The job.
        picture: The picture or an error.
        seconds: Its share of the batch's time.
    """

    job: Job
    picture: Image.Image | MgemError
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Unready:
    """The pipeline cannot be loaded.

    Attributes:
        job: The job that needed it.
        error: The error.
    """

    job: Job
    error: MgemError


class Job:
    """A request on its way through the worker.

    Args:
        index: Place in the caller's batch.
        request: What is asked for.
        pictures: The picture of each id that it names.
        cancel: Set by the caller to stop it.
        events: Where progress and the outcome go.
        num_previews: Number of progress events that have a preview.
    """

    def __init__(
        self,
        index: int,
        request: ImageRequest,
        *,
        pictures: Mapping[str, Image.Image],
        cancel: threading.Event | None,
        events: queue.SimpleQueue[GenerationProgress | Outcome | Unready],
        num_previews: int = 0,
    ) -> None:
        self.index = index
        self.request = request
        self.pictures = pictures
        self.events = events
        self.num_previews = num_previews
        self.plan: DrawingPlan | None = None
        self._cancel = cancel
        self._lock = threading.Lock()
        self._taken = False
        self._left = False

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the picture any more."""
        return self._left or (self._cancel is not None and self._cancel.is_set())

    def leave(self) -> None:
        """Say that nobody waits for it any more."""
        self._left = True

    def take(self) -> bool:
        """Take it, to draw it or to give it up; True for the first who does."""
        with self._lock:
            taken, self._taken = self._taken, True
            return not taken


@dataclass(frozen=True, slots=True)
class _Errand:
    """Something else to be done between two batches."""

    do: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)
    errors: list[Exception] = field(default_factory=list)


class BatchWorker:
    """Draws jobs in batches, in a thread of its own.

    Args:
        ready: Loads what is not loaded; called before each batch.
        plan: Says what a job becomes.
        draw: Draws plans of one key, calling back after each step with the steps done and in all, and with what decodes
            the unfinished pictures.
        max_batch_size: Most pictures at once; None for as many as there are.
        batch_limit: Most pictures like a plan that fit into memory; None for any number.
        gather_s: How long to wait for jobs of other threads, in seconds.
        hold: Keeps the pipeline on its device while a batch is prepared and drawn; its argument says whether nobody
            waits for the batch any more.
        make_room: Called when memory is short; true if other models have left the device.
        idle_s: How long the thread stays without a job, in seconds.
    """

    def __init__(
        self,
        *,
        ready: Callable[[], object],
        plan: Callable[[Job], DrawingPlan],
        draw: Callable[[Sequence[DrawingPlan], OnStep], list[Image.Image | MgemError]],
        max_batch_size: int | None = None,
        batch_limit: Callable[[DrawingPlan], int | None] = lambda plan: None,
        gather_s: float = 0.01,
        hold: Callable[[Callable[[], bool]], AbstractContextManager[None]] = lambda is_cancelled: nullcontext(),
        make_room: Callable[[], bool] = lambda: False,
        idle_s: float = 1.0,
    ) -> None:
        self._ready = ready
        self._plan = plan
        self._draw = draw
        self._max_batch_size = max_batch_size
        self._batch_limit = batch_limit
        self._gather_s = gather_s
        self._hold = hold
        self._make_room = make_room
        self._idle_s = idle_s
        self._inbox: queue.SimpleQueue[Job | _Errand] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting: list[Job] = []
        self._closing = False
        # A thread that is in torch when the interpreter goes down takes the process with it.
        atexit.register(_close, weakref.ref(self))
        # Batches of a key that once did not fit are not tried at that size again.
        self._fitting: dict[object, int] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs into the queue; their events say what becomes of them."""
        self._put(jobs)

    def run(self, errand: Callable[[], None]) -> None:
        """Do something between two batches, and wait until it is done; what it raises is raised here."""
        item = _Errand(errand)
        self._put([item])
        item.done.wait()
        if item.errors:
            raise item.errors[0]

    def close(self) -> None:
        """Give up what is being drawn at its next step, and wait for the thread to end."""
        self._closing = True
        with self._lock:
            thread = self._thread
            if thread is not None:
                self._inbox.put(_Errand(lambda: None))
        if thread is not None:
            thread.join(timeout=_CLOSE_S)

    def _put(self, items: Sequence[Job | _Errand]) -> None:
        if not items:
            return
        with self._lock:
            for item in items:
                self._inbox.put(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mgem-diffusers", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            if self._closing:
                return
            if not self._waiting and not self._receive(self._idle_s):
                with self._lock:
                    if self._inbox.empty():
                        self._thread = None
                        return
                continue
            self._gather()
            self._draw_held()

    def _receive(self, timeout: float) -> bool:
        """Take in one job or do one errand; False if none came in time."""
        try:
            item = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return False
        if isinstance(item, _Errand):
            try:
                item.do()
            except Exception as error:  # it is the caller's, not this thread's
                item.errors.append(error)
            finally:
                item.done.set()
        else:
            self._waiting.append(item)
        return True

    def _gather(self) -> None:
        """Take in what is there, and what comes within a short while."""
        until = time.monotonic() + self._gather_s
        while self._receive(max(until - time.monotonic(), 0.0)):
            pass

    def _draw_held(self) -> None:
        """Draw the next batch while the pipeline is on its device; tell all waiting jobs if it cannot get there."""
        with ExitStack() as held:
            try:
                held.enter_context(
                    self._hold(lambda: self._closing or all(job.cancelled for job in list(self._waiting)))
                )
            except MgemError as error:
                is_cancelled = isinstance(error, GenerationCancelledError)
                for job in self._waiting:
                    self._give_up(job, Outcome(job, error) if is_cancelled else Unready(job, error))
                self._waiting = []
                return
            self._draw_next()

    def _draw_next(self) -> None:
        """Draw those waiting jobs that go with the first."""
        planned = [job for job in self._waiting if self._is_planned(job)]
        self._waiting = planned
        if not planned:
            return
        key = planned[0].plan.key if planned[0].plan else None
        batch = [job for job in planned if job.plan is not None and job.plan.key == key]
        plan = planned[0].plan
        fitting = None if plan is None or len(batch) == 1 else self._batch_limit(plan)
        limits = (self._max_batch_size, self._fitting.get(key), fitting, len(batch))
        batch = batch[: min(limit for limit in limits if limit is not None)]
        self._waiting = [job for job in planned if job not in batch]
        self._draw_batch([job for job in batch if job.take()])

    def _is_planned(self, job: Job) -> bool:
        """Plan a job if that is not done; False if it cannot be drawn, which it is then told."""
        if job.plan is not None:
            return True
        try:
            self._ready()
        except MgemError as error:
            return self._give_up(job, Unready(job, error))
        except Exception as error:  # a thread that dies of what no one foresaw would let its callers wait for ever
            failure = GeneratorUnavailableError(f"The pipeline cannot be loaded: {_describe(error)}")
            return self._give_up(job, Unready(job, failure))
        try:
            job.plan = self._plan(job)
        except MgemError as error:
            return self._give_up(job, Outcome(job, error))
        except Exception as error:
            failed = ToolError(f"The request cannot be prepared: {_describe(error)}")
            return self._give_up(job, Outcome(job, failed))
        return True

    @staticmethod
    def _give_up(job: Job, event: Outcome | Unready) -> bool:
        if job.take():
            job.events.put(event)
        return False

    def _draw_batch(self, jobs: Sequence[Job]) -> None:
        """Draw jobs of one key, in halves if they do not fit into memory, one by one if one of them fails."""
        for job in jobs:
            if job.cancelled:
                job.events.put(Outcome(job, _cancelled()))
        live = [job for job in jobs if not job.cancelled]
        plans = [job.plan for job in live if job.plan is not None]
        if not plans:
            return
        started = time.monotonic()
        pictures, failure, is_short = self._try(live, plans)
        if failure is not None:
            # Not within the handler: what it caught holds on to the tensors that filled the memory.
            _free_memory()
            if is_short and self._make_room():
                self._draw_batch(live)
                return
            if len(live) > 1:
                self._draw_parts(live, is_short)
                return
            pictures = [failure]
        seconds = (time.monotonic() - started) / len(live)
        for job, picture in zip(live, pictures, strict=True):
            job.events.put(Outcome(job, _cancelled() if job.cancelled else picture, seconds))

    def _try(
        self, jobs: Sequence[Job], plans: Sequence[DrawingPlan]
    ) -> tuple[list[Image.Image | MgemError], MgemError | None, bool]:
        """Draw a batch; return the pictures, or why there are none, and whether memory was short."""
        try:
            self._ready()
            return self._draw(plans, lambda *state: self._report(jobs, *state)), None, False
        except GenerationCancelledError as error:
            return [error] * len(jobs), None, False
        except Exception as error:  # whatever a pipeline raises, the other jobs go on
            return [], _explain(error, plans[0].request), _is_out_of_memory(error)

    def _draw_parts(self, jobs: Sequence[Job], is_short: bool) -> None:
        """Draw a batch that failed again: in halves if memory was short, else one by one."""
        size = max(len(jobs) // 2, 1) if is_short else 1
        if is_short and (plan := jobs[0].plan) is not None:
            self._fitting[plan.key] = size
        for start in range(0, len(jobs), size):
            self._draw_batch(jobs[start : start + size])

    def _report(self, jobs: Sequence[Job], step: int, num_steps: int, unfinished: Unfinished) -> None:
        """Tell the callers of a step; raise if none of them wants the rest."""
        wanted = [job for job in jobs if not job.cancelled]
        if not wanted or self._closing:
            raise _cancelled()
        watched = [job for job in wanted if step in preview_steps(num_steps, job.num_previews)]
        pictures = dict(zip(jobs, unfinished(), strict=False)) if watched else {}
        for job in wanted:
            preview = pictures.get(job) if job in watched else None
            job.events.put(GenerationProgress(job.index, step, num_steps, preview))


def _close(worker: weakref.ref[BatchWorker]) -> None:
    if (found := worker()) is not None:
        found.close()


def _cancelled() -> GenerationCancelledError:
    return GenerationCancelledError("The request was cancelled. Repeat it to draw from the start.", retryable=True)


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # Not every device has a class for it.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "allocate memory" in text)


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _explain(error: Exception, request: ImageRequest) -> MgemError:
    if isinstance(error, MgemError):
        return error
    if _is_out_of_memory(error):
        size = f" of {request.width}x{request.height}" if request.width and request.height else ""
        return ToolError(
            f"There is not enough memory to draw one picture{size}. Request a smaller one, or set the options "
            "offload='model', quantization=8 or vae_tiling=True."
        )
    return ToolError(f"The pipeline failed: {_describe(error)}")


def _describe(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'without a message'}"
