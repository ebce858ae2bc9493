"""An image generator of a running server."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image

from mgem_agent.errors import GenerationCancelledError, GeneratorUnavailableError
from mgem_agent.resident.connection import Connection
from mgem_agent.resident.wire import decode_drawing_event, encode_pictures
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["ResidentGenerator"]


class ResidentGenerator:
    """Draws with a generator that a server on this machine holds in memory.

    Args:
        address: Address of the server.
        name: Name of the generator there.
    """

    def __init__(self, address: str, name: str) -> None:
        self._connection = Connection(address, lambda message: GeneratorUnavailableError(message, retryable=True))
        self._name = name
        self._capabilities: Capabilities | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Name in the registry."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """The tasks and arguments that it supports.

        Raises:
            MgemError: As for the generator itself, or if the server fails.
        """
        with self._lock:
            if self._capabilities is None:
                answer = self._connection.ask("/engines/images/capabilities", {"generator": self._name})
                self._capabilities = Capabilities.model_validate(answer)
            return self._capabilities

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
        num_previews: int = 0,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw a batch, as `PreviewingGenerator` defines it.

        Raises:
            MgemError: As for the generator itself, or if the server fails.
        """
        named = {name for request in requests for name in request.picture_ids}
        given = {name: picture for name, picture in (pictures or {}).items() if name in named}
        body = {
            "generator": self._name,
            "requests": [request.model_dump(mode="json") for request in requests],
            "pictures": encode_pictures(given),
            "num_previews": num_previews,
        }
        missing = set(range(len(requests)))
        for event in self._connection.stream("/engines/images", body, cancel or threading.Event()):
            found = decode_drawing_event(event, requests)
            if isinstance(found, ImageResult):
                missing.discard(found.index)
            yield found
        for index in sorted(missing):
            error = GenerationCancelledError("The drawing was cancelled.", retryable=True)
            asked = requests[index]
            yield ImageResult(index, asked, asked, generator=self._name, model=self._name, error=error)

    def unload(self) -> None:
        """Do nothing: the model belongs to the server."""
