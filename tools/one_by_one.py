"""A generator that draws one picture at a time, so that a person can look at each before the next is begun."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.spending import costs_money

__all__ = ["OneByOne"]


class OneByOne:
    """Another generator, with a maximum batch of one.

    Args:
        generator: The generator that draws.

    Examples:
        >>> from mgem_agent.testing import FlatColourGenerator
        >>> OneByOne(FlatColourGenerator()).capabilities.max_batch_size
        1
    """

    def __init__(self, generator: ImageGenerator) -> None:
        self._generator = generator

    @property
    def name(self) -> str:
        """Name of the other generator."""
        return self._generator.name

    @property
    def costs_money(self) -> bool:
        """Whether the other generator costs money."""
        return costs_money(self._generator)

    @property
    def capabilities(self) -> Capabilities:
        """What the other generator supports, one picture at a time."""
        return self._generator.capabilities.model_copy(update={"max_batch_size": 1})

    def generate(self, requests: Sequence[ImageRequest], **options: Any) -> Iterator[GenerationProgress | ImageResult]:
        """Draw with the other generator."""
        return self._generator.generate(requests, **options)

    def unload(self) -> None:
        """Unload the other generator."""
        self._generator.unload()
