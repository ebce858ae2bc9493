"""Gather the picture requests of many clients into the batches of one generator.

Each generator has one thread that draws. Requests that arrive while it draws wait, and those of the same shape become
the next batch. Decisions that matter:

- **A client cancels only its own pictures.** A batch is stopped only if nobody wants any of its pictures.
- **One client's failure is not another's.** If a batch of several clients fails as a whole, it is drawn again client by
  client.
- **The same seed gives the same bytes**, because a generator draws the same picture alone and in a batch.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from PIL import Image

from mgem_agent.errors import GenerationCancelledError, GeneratorOutputError, GeneratorUnavailableError
from mgem_agent.server.metrics import Metrics
from mgem_agent.server.tracing import Tracing, end_span
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_generator import ImageGenerator, PreviewingGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.spending import costs_money

__all__ = ["GatheringGenerator"]

CANCEL_CHECK_S = 0.05
EXPECT_AGAIN_S = 0.005
"""Seconds after which it is checked again whether further requests are expected."""

_Event = GenerationProgress | ImageResult


@dataclass(eq=False)
class _Client:
    """One call of `generate`: its requests, and where its events go."""

    requests: Sequence[ImageRequest]
    pictures: Mapping[str, Image.Image]
    cancel: threading.Event
    num_previews: int = 0
    events: queue.SimpleQueue[_Event | Exception] = field(default_factory=queue.SimpleQueue)
    has_left: bool = False

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for its pictures any more."""
        return self.has_left or self.cancel.is_set()


@dataclass(eq=False)
class _Item:
    """One request of a client."""

    client: _Client
    index: int
    num_shown: int = 0

    @property
    def request(self) -> ImageRequest:
        return self.client.requests[self.index]

    def tell(self, event: _Event) -> None:
        """Pass an event on to the client, with a preview only if the client wants one more."""
        if isinstance(event, GenerationProgress) and event.preview is not None:
            self.num_shown += 1
            if self.num_shown > self.client.num_previews:
                event = replace(event, preview=None)
        self.client.events.put(replace(event, index=self.index))


