"""The interface of every image generator, local or on a server."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from PIL import Image

from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["ImageGenerator", "PreviewingGenerator", "preview_steps"]


@runtime_checkable
class ImageGenerator(Protocol):
    """Draws pictures in batches.

    Creating one is cheap: weights are loaded, and servers are contacted, at first use. It must be thread-safe.
    """

    @property
    def name(self) -> str:
        """Name with which the registry creates it, such as `diffusers:stabilityai/sdxl-turbo`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """The tasks and arguments that it supports.

        Raises:
            ToolError: If the model or server is needed to know this and is not available.
        """
        ...

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw a batch, and yield progress and results as they come.

        Args:
            requests: The requests, already fitted by `negotiate`.
            pictures: The pictures that the requests name, by id.
            cancel: Set from another thread to stop. Pictures that are finished by then are still yielded.

        Yields:
            Progress, and exactly one :class:`ImageResult` for each request, in any order. If one fails, its result has
            the error and the others continue; a cancelled one has a `GenerationCancelledError`.

        Raises:
            ToolError: If nothing in the batch can be drawn. It is raised before anything is yielded.
        """
        ...

    def unload(self) -> None:
        """Free memory; the next call loads the model again. It does nothing if there is nothing to free."""
        ...


@runtime_checkable
class PreviewingGenerator(ImageGenerator, Protocol):
    """A generator that can show a picture while drawing it. Its capabilities have `previews=True`."""

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
        num_previews: int = 0,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw a batch; otherwise as for `ImageGenerator`. Previews do not change the pictures.

        Args:
            requests: The requests, already fitted by `negotiate`.
            pictures: The pictures that the requests name, by id.
            cancel: Set from another thread to stop.
            num_previews: Number of progress events of each picture that have a `preview`; `preview_steps` chooses them.
        """
        ...


def preview_steps(num_steps: int, num_previews: int) -> frozenset[int]:
    """Return the steps after which a preview is shown: evenly spaced, and never the last one.

    Args:
        num_steps: Number of steps.
        num_previews: Number of previews; fewer are shown if there are not as many steps.

    Examples:
        >>> sorted(preview_steps(20, 3))
        [5, 10, 15]
    """
    steps = {round(num_steps * place / (num_previews + 1)) for place in range(1, num_previews + 1)}
    return frozenset(step for step in steps if 0 < step < num_steps)
