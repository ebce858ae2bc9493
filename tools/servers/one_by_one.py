"""Draw a batch one picture after the other, for servers that draw one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from mgem_agent.errors import GenerationCancelledError, GeneratorUnavailableError, MgemError
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["draw_one_by_one"]


def draw_one_by_one(
    requests: Sequence[ImageRequest],
    draw: Callable[[int, ImageRequest], Iterator[GenerationProgress | ImageResult]],
    *,
    generator: str,
    model: str,
    cancel: threading.Event | None,
) -> Iterator[GenerationProgress | ImageResult]:
    """Draw each request, even if others fail.

    If the server cannot be reached, the rest of the batch fails at once: trying again for each picture would only take
    longer.

    Args:
        requests: The requests.
        draw: Called with an index and its request; yields progress, and the result at the end.
        generator: Name of the generator, for failed results.
        model: Name of the model, for failed results.
        cancel: Set it to stop.
    """
    given_up: MgemError | None = None
    for index, request in enumerate(requests):
        if cancel is not None and cancel.is_set():
            given_up = GenerationCancelledError("The request was cancelled before drawing began.")
        error = given_up
        if error is None:
            try:
                yield from draw(index, request)
                continue
            except MgemError as raised:
                error = raised
                if isinstance(raised, GeneratorUnavailableError):
                    given_up = raised
        yield ImageResult(index=index, request=request, executed=request, generator=generator, model=model, error=error)
