"""Add a chat's style and reference pictures to every image request.

This generator wraps the real one, so it applies to requests of the reasoner and of the user. A picture's record shows
the request that was really drawn.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mgem_agent.tools.capabilities import Capabilities, Notice
from mgem_agent.tools.image_generator import ImageGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

if TYPE_CHECKING:
    from PIL import Image

    from mgem_agent.artifacts.store import ArtifactStore

__all__ = ["SteeredGenerator"]


class SteeredGenerator:
    """A generator that adds a style and reference pictures to each request.

    Args:
        inner: The generator that draws.
        store: Store of the reference pictures.

    Attributes:
        inner: The generator that draws.
        style: Text added to every prompt that does not contain it; empty for none.
        references: Ids of reference pictures by name. A picture is used if the prompt contains its name.
    """

    def __init__(self, inner: ImageGenerator, store: ArtifactStore) -> None:
        self.inner = inner
        self.style = ""
        self.references: dict[str, str] = {}
        self._store = store

    @property
    def name(self) -> str:
        """The inner generator's name."""
        return self.inner.name

    @property
    def capabilities(self) -> Capabilities:
        """The inner generator's capabilities."""
        return self.inner.capabilities

    def unload(self) -> None:
        """Free the memory of the inner generator."""
        self.inner.unload()

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw, as defined by `ImageGenerator.generate`."""
        given = dict(pictures or {})
        steered = [self._steered(request) for request in requests]
        for request, _ in steered:
            given |= {name: self._store.open(name) for name in request.references if name not in given}
        asked = [request for request, _ in steered]
        for event in self.inner.generate(asked, pictures=given, cancel=cancel):
            if isinstance(event, ImageResult) and event.index < len(requests):
                notices = (*steered[event.index][1], *event.notices)
                yield replace(event, request=requests[event.index], notices=notices)
            else:
                yield event

    def _steered(self, request: ImageRequest) -> tuple[ImageRequest, tuple[Notice, ...]]:
        changes: dict[str, object] = {}
        notices: list[Notice] = []
        if self.style and self.style.lower() not in request.prompt.lower():
            changes["prompt"] = f"{request.prompt.rstrip(' .')}, {self.style}"
        references = list(request.references)
        for name, picture in self.references.items():
            if picture in references or not re.search(rf"\b{re.escape(name)}\b", request.prompt, re.IGNORECASE):
                continue
            if len(references) < self.capabilities.max_references:
                references.append(picture)
            else:
                most = self.capabilities.max_references
                message = f"Generator {self.name!r} takes {most} reference picture(s), so {name!r} was left out."
                notices.append(Notice(argument="references", message=message))
        changes["references"] = tuple(references)
        return ImageRequest.model_validate(request.model_dump() | changes), tuple(notices)
