"""Draw with any generator. Every request gets exactly one result, whatever the generator does.

All pictures are drawn here. Each request is fitted to what the generator supports, batches are cut to its maximum size,
and its output is checked. If a generator raises an error midway, answers a request twice or not at all, or returns an
image of the wrong size, only the affected pictures fail. Finished pictures are yielded at once and are not lost later.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from PIL import Image
from pydantic import ValidationError

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import (
    BudgetExceededError,
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorUnavailableError,
    ImageError,
    InputError,
    MgemError,
    ToolError,
)
from mgem_agent.tools.budget import Cost, Meter
from mgem_agent.tools.capabilities import Capabilities, Notice, negotiate, recordable
from mgem_agent.tools.image_generator import ImageGenerator, PreviewingGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["draw"]


@dataclass(frozen=True, slots=True)
class _Job:
    """A request that is being drawn.

    Attributes:
        index: Index among all requests.
        asked: The original request.
        fitted: The request that the generator gets.
        notices: The differences between the two.
    """

    index: int
    asked: ImageRequest
    fitted: ImageRequest
    notices: tuple[Notice, ...]


def draw(
    generator: ImageGenerator,
    requests: Sequence[ImageRequest],
    *,
    pictures: Mapping[str, Image.Image] | None = None,
    cancel: threading.Event | None = None,
    strict: bool = False,
    num_previews: int = 0,
    meter: Meter | None = None,
) -> Iterator[GenerationProgress | ImageResult]:
    """Draw pictures, and yield progress and results as they come.

    Errors of the generator are never raised here; they are in the results.

    Args:
        generator: The generator that draws.
        requests: The pictures to draw.
        pictures: The pictures that the requests name, by id.
        cancel: Set this from another thread to stop. Pictures that are finished by then are still yielded.
        strict: Refuse a request instead of dropping or adapting its arguments.
        num_previews: Number of previews of each unfinished picture, in the progress. A generator without the capability
            `previews` shows none.
        meter: Refuses pictures that would pass a budget, and counts what is spent. A refused picture's result has a
            `BudgetExceededError`.

    Yields:
        Progress, and exactly one result for each request, in any order. Its picture is RGB and has the size in its
        `executed` request. Its notices name each argument that was changed or left out.
    """
    pictures = pictures or {}
    meter = meter if meter is not None else Meter()
    try:
        capabilities = generator.capabilities
    except Exception as error:  # a third-party generator may raise anything; the results report it
        failure = _as_ours(error, generator)
        for index, request in enumerate(requests):
            yield _failed(generator, _Job(index, request, request, ()), failure)
        return

    jobs = []
    for index, request in enumerate(requests):
        try:
            jobs.append(_fit(index, request, capabilities, generator.name, pictures, strict))
        except InputError as refusal:
            yield _failed(generator, _Job(index, request, request, ()), refusal)

    size = capabilities.max_batch_size or max(len(jobs), 1)
    given_up: MgemError | None = None
    for start in range(0, len(jobs), size):
        if given_up is None and cancel is not None and cancel.is_set():
            given_up = GenerationCancelledError("The request was cancelled before drawing began.")
        bill = _Bill(generator, meter)
        paid, refused = [], []
        for job in jobs[start : start + size]:
            try:
                bill.reserve(job)
                paid.append(job)
            except BudgetExceededError as refusal:
                refused.append(_failed(generator, job, given_up or refusal))
        batch = _Batch(generator, capabilities, paid, strict=strict, num_previews=num_previews)
        try:
            if given_up is None and paid:
                yield from map(bill.settle, batch.run(pictures, cancel))
                # An unavailable generator will not be available for the next batch either.
                given_up = batch.failure if isinstance(batch.failure, GeneratorUnavailableError) else None
            yield from batch.missing(given_up)
        finally:
            bill.close()
        yield from refused


def _fit(
    index: int,
    request: ImageRequest,
    capabilities: Capabilities,
    name: str,
    pictures: Mapping[str, Image.Image],
    strict: bool,
) -> _Job:
    fitted, notices = negotiate(request, capabilities, generator=name, strict=strict)
    absent = [repr(picture) for picture in fitted.picture_ids if picture not in pictures]
    if absent:
        raise InputError(
            f"The request names picture(s) {', '.join(absent)}, which are missing in `pictures`. Add each of them."
        )
    return _Job(index, request, fitted, notices)


class _Bill:
    """What the pictures of one batch cost: reserved before they are drawn, and counted when they are.

    Args:
        generator: The generator.
        meter: Counts what is spent.
    """

    def __init__(self, generator: ImageGenerator, meter: Meter) -> None:
        self._generator = generator
        self._meter = meter
        self._reserved: dict[int, Cost] = {}

    def reserve(self, job: _Job) -> None:
        """Reserve the cost of a picture.

        Raises:
            BudgetExceededError: If it would pass a budget.
        """
        usd = self._meter.prices.of_picture(self._generator, job.fitted)
        asked = Cost.priced(usd, pictures=1, seconds=self._meter.seconds_a_picture)
        self._meter.reserve(asked, f"a picture by {self._generator.name!r}")
        self._reserved[job.index] = asked

    def settle(self, event: GenerationProgress | ImageResult) -> GenerationProgress | ImageResult:
        """Count the cost of a result, and return the result with it."""
        if isinstance(event, GenerationProgress) or event.index not in self._reserved:
            return event
        asked = self._reserved.pop(event.index)
        self._meter.release(asked)
        if event.image is None:
            return event
        self._meter.add(replace(asked, seconds=event.seconds))
        return replace(event, cost_usd=None if asked.unpriced else asked.usd)

    def close(self) -> None:
        """Release what is still reserved: the pictures were not drawn."""
        while self._reserved:
            self._meter.release(self._reserved.popitem()[1])


class _Batch:
    """Requests that the generator gets in one batch, and their results so far.

    Attributes:
        failure: The error that the generator raised, or None.
    """

    def __init__(
        self,
        generator: ImageGenerator,
        capabilities: Capabilities,
        jobs: Sequence[_Job],
        *,
        strict: bool,
        num_previews: int,
    ) -> None:
        self.failure: MgemError | None = None
        self._generator = generator
        self._capabilities = capabilities
        self._jobs = jobs
        self._strict = strict
        self._num_previews = num_previews if capabilities.previews else 0
        self._open = set(range(len(jobs)))
        self._cancelled = False

    def run(
        self, pictures: Mapping[str, Image.Image], cancel: threading.Event | None
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Let the generator draw, and yield its valid events."""
        needed = {name: pictures[name] for job in self._jobs for name in job.fitted.picture_ids}
        try:
            events = self._started([job.fitted for job in self._jobs], needed, cancel)
        except Exception as error:  # a third-party generator may raise anything; the results report it
            self.failure = _as_ours(error, self._generator)
            return
        try:
            while self._open:
                try:
                    event = next(events)
                except StopIteration:
                    break
                except Exception as error:  # as above
                    self.failure = _as_ours(error, self._generator)
                    break
                yield from self._checked(event)
        finally:
            self._cancelled = cancel is not None and cancel.is_set()
            close = getattr(events, "close", None)
            if close is not None:
                close()

    def _started(
        self, requests: Sequence[ImageRequest], pictures: Mapping[str, Image.Image], cancel: threading.Event | None
    ) -> Iterator[GenerationProgress | ImageResult]:
        if not self._num_previews:
            return self._generator.generate(requests, pictures=pictures, cancel=cancel)
        generator = cast(PreviewingGenerator, self._generator)
        return generator.generate(requests, pictures=pictures, cancel=cancel, num_previews=self._num_previews)

    def missing(self, failure: MgemError | None) -> Iterator[ImageResult]:
        """Yield an error for each request without a result."""
        error = self.failure or failure
        if error is None and self._cancelled:
            error = GenerationCancelledError("The request was cancelled.")
        if error is None:
            error = GeneratorOutputError(f"Generator {self._generator.name!r} gave no result for this request.")
        for place in sorted(self._open):
            yield _failed(self._generator, self._jobs[place], error)

    def _checked(self, event: object) -> Iterable[GenerationProgress | ImageResult]:
        """Return an event with its index among all requests; nothing if it is invalid or a repeated result."""
        if not isinstance(event, (GenerationProgress, ImageResult)) or event.index not in self._open:
            return
        job = self._jobs[event.index]
        if isinstance(event, GenerationProgress):
            yield replace(event, index=job.index)
            return
        self._open.discard(event.index)
        try:
            # Read again: a generator may have learned from a server's answer that more is supported.
            yield _held_to_the_contract(event, job, self._generator.capabilities, strict=self._strict)
        except MgemError as error:
            yield replace(
                event, index=job.index, request=job.asked, image=None, error=error, notices=job.notices + event.notices
            )