class GatheringGenerator:
    """A generator whose callers share its batches.

    Args:
        generator: The generator that draws.
        max_batch: Maximum number of pictures in a batch.
        wait_s: Seconds to wait for further requests before a batch that is not full.
        expects_more: Returns whether further requests may arrive soon; without them, a batch starts at once.
        metrics: Counts pictures and batches.
        tracing: Makes a span for each call.
    """

    def __init__(
        self,
        generator: ImageGenerator,
        *,
        max_batch: int = 8,
        wait_s: float = 0.02,
        expects_more: Callable[[int], bool] = lambda num_waiting: False,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.generator = generator
        self._metrics = metrics
        self._tracing = tracing if tracing is not None else Tracing()
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._expects_more = expects_more
        self._waiting: list[_Item] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def name(self) -> str:
        """Name of the generator in the registry."""
        return self.generator.name

    @property
    def capabilities(self) -> Capabilities:
        """The tasks and arguments that the generator supports."""
        return self.generator.capabilities

    @property
    def costs_money(self) -> bool:
        """Whether the generator costs money."""
        return costs_money(self.generator)

    @property
    def num_waiting(self) -> int:
        """Number of pictures that wait for a batch."""
        return len(self._waiting)

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
        num_previews: int = 0,
    ) -> Iterator[_Event]:
        """Draw requests together with those of other callers, as `PreviewingGenerator` defines it."""
        client = _Client(list(requests), pictures or {}, cancel or threading.Event(), num_previews)
        attributes: dict[str, str | int] = {"mgem.generator": self.name, "mgem.pictures": len(requests)}
        span = self._tracing.tracer.start_span(f"draw {self.name}", attributes=attributes)
        error: BaseException | None = None
        num_ended = 0
        try:
            self._submit([_Item(client, index) for index in range(len(requests))])
            for event in self._events(client):
                if isinstance(event, ImageResult):
                    num_ended += 1
                    self._count(event)
                yield event
        except Exception as raised:
            error = raised
            if self._metrics is not None:
                self._metrics.pictures.labels(self.name, "failed").inc(len(requests) - num_ended)
            raise
        finally:
            client.has_left = True
            end_span(span, error)

    def _count(self, result: ImageResult) -> None:
        if self._metrics is not None:
            self._metrics.picture_ended(self.name, result)

    def _events(self, client: _Client) -> Iterator[_Event]:
        """Yield a client's events until each of its requests has a result."""
        left = set(range(len(client.requests)))
        while left:
            event = _next(client)
            if event is None:
                yield from (_cancelled(self.generator, client, index) for index in sorted(left))
                return
            if isinstance(event, Exception):
                raise event
            if isinstance(event, ImageResult):
                left.discard(event.index)
            yield event

    def unload(self) -> None:
        """Free the generator's memory."""
        self.generator.unload()

    def close(self) -> None:
        """End the thread after its current batch; waiting requests fail."""
        with self._changed:
            self._is_closed = True
            waiting, self._waiting = self._waiting, []
            self._changed.notify_all()
        for client in {id(item.client): item.client for item in waiting}.values():
            client.events.put(GenerationCancelledError("The server is being stopped. Send the request again."))
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _submit(self, items: list[_Item]) -> None:
        with self._changed:
            if self._is_closed:
                raise GeneratorUnavailableError("The server is being stopped. Send the request again.", retryable=True)
            self._waiting += items
            if self._thread is None:
                name = f"draw {self.generator.name}"
                self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._draw(batch)

    def _next_batch(self) -> list[_Item] | None:
        """Wait for requests, and return those that can be drawn together; None at the end."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                return None
            until = time.monotonic() + self._wait_s
            while (
                len(self._waiting) < self._max_batch
                and self._expects_more(len({id(item.client) for item in self._waiting}))
                and (left := until - time.monotonic()) > 0
                and not self._is_closed
            ):
                self._changed.wait(min(left, EXPECT_AGAIN_S))
            return self._take()

    def _take(self) -> list[_Item]:
        """Take the oldest request and those that fit it; drop those that nobody waits for."""
        self._waiting = [item for item in self._waiting if not item.client.is_gone]
        batch: list[_Item] = []
        shown: dict[str, Image.Image] = {}
        for item in self._waiting:
            own = {
                name: item.client.pictures[name] for name in item.request.picture_ids if name in item.client.pictures
            }
            if batch and (_shape(item.request) != _shape(batch[0].request) or not _agree(shown, own)):
                continue
            batch.append(item)
            shown |= own
            if len(batch) == self._size():
                break
        taken = {id(item) for item in batch}
        self._waiting = [item for item in self._waiting if id(item) not in taken]
        return batch

    def _size(self) -> int:
        try:
            most = self.generator.capabilities.max_batch_size
        except Exception:  # the generator reports it when it draws
            most = 1
        return min(self._max_batch, most or self._max_batch)

    def _draw(self, batch: Sequence[_Item]) -> None:
        """Draw a batch; if it fails as a whole, draw each client's part alone."""
        left, error = self._run(batch)
        if error is None or not left:
            return
        clients = list({id(item.client): item.client for item in left}.values())
        if len({id(item.client) for item in batch}) == 1 or isinstance(error, GeneratorUnavailableError):
            for client in clients:
                client.events.put(error)
            return
        for client in clients:
            rest, own_error = self._run([item for item in left if item.client is client])
            if own_error is not None and rest:
                client.events.put(own_error)

    def _run(self, batch: Sequence[_Item]) -> tuple[list[_Item], Exception | None]:
        """Call the generator once.

        Returns:
            The items without a result, and the error that the generator raised, if any.
        """
        if self._metrics is not None:
            self._metrics.batches.labels(self.name).observe(len(batch))
        pictures = {name: picture for item in batch for name, picture in item.client.pictures.items()}
        cancel = _AllGone([item.client for item in batch])
        left = set(range(len(batch)))
        error: Exception | None = None
        try:
            for event in self._started(batch, pictures, cancel):
                if event.index not in left:
                    continue
                item = batch[event.index]
                if isinstance(event, ImageResult):
                    left.discard(event.index)
                item.tell(event)
        except Exception as raised:  # a third-party generator may raise anything; the callers report it
            error = raised
        if left and error is None:
            error = GeneratorOutputError(f"Generator {self.generator.name!r} gave no result for this request.")
            if cancel.is_set():
                error = GenerationCancelledError("The request was cancelled.")
        return [batch[index] for index in sorted(left)], error

    def _started(
        self, batch: Sequence[_Item], pictures: Mapping[str, Image.Image], cancel: threading.Event
    ) -> Iterator[_Event]:
        requests = [item.request for item in batch]
        num_previews = max(item.client.num_previews for item in batch)
        if not num_previews:
            return self.generator.generate(requests, pictures=pictures, cancel=cancel)
        generator = cast(PreviewingGenerator, self.generator)
        return generator.generate(requests, pictures=pictures, cancel=cancel, num_previews=num_previews)


class _AllGone(threading.Event):
    """Set as soon as nobody waits for a batch."""

    def __init__(self, clients: Sequence[_Client]) -> None:
        super().__init__()
        self._clients = clients

    def is_set(self) -> bool:
        """Return whether all clients have left."""
        return super().is_set() or all(client.is_gone for client in self._clients)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all clients have left."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = CANCEL_CHECK_S if until is None else min(CANCEL_CHECK_S, until - time.monotonic())
            if left <= 0:
                return False
            super().wait(left)
        return True


def _next(client: _Client) -> _Event | Exception | None:
    """Return the next event of a client; None if it was cancelled and no event has arrived."""
    while True:
        is_cancelled = client.cancel.is_set()
        try:
            return client.events.get(timeout=0 if is_cancelled else CANCEL_CHECK_S)
        except queue.Empty:
            if is_cancelled:
                return None


def _cancelled(generator: ImageGenerator, client: _Client, index: int) -> ImageResult:
    request = client.requests[index]
    error = GenerationCancelledError("The request was cancelled.")
    return ImageResult(index, request, request, generator.name, model="", error=error)


def _shape(request: ImageRequest) -> tuple[object, ...]:
    """What requests of one batch have in common."""
    return (
        request.task,
        request.width,
        request.height,
        request.num_inference_steps,
        request.guidance_scale,
        request.strength,
        len(request.references),
        json.dumps(request.options, sort_keys=True),
    )


def _agree(shown: Mapping[str, Image.Image], own: Mapping[str, Image.Image]) -> bool:
    """Whether two clients mean the same pictures by the same ids."""
    return all(
        shown[name] is picture or (shown[name].size == picture.size and shown[name].tobytes() == picture.tobytes())
        for name, picture in own.items()
        if name in shown
    )
