"""A generator for tests: coloured cards with the prompt on them, without weights or network.

The colour depends on the prompt and the seed, so that different requests give different pictures. The same request
gives the same bytes, alone or in a batch. Options make it slow, or make it fail like real generators.
"""

from __future__ import annotations

import hashlib
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Self, get_args

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mgem_agent.errors import GenerationCancelledError, GeneratorOutputError, InputError
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_generator import preview_steps
from mgem_agent.tools.image_request import ImageRequest, ImageTask
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["FlatColourGenerator"]

MODEL = "flat-colour"
MARGIN_PX = 8
THUMBNAIL_PX = 32


class FlatColourGenerator:
    """Draws coloured cards, and records the requests.

    Args:
        size: Default width and height of a picture, in pixels.
        capabilities: What it supports; everything by default.
        num_steps: Default number of steps that it reports.
        delay_s: Seconds for a batch of one.
        extra_delay_s: Seconds for each further picture of a batch.
        fail_on: Pictures with this text in their prompt fail; the others do not.
        crash_on: A picture with this text in its prompt ends the batch with a `RuntimeError`.
        wrong_size: Whether pictures are one pixel wider than reported.

    Attributes:
        drawn: Every request drawn so far, in order.
        num_batches: Calls of `generate` so far.

    Examples:
        >>> from mgem_agent.tools import ImageRequest
        >>> [*_, result] = FlatColourGenerator(size=(64, 64)).generate([ImageRequest(prompt="a red fox", seed=7)])
        >>> result.image.size, result.executed.seed
        ((64, 64), 7)
    """

    CAPABILITIES = Capabilities(
        tasks=frozenset(get_args(ImageTask)),
        negative_prompt=True,
        seed=True,
        num_inference_steps=True,
        guidance_scale=True,
        strength=True,
        max_references=4,
        progress=True,
        cancel=True,
        previews=True,
    )

    def __init__(
        self,
        *,
        size: tuple[int, int] = (256, 256),
        capabilities: Capabilities | None = None,
        num_steps: int = 4,
        delay_s: float = 0.0,
        extra_delay_s: float = 0.0,
        fail_on: str | None = None,
        crash_on: str | None = None,
        wrong_size: bool = False,
    ) -> None:
        self.drawn: list[ImageRequest] = []
        self.num_batches = 0
        self._size = size
        self._capabilities = capabilities or self.CAPABILITIES
        self._num_steps = num_steps
        self._delay_s = delay_s
        self._extra_delay_s = extra_delay_s
        self._fail_on = fail_on
        self._crash_on = crash_on
        self._wrong_size = wrong_size
        self._lock = threading.Lock()

    @classmethod
    def from_name(
        cls,
        rest: str,
        *,
        size: tuple[int, int] = (256, 256),
        delay_s: float = 0.0,
        extra_delay_s: float = 0.0,
        fail_on: str | None = None,
    ) -> Self:
        """Coloured cards with the prompt on them, for tests; needs nothing.

        Args:
            rest: Must be empty: the name is `flat`.
            size: Default width and height, in pixels.
            delay_s: Seconds for a batch of one.
            extra_delay_s: Seconds for each further picture of a batch.
            fail_on: Pictures with this text in their prompt fail.

        Raises:
            InputError: If anything follows the scheme.
        """
        if rest:
            raise InputError(f"The generator 'flat' takes nothing after its name; got {rest!r}. Use 'flat'.")
        return cls(size=size, delay_s=delay_s, extra_delay_s=extra_delay_s, fail_on=fail_on)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "flat"

    @property
    def capabilities(self) -> Capabilities:
        """The tasks and arguments that it supports."""
        return self._capabilities

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
        num_previews: int = 0,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw a card for each request, as `ImageGenerator` defines it."""
        with self._lock:
            self.num_batches += 1
        cancel = cancel or threading.Event()
        delay_s = self._delay_s + self._extra_delay_s * (len(requests) - 1)
        for index, request in enumerate(requests):
            started = time.monotonic()
            executed = self._executed(request)
            num_steps = executed.num_inference_steps or self._num_steps
            for step in range(1, num_steps + 1):
                if cancel.wait(delay_s / len(requests) / num_steps) if delay_s else cancel.is_set():
                    break
                shown = _card(executed, pictures or {}) if step in preview_steps(num_steps, num_previews) else None
                yield GenerationProgress(index, step, num_steps, shown)
            yield self._result(index, request, executed, pictures or {}, cancel, started)

    def unload(self) -> None:
        """Do nothing; it holds no memory."""

    def _result(
        self,
        index: int,
        request: ImageRequest,
        executed: ImageRequest,
        pictures: Mapping[str, Image.Image],
        cancel: threading.Event,
        started: float,
    ) -> ImageResult:
        image: Image.Image | None = None
        error: GenerationCancelledError | GeneratorOutputError | None = None
        if self._crash_on is not None and self._crash_on in request.prompt:
            raise RuntimeError("the card caught fire")
        if cancel.is_set():
            error = GenerationCancelledError("The request was cancelled.")
        elif self._fail_on is not None and self._fail_on in request.prompt:
            error = GeneratorOutputError(f"The card {request.prompt!r} came out blank.", retryable=True)
        else:
            image = _card(executed, pictures)
            if self._wrong_size:
                image = ImageOps.expand(image, (0, 0, 1, 0))
            with self._lock:
                self.drawn.append(executed)
        return ImageResult(
            index=index,
            request=request,
            executed=executed,
            generator=self.name,
            model=MODEL,
            image=image,
            error=error,
            seconds=time.monotonic() - started,
            versions={"flat": "1"},
        )

    def _executed(self, request: ImageRequest) -> ImageRequest:
        """Return the request with the default values filled in."""
        able = self._capabilities
        filled: dict[str, object] = {
            "width": request.width or self._size[0],
            "height": request.height or self._size[1],
        }
        if able.seed and request.seed is None:
            filled["seed"] = int.from_bytes(_digest(request.prompt)[-4:], "big")
        if able.num_inference_steps and request.num_inference_steps is None:
            filled["num_inference_steps"] = self._num_steps
        if able.strength and request.strength is None and request.task in ("image_to_image", "inpaint"):
            filled["strength"] = 0.5
        return request.model_copy(update=filled)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _card(request: ImageRequest, pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Return the card of a request: its colour over the start picture, references in a row, and the prompt."""
    red, green, blue = _digest(f"{request.prompt}\n{request.seed}")[:3]
    card = Image.new("RGB", (request.width or 1, request.height or 1), (red, green, blue))
    if request.image is not None:
        start = pictures[request.image].convert("RGB").resize(card.size)
        if request.mask is not None:
            mask = pictures[request.mask].convert("L").resize(card.size)
            card = Image.composite(Image.blend(start, card, request.strength or 0.5), start, mask)
        else:
            card = Image.blend(start, card, request.strength or 0.5)
    for place, reference in enumerate(request.references):
        thumbnail = pictures[reference].convert("RGB").resize((THUMBNAIL_PX, THUMBNAIL_PX))
        card.paste(thumbnail, (MARGIN_PX + place * (THUMBNAIL_PX + MARGIN_PX), card.height - THUMBNAIL_PX - MARGIN_PX))
    ink = "black" if red * 299 + green * 587 + blue * 114 > 128_000 else "white"
    letters_a_line = max(1, (card.width - 2 * MARGIN_PX) // 7)
    lines = textwrap.wrap(request.prompt, letters_a_line)[: max(1, card.height // 14)]
    ImageDraw.Draw(card).multiline_text(
        (MARGIN_PX, MARGIN_PX), "\n".join(lines), fill=ink, font=ImageFont.load_default()
    )
    return card
