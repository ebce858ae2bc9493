"""The contract of every image generator, whether it runs here or behind an address."""

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
    """Draws pictures, a batch at a time.

    Making one costs nothing: weights load, and servers are asked, at first use. Calls may come from several threads.
    """

    @property
    def name(self) -> str:
        """Name by which the registry makes it again, such as `diffusers:stabilityai/sdxl-turbo`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it honours.

        Raises:
            ToolError: If it has to be loaded or asked to know, and that fails.
        """
        ...

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw a batch, yielding what happens as it happens.

        Args:
            requests: What to draw; already fitted by `negotiate`.
            pictures: The picture of each id that a request names.
            cancel: Set by another thread to stop; what is drawn by then is still yielded.

        Yields:
            Progress, and exactly one :class:`ImageResult` for each request, in any order. A request that fails has its
            error in its result, and the others go on; a cancelled one has a `GenerationCancelledError`.

        Raises:
            ToolError: If none of the batch can be drawn, before anything is yielded.
        """
        ...

    def unload(self) -> None:
        """Free memory; the next call loads again. Does nothing where there is nothing to free."""
        ...
