"""What a dialogue adds to every picture: a style, and pictures to keep to.

It stands between the agent and the generator, so that it holds for what the reasoner asks for as for what a person
does, and what was really drawn is what the picture's record says.
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
    """A generator whose pictures all follow a style and keep to pictures.

    Args:
        inner: What draws.
        store: Where the pictures to keep to are.

    Attributes:
        inner: What draws.
        style: Added to every prompt that does not have it; empty for none.
        references: Ids of pictures to keep to, by name. One is used where the prompt has its name in it.
    """

    def __init__(self, inner: ImageGenerator, store: ArtifactStore) -> None:
        self.inner = inner
        self.style = ""
        self.references: dict[str, str] = {}
        self._store = store

    @property
    def name(self) -> str:
        """Name in the registry."""
        return self.inner.name

    @property
    def capabilities(self) -> Capabilities:
        """What it honours."""
        return self.inner.capabilities

    def unload(self) -> None:
        """Free memory."""
        self.inner.unload()

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw; the contract is that of `ImageGenerator`."""
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
                message = f"Generator {self.name!r} takes {most} reference picture(s); {name!r} was left out."
                notices.append(Notice(argument="references", message=message))
        changes["references"] = tuple(references)
        return ImageRequest.model_validate(request.model_dump() | changes), tuple(notices)
