"""Load one picture from a path, bytes, a data URL, a PIL image, an array or a tensor.

The result is always an upright 8-bit RGB image. Main decisions:

- **Limits before decoding.** Only the header of a file is read until its encoded size, its pixels and its decoding cost
  (`decoding_limits`) are known to be within the limits, so a decompression bomb costs nothing. Three kinds of format
  are not supported: those that run other programs (EPS), those whose header may give a wrong size (ICO), and those that
  match any bytes (TGA).
- **No downloads.** A web address is an error here; the caller decides what may be downloaded.
- **Transparency is composited on white**, whether it comes from an alpha channel or a palette. If nearly all visible
  pixels are white, such as white lettering, the background is black, and `info["ground"]` of the result says so.
- **Depth is scaled, not clipped.** 16-bit greys are divided by 257.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from mgem_agent.core_model.decoding_limits import (
    MAX_DECODE_S,
    READ_AT_ONCE,
    RGB_BYTES,
    TimedBytes,
    TimedFile,
    check_cost,
    check_memory,
    needs_lean_decoder,
    reduce_resolution,
)
from mgem_agent.core_model.encoded_picture import (
    MAX_ENCODED_BYTES,
    as_subject,
    check_encoded_size,
    data_url_bytes,
    is_data_url,
    open_file,
    read_open_file,
    shown,
)
from mgem_agent.core_model.lean_decoding import decode_webp
from mgem_agent.core_model.rgb_conversion import to_rgb
from mgem_agent.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["MAX_IMAGE_PIXELS", "MAX_IMAGE_SIDE_PX", "decode", "load_image", "quietly"]

MAX_IMAGE_PIXELS = 89_478_485
"""Most pixels of a file: a quarter of a gigabyte of RGB, the size above which PIL itself warns."""

MAX_IMAGE_SIDE_PX = 30_000
"""Longest side of any picture, in pixels. Padding to a square makes the cost quadratic in it."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
ALLOWED = "a path, bytes, a data URL, an open binary file, a PIL image, a NumPy array or a torch tensor"
SHAPES = "(h, w), (h, w, c) or (c, h, w) with c = 1, 2 (grey and alpha), 3 or 4 (RGB and alpha)"
FLOAT_TOLERANCE = 1e-3
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The rotation or flip for each EXIF orientation."""

_QUIET = threading.Lock()


def load_image(source: Any) -> Image.Image:
    """Load one picture as upright 8-bit RGB, with transparency on white.

    Args:
        source: A path, encoded bytes, a `data:` URL, an open binary file, a PIL image, or a NumPy array or torch
            tensor of shape (h, w), (h, w, c) or (c, h, w), c = 1 to 4, as bool, uint8, uint16, or float in [0, 1].
            If both orders fit, an array is read as (h, w, c) and a tensor as (c, h, w). An animation gives its first
            frame.

    Returns:
        A new image of mode RGB; the source is not changed.

    Raises:
        ImageError: If it is not a picture, is damaged, is larger than `MAX_IMAGE_PIXELS` or `MAX_IMAGE_SIDE_PX`, or
            would take too much memory or time to decode.
    """
    if isinstance(source, Image.Image):
        return from_image(source, "the PIL image given")
    if isinstance(source, str) and is_data_url(source):
        return decode(data_url_bytes(source), f"the data URL of {len(source):,} characters")
    if isinstance(source, (str, os.PathLike)):
        with open_file(source) as file, TimedFile(io.FileIO(file.fileno(), closefd=False)) as stream:
            return decode_stream(stream, shown(os.fsdecode(source)))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode(bytes(source), f"the data given ({len(source):,} bytes)")
    if "torch" in sys.modules and isinstance(source, sys.modules["torch"].Tensor):
        return from_tensor(source)
    if "numpy" in sys.modules and isinstance(source, sys.modules["numpy"].ndarray):
        return from_array(source, "the array given", channels_first=False)
    if hasattr(source, "read"):
        data = read_open_file(source)
        return decode(data, f"the data of the open file ({len(data):,} bytes)")
    raise ImageError(f"A picture cannot be read from a {type(source).__name__!r} object. Give {ALLOWED}.")


def decode(data: bytes, name: str) -> Image.Image:
    """Read a picture from the bytes of an encoded file.

    Args:
        data: The complete file.
        name: Its name in a message.

    Raises:
        ImageError: As for `load_image`.
    """
    check_encoded_size(len(data), name, most=MAX_ENCODED_BYTES)
    return decode_stream(TimedBytes(data), name)


def decode_stream(stream: TimedBytes | TimedFile, name: str) -> Image.Image:
    """Read a picture from a stream: first its header, then, if within the limits, its pixels."""
    if not stream.read(1):
        raise ImageError(f"{as_subject(name)} is empty. Give a file that holds a picture.")
    stream.seek(0)
    stream.start_clock()
    Image.init()
    try:
        with quietly():
            image = Image.open(stream, formats=[known for known in FORMATS if known in Image.OPEN])
        with image:
            return from_file(image, stream, name)
    except ImageError:
        raise
    except TimeoutError as error:
        raise ImageError(
            f"{as_subject(name)} takes more than {MAX_DECODE_S:g} seconds to decode. Convert it to PNG or JPEG."
        ) from error
    except Image.DecompressionBombError as error:
        raise too_large(name) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{as_subject(name)} is not a picture of a known format. Allowed: PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, "
            f"JPEG 2000, AVIF. Convert it to PNG."
        ) from error
    except Exception as error:  # decoders raise many kinds of exception for damaged data
        raise damaged(name) from error


def from_file(image: ImageFile.ImageFile, stream: TimedBytes | TimedFile, name: str) -> Image.Image:
    """Convert an undecoded picture to RGB if its header is within the limits; this consumes the file object."""
    check_size(*image.size, name)
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise too_large(name)
    is_known = image.format != "PNG" or "exif" in image.info  # Pillow decodes a PNG to look for what follows its pixels
    is_lean = needs_lean_decoder(image, stream)
    halvings = reduce_resolution(image, stream)
    is_turned = is_known and turn_of(image) is not None
    check_cost(image, stream, as_subject(name), is_turned=is_turned, is_lean=is_lean, halvings=halvings)
    picture: Image.Image = image
    if is_lean:
        turn = turn_of(image)
        with quietly():
            picture = decode_webp(stream, "RGBA" if image.has_transparency_data else "RGB")
    else:
        image.decodermaxblock = READ_AT_ONCE
        image.load()
        turn = turn_of(image)
    del image
    if turn is not None:
        check_memory(2 * RGB_BYTES * picture.width * picture.height, picture.size, as_subject(name))
    rgb = to_rgb(picture, name)
    if rgb is picture:
        picture.info = {}
    del picture
    return rgb if turn is None else rgb.transpose(turn)  # which keeps `info`


def from_image(image: Image.Image, name: str) -> Image.Image:
    """Convert a PIL image to RGB. The limits apply if it is not decoded yet."""
    check_size(*image.size, name)
    if isinstance(image, ImageFile.ImageFile) and image.width * image.height > MAX_IMAGE_PIXELS:
        raise too_large(name)
    try:
        image.load()
    except Exception as error:  # decoders raise many kinds of exception for damaged data
        raise damaged(name) from error
    turn = turn_of(image)
    rgb = to_rgb(image, name)
    if turn is not None:
        return rgb.transpose(turn)
    return rgb.copy() if rgb is image else rgb


@contextmanager
def quietly() -> Iterator[None]:
    """Hide Pillow's warnings about damaged metadata, which a user cannot act on.

    Python's warning filters belong to the whole process, so threads take turns.
    """
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return the rotation or flip in the EXIF data; None if there is none or the data is broken."""
    with quietly():
        try:
            return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        except Exception:  # broken metadata fails in many ways, but the picture is still readable
            return None


