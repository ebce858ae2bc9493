"""An image generator as a deployment of Ray Serve, and the generator that asks it.

A replica gathers the requests of all gateways into batches, as the server does with those of its clients.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mgem_agent.errors import MgemError
from mgem_agent.scale.served_stream import as_our_error, read_stream, serve_stream
from mgem_agent.server.gathering import GatheringGenerator
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.spending import costs_money

__all__ = ["GeneratorFacts", "GeneratorReplica", "HandleGenerator"]


@dataclass(frozen=True, slots=True)
class GeneratorFacts:
    """What is known of a generator.

    Attributes:
        name: Its name in the registry.
        capabilities: What it supports.
        costs_money: Whether pictures may cost money.
    """

    name: str
    capabilities: Capabilities
    costs_money: bool


class GeneratorReplica:
    """A replica of the deployment: a generator with its weights, which are loaded at the first picture.

    Args:
        make: Creates the generator.
        max_batch: Maximum number of pictures in a batch.
    """

    def __init__(self, make: Callable[[], ImageGenerator], max_batch: int = 8) -> None:
        self._generator = GatheringGenerator(make(), max_batch=max_batch)

    async def facts(self) -> GeneratorFacts | MgemError:
        """Return what is known of the generator, or the error."""
        try:
            return await asyncio.to_thread(self._facts)
        except Exception as error:  # the caller raises it
            return as_our_error(error)

    def _facts(self) -> GeneratorFacts:
        generator = self._generator
        return GeneratorFacts(generator.name, generator.capabilities, costs_money(generator))

    async def generate(
        self, requests: Sequence[ImageRequest], pictures: Mapping[str, Image.Image], num_previews: int
    ) -> AsyncIterator[GenerationProgress | ImageResult | MgemError]:
        """Draw, as `PreviewingGenerator` does; an error is the last event."""
        shown = num_previews if self._generator.capabilities.previews else 0
        async for event in serve_stream(
            lambda cancel: self._generator.generate(requests, pictures=pictures, cancel=cancel, num_previews=shown)
        ):
            yield event

    async def unload(self) -> None:
        """Free the generator's memory."""
        await asyncio.to_thread(self._generator.unload)


class HandleGenerator:
    """A generator that asks the deployment.

    Args:
        name: Name of the generator in the registry.
        handle: Handle of the deployment.
    """

    def __init__(self, name: str, handle: Any) -> None:
        self.name = name
        self._handle = handle
        self._known: GeneratorFacts | None = None
        self._asking = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """What the generator supports.

        Raises:
            ToolError: If the model or server is needed to know this and is not available.
        """
        return self._facts().capabilities

    @property
    def costs_money(self) -> bool:
        """Whether pictures may cost money."""
        return self._facts().costs_money

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
        num_previews: int = 0,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw in a replica; see `PreviewingGenerator`."""
        cancel = cancel or threading.Event()
        wanted = {name: (pictures or {})[name] for request in requests for name in request.picture_ids}
        response = self._handle.options(stream=True).generate.remote(list(requests), wanted, num_previews)
        yield from read_stream(response, cancel.is_set)

    def unload(self) -> None:
        """Do nothing: other gateways may be drawing with the replicas."""

    def _facts(self) -> GeneratorFacts:
        with self._asking:
            known = self._known
            if known is None:
                answer: GeneratorFacts | MgemError = self._handle.facts.remote().result()
                if isinstance(answer, MgemError):
                    raise answer
                self._known = known = answer
            return known
