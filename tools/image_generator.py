"""The interface of every image generator, local or on a server."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from PIL import Image

from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["ImageGenerator"]


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