def _held_to_the_contract(result: ImageResult, job: _Job, capabilities: Capabilities, *, strict: bool) -> ImageResult:
    """Convert a picture to RGB, and check that it matches its record and that the record can be drawn again."""
    notices = job.notices + tuple(notice for notice in result.notices if notice not in job.notices)
    if result.image is None:
        error = result.error or GeneratorOutputError(
            f"Generator {result.generator!r} returned no picture and no error."
        )
        return replace(result, index=job.index, request=job.asked, error=error, notices=notices)
    try:
        image = load_image(result.image)
    except ImageError as error:
        raise GeneratorOutputError(f"Generator {result.generator!r} returned an invalid picture: {error}") from error
    for name, drawn in zip(("width", "height"), image.size, strict=True):
        claimed, fitted = getattr(result.executed, name), getattr(job.fitted, name)
        if claimed is not None and claimed != drawn:
            raise GeneratorOutputError(
                f"Generator {result.generator!r} returned a picture with a {name} of {drawn} but reports {claimed}."
            )
        if fitted is not None and fitted != drawn:
            notice = Notice(argument=name, message=f"A {name} of {fitted} was requested; the picture has {drawn}.")
            if strict:
                raise GeneratorOutputError(f"Generator {result.generator!r}: {notice.message}")
            notices += () if any(known.argument == name for known in result.notices) else (notice,)
    try:
        executed = ImageRequest.model_validate(
            result.executed.model_dump() | {"width": image.width, "height": image.height}
        )
    except ValidationError as error:
        raise GeneratorOutputError(
            f"Generator {result.generator!r} reports an impossible request: {error.errors()[0]['msg']}."
        ) from error
    executed = recordable(executed, capabilities)
    return replace(
        result, index=job.index, request=job.asked, executed=executed, image=image, error=None, notices=notices
    )


def _failed(generator: ImageGenerator, job: _Job, error: MgemError) -> ImageResult:
    return ImageResult(
        index=job.index,
        request=job.asked,
        executed=job.fitted,
        generator=generator.name,
        model="",
        error=error,
        notices=job.notices,
    )


def _as_ours(error: Exception, generator: ImageGenerator) -> MgemError:
    """Return an error of `mgem_agent.errors`; any other exception is wrapped in a ToolError."""
    if isinstance(error, MgemError):
        return error
    wrapped = ToolError(f"Generator {generator.name!r} failed ({type(error).__name__}: {error}). Its log may say more.")
    wrapped.__cause__ = error
    return wrapped
