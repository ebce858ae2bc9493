"""What is asked of an image generator: one picture, as plain data.

A request holds nothing but JSON: pictures are named by id, never held, so that a request can be stored beside the
picture it made and made again. What is left at None is for the generator to choose; what was really used comes back in
the result's `executed` request.
"""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from mgem_agent.tools.printable_text import printable_text

__all__ = ["ImageRequest", "ImageTask"]

ImageTask = Literal["text_to_image", "image_to_image", "inpaint", "edit"]
"""`image_to_image` starts from a noised picture, `inpaint` redraws what a mask covers, `edit` obeys an instruction."""


class ImageRequest(BaseModel):
    """One picture to be drawn.

    Attributes:
        prompt: What to draw, or for `edit` what to change; at most 10,000 characters, never empty.
        task: What kind of drawing it is.
        negative_prompt: What not to draw.
        width: Pixels.
        height: Pixels.
        seed: Seed of this picture alone; the same picture comes out whatever else is in its batch.
        num_inference_steps: Denoising steps.
        guidance_scale: Weight of classifier-free guidance.
        image: Id of the picture to start from; needed by every task but `text_to_image`.
        mask: Id of the picture whose white parts are redrawn; `inpaint` alone.
        strength: How much of the start picture is given up, above 0 and up to 1; `image_to_image` and `inpaint`.
        references: Ids of pictures whose subject or style is to be kept.
        options: What one back end alone understands, by its own names.

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
        """Strip, and put spaces for control characters, which no generator draws and every terminal obeys."""
        return printable_text(value, keep="\n").strip() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_pictures(self) -> Self:
        if self.task != "text_to_image" and self.image is None:
            raise ValueError(f"task={self.task!r} needs image, the id of the picture to start from.")
        if self.task == "text_to_image" and self.image is not None:
            others = ", ".join(repr(task) for task in get_args(ImageTask) if task != "text_to_image")
            raise ValueError(f"image is given and task is 'text_to_image'. Set task to one of {others}.")
        if (self.task == "inpaint") != (self.mask is not None):
            raise ValueError("task='inpaint' and mask go together: give both or neither.")
        if self.strength is not None and self.task not in ("image_to_image", "inpaint"):
            raise ValueError("strength is for task='image_to_image' and task='inpaint' alone.")
        return self

    @property
    def picture_ids(self) -> tuple[str, ...]:
        """Ids of every picture this request needs, without repetition."""
        named = (self.image, self.mask, *self.references)
        return tuple(dict.fromkeys(name for name in named if name is not None))
