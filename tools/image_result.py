"""What an image generator gives back, as it comes: progress, and one result for each request."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from mgem_agent.errors import MgemError
from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["GenerationProgress", "ImageResult"]


@dataclass(frozen=True, slots=True)
class GenerationProgress:
    """A step of a drawing.

    Attributes:
        index: Place of the request in the batch.
        step: Steps done, from 1.
        num_steps: Steps in all; 0 where the generator does not know.
    """

    index: int
    step: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What became of one request: a picture or an error, never both.

    Attributes:
        index: Place of the request in the batch.
        request: What was asked for.
        executed: What was really done: every value filled in, so that the same picture can be made again.
        generator: Name of the generator, as the registry knows it.
        model: The model that drew.
        image: The picture (RGB), or None.
        error: Why there is none, or None.
        notices: Arguments that were not honoured as given.
        seconds: Time it took; for a batch, its share.
        versions: Versions of the packages or of the server that drew.
        call: Key of the call that it was drawn for, set by the caller that wants to find the picture again; generators
            leave it open.
    """

    index: int
    request: ImageRequest
    executed: ImageRequest
    generator: str
    model: str
    image: Image.Image | None = None
    error: MgemError | None = None
    notices: tuple[Notice, ...] = ()
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    call: str | None = None
