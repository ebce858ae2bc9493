"""Turn pictures into the model's two input tensors: one of high and one of low resolution.

A picture is made square, resized and normalised once; the low-resolution tensor is then interpolated from the
*normalised* high-resolution one. Three details follow the authors' code, because the released weights were trained with
them:

- PIL's bicubic filter resizes the picture, on 8-bit values;
- the square is padded with (122, 116, 104), the mean colour of CLIP's training set rounded down;
- the low-resolution tensor is interpolated bilinearly *without* antialiasing.

PIL resizes in two passes, first along rows, then along columns, and rounds in between. So padding rows need no
resizing, and rows can be processed in strips. The result is bit-identical to resizing the full padded square, and a
panorama of 30,000×4,000 pixels never becomes a square of 30,000×30,000.

Shapes: b pictures, S pixels of a side of the high-resolution image, s of the low-resolution one.

Annotations are not postponed here: transformers reads those of `MiniGeminiImageKwargs` to validate arguments.
"""

from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from mgem_agent.core_model.geometry import MAX_SIDE_PX
from mgem_agent.core_model.image_loading import MAX_IMAGE_PIXELS, load_image
from mgem_agent.errors import ImageError, InputError

if TYPE_CHECKING:
    from mgem_agent.core_model.configuration import MiniGeminiConfig

__all__ = ["MiniGeminiImageKwargs", "MiniGeminiImageProcessor"]

STRIP_PIXELS = 1 << 24
"""Pixels that are padded and resized at a time."""


AspectRatio = Literal["pad", "square"]


class MiniGeminiImageKwargs(TypedDict, total=False):
    """Settings of the image processor, or of one call.

    Args:
        high_res_image_size: Side of `high_res_pixel_values`, in pixels; None to make `pixel_values` only.
        low_res_image_size: Side of `pixel_values`, in pixels, before the image is cut into crops.
        image_aspect_ratio: `pad` puts the picture on a square; `square` scales its short edge and crops the centre.
        image_mean: Mean of each channel, of values in [0, 1].
        image_std: Standard deviation of each channel.
        return_tensors: `pt` (the default) or `np`.
    """

    high_res_image_size: int | None
    low_res_image_size: int | None
    image_aspect_ratio: AspectRatio | None
    image_mean: float | list[float] | tuple[float, ...] | None
    image_std: float | list[float] | tuple[float, ...] | None
    return_tensors: str | None


