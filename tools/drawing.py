"""Drawing with any generator, with one answer for each request whatever the generator does.

This is the one way from requests to pictures. It fits each request to what the generator can do, cuts the batch to
what it takes at once, and holds it to its contract: a generator that raises half-way, answers twice, not at all, or
with something that is no picture of the size it claims, costs the pictures concerned and no other. What was drawn
before is passed on as it comes and cannot be lost afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from PIL import Image
from pydantic import ValidationError

from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import (
    GenerationCancelledError,
    GeneratorOutputError,
    GeneratorUnavailableError,
    ImageError,
    InputError,
    MgemError,
    ToolError,
)
from mgem_agent.tools.capabilities import Capabilities, Notice, negotiate, recordable
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["draw"]


@dataclass(frozen=True, slots=True)
class _Job:
    """A request on its way.

    Attributes:
        index: Place among all requests.
        asked: What was asked for.
        fitted: What is given to the generator.
        notices: What was changed in between.
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
) -> Iterator[GenerationProgress | ImageResult]:
    """Draw pictures, yielding what happens as it happens.

    Nothing that the generator does raises here: what goes wrong is in the results.

    Args:
        generator: What draws.
        requests: What to draw.
        pictures: The picture of each id that a request names.
        cancel: Set by another thread to stop; what is drawn by then is still yielded.
        strict: Whether an argument that the generator would leave out or adapt is refused instead.

    Yields:
        Progress, and exactly one result for each request, in any order. Its picture is RGB and of the size that its
        `executed` request says; its notices name each argument that was not honoured as given.
    """
    pictures = pictures or {}
    try:
        capabilities = generator.capabilities
    except Exception as error:  # anybody's generator: whatever it raises belongs in the results
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
        batch = _Batch(generator, capabilities, jobs[start : start + size], strict=strict)
        if given_up is None and cancel is not None and cancel.is_set():
            given_up = GenerationCancelledError("The drawing was cancelled before it began.")
        if given_up is None:
            yield from batch.run(pictures, cancel)
            # A generator that is not there at all will not be there for the next batch either.
            given_up = batch.failure if isinstance(batch.failure, GeneratorUnavailableError) else None
        yield from batch.missing(given_up)


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
            f"The request names the picture(s) {', '.join(absent)}, which were not given. Give each in `pictures`."
        )
    return _Job(index, request, fitted, notices)


class _Batch:
    """Requests that the generator gets at once, and what has become of them.

    Attributes:
        failure: What the generator raised, or None.
    """

    def __init__(
        self, generator: ImageGenerator, capabilities: Capabilities, jobs: Sequence[_Job], *, strict: bool
    ) -> None:
        self.failure: MgemError | None = None
        self._generator = generator
        self._capabilities = capabilities
        self._jobs = jobs
        self._strict = strict
        self._open = set(range(len(jobs)))
        self._cancelled = False

    def run(
        self, pictures: Mapping[str, Image.Image], cancel: threading.Event | None
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Let the generator draw, and pass on what keeps to the contract."""
        needed = {name: pictures[name] for job in self._jobs for name in job.fitted.picture_ids}
        try:
            events = self._generator.generate([job.fitted for job in self._jobs], pictures=needed, cancel=cancel)
        except Exception as error:  # anybody's generator: whatever it raises belongs in the results
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

    def missing(self, failure: MgemError | None) -> Iterator[ImageResult]:
        """Answer what the generator has not."""
        error = self.failure or failure
        if error is None and self._cancelled:
            error = GenerationCancelledError("The drawing was cancelled.")
        if error is None:
            error = GeneratorOutputError(f"Generator {self._generator.name!r} gave no result for this request.")
        for place in sorted(self._open):
            yield _failed(self._generator, self._jobs[place], error)

    def _checked(self, event: object) -> Iterable[GenerationProgress | ImageResult]:
        """An event under its place among all requests; nothing if it is none or comes a second time."""
        if not isinstance(event, (GenerationProgress, ImageResult)) or event.index not in self._open:
            return
        job = self._jobs[event.index]
        if isinstance(event, GenerationProgress):
            yield replace(event, index=job.index)
            return
        self._open.discard(event.index)
        try:
            # Read again: a generator may learn from a server's answer that more can be asked for.
            yield _held_to_the_contract(event, job, self._generator.capabilities, strict=self._strict)
        except MgemError as error:
            yield replace(
                event, index=job.index, request=job.asked, image=None, error=error, notices=job.notices + event.notices
            )


def _held_to_the_contract(result: ImageResult, job: _Job, capabilities: Capabilities, *, strict: bool) -> ImageResult:
    """Make a picture RGB, check that it is what the result says, and that its record can be asked again."""
    notices = job.notices + tuple(notice for notice in result.notices if notice not in job.notices)
    if result.image is None:
        error = result.error or GeneratorOutputError(f"Generator {result.generator!r} gave neither picture nor error.")
        return replace(result, index=job.index, request=job.asked, error=error, notices=notices)
    try:
        image = load_image(result.image)
    except ImageError as error:
        raise GeneratorOutputError(f"Generator {result.generator!r} gave no usable picture: {error}") from error
    for name, drawn in zip(("width", "height"), image.size, strict=True):
        claimed, fitted = getattr(result.executed, name), getattr(job.fitted, name)
        if claimed is not None and claimed != drawn:
            raise GeneratorOutputError(
                f"Generator {result.generator!r} gave a picture with a {name} of {drawn} and says that it is {claimed}."
            )
        if fitted is not None and fitted != drawn:
            notice = Notice(argument=name, message=f"A {name} of {fitted} was asked for; the picture has {drawn}.")
            if strict:
                raise GeneratorOutputError(f"Generator {result.generator!r}: {notice.message}")
            notices += () if any(known.argument == name for known in result.notices) else (notice,)
    try:
        executed = ImageRequest.model_validate(
            result.executed.model_dump() | {"width": image.width, "height": image.height}
        )
    except ValidationError as error:
        raise GeneratorOutputError(
            f"Generator {result.generator!r} says that it did what cannot be: {error.errors()[0]['msg']}."
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
    """An error of the tree; what is not of it becomes a failure of the tool, with its own words."""
    if isinstance(error, MgemError):
        return error
    wrapped = ToolError(f"Generator {generator.name!r} failed ({type(error).__name__}: {error}). Its log may say more.")
    wrapped.__cause__ = error
    return wrapped
