"""The events of an image generator: progress, and one result for each request."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from mgem_agent.errors import MgemError
from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_usage import ImageUsage

__all__ = ["GenerationProgress", "ImageResult"]


@dataclass(frozen=True, slots=True)
class GenerationProgress:
    """Progress of one request.

    Attributes:
        index: Index of the request in the batch.
        step: Steps done, from 1.
        num_steps: Number of steps; 0 if the generator does not know it.
        preview: The unfinished picture (RGB) after this step, if the caller asked for previews; else None.
    """

    index: int
    step: int
    num_steps: int
    preview: Image.Image | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The result of one request: a picture or an error, never both.

    Attributes:
        index: Index of the request in the batch.
        request: The original request.
        executed: The request with the values that were used, so that the same picture can be drawn again.
        generator: Name of the generator in the registry.
        model: Name of the model.
        image: The picture (RGB), or None.
        error: The error, or None.
        notices: Arguments that were changed or left out.
        seconds: Time that it took; in a batch, its share.
        versions: Versions of the packages or of the server.
        usage: Tokens that a server counted; None if it counted none.
        cost_usd: Price in US dollars; None if it is not known. `draw` sets it; generators leave it unset.
        call: Key of the tool call that the picture belongs to. The caller sets it to find the picture later;
            generators leave it unset.
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
    usage: ImageUsage | None = None
    cost_usd: float | None = None
    call: str | None = None