class MiniGeminiImageProcessor(PilBackend):
    """Make `pixel_values` (b, 3, s, s) and `high_res_pixel_values` (b, 3, S, S), both float32, from pictures.

    The first is made from the second. For a model without high resolution, the picture itself is scaled.

    Args:
        **kwargs: See `MiniGeminiImageKwargs`. The defaults are those of the released MGM-7B.

    Examples:
        >>> from PIL import Image
        >>> processor = MiniGeminiImageProcessor(high_res_image_size=64, low_res_image_size=28)
        >>> features = processor([Image.new("RGB", (40, 30), "red"), Image.new("L", (9, 9))])
        >>> {name: tuple(values.shape) for name, values in features.items()}
        {'pixel_values': (2, 3, 28, 28), 'high_res_pixel_values': (2, 3, 64, 64)}
    """

    model_input_names = ["pixel_values", "high_res_pixel_values"]
    valid_kwargs = MiniGeminiImageKwargs  # type: ignore[assignment]  # fewer than the base class, and others

    high_res_image_size = 768
    low_res_image_size = 336
    image_aspect_ratio = "pad"
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._validate_preprocess_kwargs(
            **{name: getattr(self, name) for name in MiniGeminiImageKwargs.__annotations__}
        )

    @classmethod
    def from_model_config(cls, config: "MiniGeminiConfig") -> "MiniGeminiImageProcessor":
        """Make the image processor for a model's sizes.

        Args:
            config: The model's configuration.
        """
        return cls(
            high_res_image_size=config.geometry.high_res_size,
            low_res_image_size=config.geometry.low_res_input_size,
            image_aspect_ratio=config.image_aspect_ratio,
        )

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:  # type: ignore[override]
        """Check the settings of the processor or of one call.

        Raises:
            InputError: If a size is not a positive number, or the aspect ratio is unknown.
        """
        for name in ("high_res_image_size", "low_res_image_size"):
            if name == "high_res_image_size" and kwargs[name] is None:
                continue
            if not isinstance(kwargs[name], int) or not 1 <= kwargs[name] <= MAX_SIDE_PX:
                raise InputError(
                    f"{name} must be a whole number of pixels from 1 to {MAX_SIDE_PX:,}; got {kwargs[name]!r}."
                )
        if kwargs["image_aspect_ratio"] not in get_args(AspectRatio):
            allowed = " or ".join(repr(name) for name in get_args(AspectRatio))
            raise InputError(f"image_aspect_ratio must be {allowed}, got {kwargs['image_aspect_ratio']!r}.")

    def _preprocess_image_like_inputs(  # type: ignore[override]
        self, images: Any, *args: Any, **kwargs: Any
    ) -> BatchFeature:
        """Load, square, resize and normalise pictures.

        Args:
            images: One picture, or a list or nested list of them, as `load_image` takes them.
            *args: Not used; part of the hook's signature.
            **kwargs: The complete settings of this call.

        Raises:
            ImageError: If a picture cannot be read, or there are no pictures.
        """
        sources = flatten(images)
        if not sources:
            raise ImageError("There are no images. Give at least one, or leave images out.")
        side = kwargs["low_res_image_size"]
        largest = kwargs["high_res_image_size"] or side
        high_res = torch.stack(
            [self._square_tensor(load_image(source), largest, **kwargs) for source in sources]
        )  # (b, 3, S, S)
        if kwargs["high_res_image_size"] is None:
            return BatchFeature({"pixel_values": high_res}, tensor_type=kwargs["return_tensors"] or "pt")
        low_res = torch.nn.functional.interpolate(high_res, size=(side, side), mode="bilinear", align_corners=False)
        return BatchFeature(
            {"pixel_values": low_res, "high_res_pixel_values": high_res}, tensor_type=kwargs["return_tensors"] or "pt"
        )

    def _square_tensor(self, picture: Image.Image, side: int, **kwargs: Any) -> torch.Tensor:
        """Return one picture as a normalised tensor (3, S, S) of float32; S is `side`."""
        mean, std = kwargs["image_mean"], kwargs["image_std"]
        if kwargs["image_aspect_ratio"] == "pad":
            red, green, blue = (int(channel * 255) for channel in mean)
            picture = resize_padded(picture, side, (red, green, blue))
        else:
            picture = resize_cropped(picture, side)
        # In float64 until the scaling is done, as in the CLIP image processor of the authors' code.
        values = (np.asarray(picture).astype(np.float64) * (1 / 255)).astype(np.float32)
        normalised = (values - np.float32(mean)) / np.float32(std)
        return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))  # (S, S, 3) -> (3, S, S)


def flatten(images: Any) -> list[Any]:
    """Flatten a nested list of pictures; a single picture becomes a list of one."""
    if isinstance(images, (list, tuple)):
        return [picture for item in images for picture in flatten(item)]
    return [images]


def resize_padded(picture: Image.Image, side: int, colour: tuple[int, int, int]) -> Image.Image:
    """Centre a picture on a square of one colour and resize that to `side`×`side`.

    Args:
        picture: An RGB image of any size.
        side: Side of the result, in pixels.
        colour: The padding, as 8-bit RGB.
    """
    width, height = picture.size
    square = max(width, height)
    left, top = (square - width) // 2, (square - height) // 2
    narrow = Image.new("RGB", (side, square), colour)  # the padded square after the pass along its rows
    strip_height = max(1, STRIP_PIXELS // square)
    for start in range(0, height, strip_height):
        stop = min(start + strip_height, height)
        strip = Image.new("RGB", (square, stop - start), colour)
        strip.paste(picture.crop((0, start, width, stop)), (left, 0))
        narrow.paste(strip.resize((side, stop - start), Image.Resampling.BICUBIC), (0, top + start))
    return narrow.resize((side, side), Image.Resampling.BICUBIC)


def resize_cropped(picture: Image.Image, side: int) -> Image.Image:
    """Scale a picture's short edge to `side` and crop the centre, as the authors do in their first stage.

    Args:
        picture: An RGB image of any size.
        side: Side of the result, in pixels.

    Raises:
        ImageError: If the picture is so elongated that scaling it would take more than `MAX_IMAGE_PIXELS`.
    """
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    scaled = int(side * long / short)
    if side * scaled > MAX_IMAGE_PIXELS:
        raise ImageError(
            f"A picture of {width}×{height} pixels is too elongated to be scaled to a short edge of {side}. "
            f"Crop it, or use image_aspect_ratio='pad'."
        )
    size = (side, scaled) if width <= height else (scaled, side)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _register() -> None:
    from mgem_agent.core_model.configuration import MiniGeminiConfig

    # PIL resizes the pictures in either case: the released weights were trained with its pixels.
    classes: dict[str, type] = {"pil": MiniGeminiImageProcessor, "torchvision": MiniGeminiImageProcessor}
    AutoImageProcessor.register(MiniGeminiConfig, image_processor_classes=classes)


_register()