def too_large(name: str) -> ImageError:
    return ImageError(
        f"{as_subject(name)} is larger than {MAX_IMAGE_PIXELS:,} pixels, and was not decoded. Scale it down first."
    )


def damaged(name: str) -> ImageError:
    return ImageError(f"{as_subject(name)} is cut off or damaged. Save or download the picture again.")


def check_size(width: int, height: int, name: str) -> None:
    """Refuse a picture without pixels or with a side that is too long."""
    if width < 1 or height < 1:
        raise ImageError(f"{as_subject(name)} is empty: {width}×{height} pixels. Give a picture that has pixels.")
    if max(width, height) > MAX_IMAGE_SIDE_PX:
        raise ImageError(
            f"{as_subject(name)} is {width}×{height} pixels; a side may have at most {MAX_IMAGE_SIDE_PX:,}. "
            f"Cut it into several pictures, or scale it down."
        )


def from_tensor(tensor: torch.Tensor) -> Image.Image:
    """Read a torch tensor on any device."""
    import torch

    try:
        values = tensor.detach().cpu()
        array = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # sparse, quantised, without data
        raise ImageError(
            f"The tensor given (type {str(tensor.dtype)!r}, device {str(tensor.device)!r}) has no values that can "
            f"be read. Give a dense tensor of bool, uint8, uint16, or floats in [0, 1]."
        ) from error
    return from_array(array, "the tensor given", channels_first=True)


def from_array(array: np.ndarray[Any, Any], name: str, *, channels_first: bool) -> Image.Image:
    """Read an array of shape (h, w), (h, w, c) or (c, h, w).

    Args:
        array: The values.
        name: The array's name in a message.
        channels_first: Whether to prefer (c, h, w) if the shape fits both orders.

    Raises:
        ImageError: If the shape, the type or the values are not a picture's.
    """
    import numpy as np

    if array.ndim == 2:
        array, channels_first = array[:, :, None], False
    if array.ndim != 3 or not ({array.shape[0], array.shape[2]} & {1, 2, 3, 4}) or 0 in array.shape:
        raise ImageError(
            f"{as_subject(name)} has the shape {tuple(array.shape)}; a picture has {SHAPES}. "
            f"Give the pictures of a batch one at a time."
        )
    fits_first, fits_last = array.shape[0] in (1, 2, 3, 4), array.shape[2] in (1, 2, 3, 4)
    if fits_first and (channels_first or not fits_last):
        array = array.transpose(1, 2, 0)
    height, width, channels = array.shape
    check_size(width, height, name)
    pixels = np.ascontiguousarray(eight_bits(array, name))
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    return from_image(Image.frombytes(mode, (width, height), pixels.tobytes()), name)


def eight_bits(array: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """Scale bool, uint8, uint16 or float values to uint8."""
    import numpy as np

    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return np.rint(array / 257).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(
            f"{as_subject(name)} has the type {str(array.dtype)!r}; allowed: bool, uint8, uint16, or float in [0, 1]. "
            f"Convert it, for values up to 255 with astype('uint8')."
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= -FLOAT_TOLERANCE and high <= 1 + FLOAT_TOLERANCE):  # written so that NaN fails
        raise ImageError(
            f"{as_subject(name)} holds floats from {low:g} to {high:g}; they must lie in [0, 1]. "
            f"Undo a normalisation, or divide by 255."
        )
    scaled: np.ndarray[Any, Any] = np.rint(np.clip(array, 0, 1) * 255)
    return scaled.astype(np.uint8)
