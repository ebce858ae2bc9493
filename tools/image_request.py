"""A request for one picture, as plain data.

A request is plain JSON. It names input pictures by id, so that it can be stored with the resulting picture and run
again. The generator chooses the values that are None; the result's `executed` request has the values that were used.
"""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from mgem_agent.tools.printable_text import printable_text

__all__ = ["ImageRequest", "ImageTask"]

ImageTask = Literal["text_to_image", "image_to_image", "inpaint", "edit"]
"""`image_to_image` starts from a noised picture, `inpaint` redraws the masked area, `edit` follows an instruction."""


class ImageRequest(BaseModel):
    """A request for one picture.

    Attributes:
        prompt: What to draw, or for `edit` what to change; 1 to 10,000 characters.
        task: The task.
        negative_prompt: What not to draw.
        width: Width in pixels.
        height: Height in pixels.
        seed: Seed of this picture. The other requests in its batch do not affect the picture.
        num_inference_steps: Denoising steps.
        guidance_scale: Weight of classifier-free guidance.
        image: Id of the picture to start from; needed by every task but `text_to_image`.
        mask: Id of the mask, whose white parts are redrawn; only for `inpaint`.
        strength: How much of the start picture may change, above 0 and up to 1; for `image_to_image` and `inpaint`.
        references: Ids of pictures whose subject or style to keep.
        options: Options of one back end, by its own names.

    Examples:
        >>> ImageRequest(prompt=" a red fox ", seed=7).prompt
        'a red fox'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(min_length=1, max_length=10_000)
    task: ImageTask = "text_to_image"
    negative_prompt: str | None = Field(default=None, max_length=10_000)
    width: int | None = Field(default=None, ge=16, le=8192)
    height: int | None = Field(default=None, ge=16, le=8192)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    image: str | None = None
    mask: str | None = None
    strength: float | None = Field(default=None, gt=0, le=1)
    references: tuple[str, ...] = ()
    options: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("prompt", "negative_prompt", mode="before")
    @classmethod
    def _clean(cls, value: object) -> object:
        """Strip the text, and replace control characters with spaces: a terminal would interpret them."""
        return printable_text(value, keep="\n").strip() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_pictures(self) -> Self:
        if self.task != "text_to_image" and self.image is None:
            raise ValueError(f"task={self.task!r} needs image, the id of the start picture.")
        if self.task == "text_to_image" and self.image is not None:
            others = ", ".join(repr(task) for task in get_args(ImageTask) if task != "text_to_image")
            raise ValueError(f"task='text_to_image' takes no image. Set task to one of {others}.")
        if (self.task == "inpaint") != (self.mask is not None):
            raise ValueError("task='inpaint' needs a mask, and only that task takes one: give both or neither.")
        if self.strength is not None and self.task not in ("image_to_image", "inpaint"):
            raise ValueError("Only task='image_to_image' and task='inpaint' take a strength.")
        return self

    @property
    def picture_ids(self) -> tuple[str, ...]:
        """Ids of all pictures that this request needs, without duplicates."""
        named = (self.image, self.mask, *self.references)
        return tuple(dict.fromkeys(name for name in named if name is not None))
