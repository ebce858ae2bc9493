"""One picture from whatever a caller has: a path, bytes, a data URL, a PIL image, an array or a tensor.

What comes out is always an 8-bit RGB image that stands upright. Decisions that matter:

- **Refused before it is decoded.** Only the header of a file is read until its size is known to be within
  `MAX_IMAGE_PIXELS`, so a decompression bomb costs nothing. Formats that run other programs (EPS), whose header need
  not give the true size (ICO), or that any bytes would pass for (TGA) are not tried.
- **Nothing is fetched.** A web address is an error here; who may fetch what is for the caller to decide.
- **Transparency is shown on white**, as on a page, whether it comes from an alpha channel or from a palette.
- **Depth is scaled, not clipped.** 16-bit greys become 8-bit ones by division by 257.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from mgem_agent.errors import ImageError

if TYPE_CHECKING:
    import torch

__all__ = ["MAX_IMAGE_PIXELS", "MAX_IMAGE_SIDE_PX", "load_image"]

MAX_IMAGE_PIXELS = 89_478_485
"""Most pixels that a file may hold: a quarter of a gigabyte of RGB, the size above which PIL itself warns."""

MAX_IMAGE_SIDE_PX = 30_000
"""Longest side of any picture, in pixels. A model pads it to a square, so that time goes with the square of this."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
ALLOWED = "a path, bytes, a data URL, an open binary file, a PIL image, a NumPy array or a torch tensor"
SHAPES = "(h, w), (h, w, c) or (c, h, w) with c = 1, 2 (grey and alpha), 3 or 4 (RGB and alpha)"
FLOAT_TOLERANCE = 1e-3
WEB_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
MAX_NAME_CHARS = 120


def load_image(source: Any) -> Image.Image:
    """Read one picture as 8-bit RGB, upright, on white where it is transparent.

    Args:
        source: A path, encoded bytes, a `data:` URL, an open binary file, a PIL image, or a NumPy array or torch
            tensor of shape (h, w), (h, w, c) or (c, h, w), c = 1 to 4, as bool, uint8, uint16, or float in [0, 1].
            Where both orders fit, an array is taken as (h, w, c) and a tensor as (c, h, w). Of an animation, the first
            frame.

    Returns:
        A new image of mode RGB; the source is left as it was.

    Raises:
        ImageError: If it is no picture, is damaged, or is larger than `MAX_IMAGE_PIXELS` or `MAX_IMAGE_SIDE_PX`.
    """
    if isinstance(source, Image.Image):
        return to_rgb(source, "the PIL image given")
    if isinstance(source, str) and source[:5].lower() == "data:":
        return decode(data_url_bytes(source), f"the data URL of {len(source):,} characters")
    if isinstance(source, (str, os.PathLike)):
        return load_file(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return decode(data, f"the data given ({len(data):,} bytes)")
    if "torch" in sys.modules and isinstance(source, sys.modules["torch"].Tensor):
        return from_tensor(source)
    if isinstance(source, np.ndarray):
        return from_array(source, "the array given", channels_first=False)
    if hasattr(source, "read"):
        return load_open_file(source)
    raise ImageError(f"A picture cannot be read from a {type(source).__name__!r} object. Give {ALLOWED}.")


def shown(name: str) -> str:
    """Return a name as it may stand in a message: quoted, control characters escaped, cut when it is long."""
    return repr(name) if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]!r}…"


def load_file(path: str | os.PathLike[str]) -> Image.Image:
    """Read a picture from a regular file, with an error for each way in which it may not be one."""
    text = os.fsdecode(path)
    name = shown(text)
    if WEB_ADDRESS.match(text):
        raise ImageError(f"{name} is an address, and nothing is fetched here. Download the picture and give its path.")
    if os.path.isdir(text):
        raise ImageError(f"{name} is a folder, not a picture. Give the path of one file in it.")
    if not os.path.exists(text):
        raise ImageError(
            f"There is no file {name}, and it is no data URL ('data:image/png;base64,…') either. "
            f"Check the path and the current folder."
        )
    if not os.path.isfile(text):
        raise ImageError(f"{name} is not a regular file. Give the path of a picture.")
    try:
        with Path(text).open("rb") as file:
            return decode_stream(file, name)
    except PermissionError as error:
        raise ImageError(f"{name} may not be read. Change its permissions, or give another file.") from error


def load_open_file(file: Any) -> Image.Image:
    """Read a picture from the present position of an open file."""
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # closed, or open for writing
        raise ImageError("The open file cannot be read. Open it in binary mode ('rb').") from error
    if not isinstance(data, bytes):
        raise ImageError(f"The open file gave {type(data).__name__!r}, not bytes. Open it in binary mode ('rb').")
    return decode(data, f"the data of the open file ({len(data):,} bytes)")


def data_url_bytes(url: str) -> bytes:
    """Return the bytes that a `data:` URL carries, percent-encoded or in base64."""
    header, comma, payload = url.partition(",")
    if not comma:
        raise ImageError("The data URL has no comma. Its form is 'data:image/png;base64,' followed by the data.")
    raw = unquote_to_bytes(payload)
    if not header.lower().endswith(";base64"):
        return raw
    try:
        return base64.b64decode(b"".join(raw.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(
            "The data after 'base64,' is not valid base64. Encode the file's bytes with base64.b64encode."
        ) from error


def decode(data: bytes, name: str) -> Image.Image:
    """Read a picture from the bytes of an encoded file."""
    return decode_stream(io.BytesIO(data), name)


def decode_stream(stream: IO[bytes], name: str) -> Image.Image:
    """Read a picture from a seekable stream: first its header, then, if the size is allowed, its pixels."""
    if not stream.read(1):
        raise ImageError(f"{as_subject(name)} is empty. Give a file that holds a picture.")
    stream.seek(0)
    Image.init()
    try:
        with Image.open(stream, formats=[known for known in FORMATS if known in Image.OPEN]) as image:
            return to_rgb(image, name)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(name) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{as_subject(name)} is not a picture of a known format. Allowed: PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, "
            f"JPEG 2000, AVIF. Convert it to PNG."
        ) from error
    except Exception as error:  # a decoder meets damaged data with nearly any exception
        raise damaged(name) from error


def as_subject(name: str) -> str:
    """Return a name as the start of a sentence."""
    return name[0].upper() + name[1:]


def too_large(name: str) -> ImageError:
    return ImageError(
        f"{as_subject(name)} is larger than {MAX_IMAGE_PIXELS:,} pixels, and was not decoded. Scale it down first."
    )


def damaged(name: str) -> ImageError:
    return ImageError(f"{as_subject(name)} is cut off or damaged. Save or download the picture again.")


def check_size(width: int, height: int, name: str) -> None:
    """Refuse a picture without pixels, and one with a side that is too long."""
    if width < 1 or height < 1:
        raise ImageError(f"{as_subject(name)} is {width}×{height} pixels, and so is empty.")
    if max(width, height) > MAX_IMAGE_SIDE_PX:
        raise ImageError(
            f"{as_subject(name)} is {width}×{height} pixels; a side may have at most {MAX_IMAGE_SIDE_PX:,}. "
            f"Cut it into several pictures, or scale it down."
        )


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Bring a PIL image of any mode to 8-bit RGB, turned as its EXIF data says."""
    check_size(*image.size, name)
    # What is in memory already can do no more harm; only a picture that is still a file can be a bomb.
    if isinstance(image, ImageFile.ImageFile) and image.width * image.height > MAX_IMAGE_PIXELS:
        raise too_large(name)
    try:
        image.load()
    except Exception as error:  # a decoder meets damaged data with nearly any exception
        raise damaged(name) from error
    image = upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return deep_grey(image, name)
    try:
        if image.mode == "La":
            image = image.convert("LA")
        if image.has_transparency_data:
            page = Image.new("RGBA", image.size, "white")
            page.alpha_composite(image.convert("RGBA"))
            image = page
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(
            f"{as_subject(name)} has the mode {image.mode!r}, which has no plain conversion to RGB. Save it as RGB or "
            f"grey."
        ) from error


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data says; broken EXIF data leaves it as it is stored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken metadata does not make the picture unreadable, and fails in many ways
        return image


def deep_grey(image: Image.Image, name: str) -> Image.Image:
    """Scale greys of 16 or 32 bits, or floats, to 8 bits.

    Integers above 255 are taken to be of 16 bits, and floats above 1 to run up to 255, since a file does not say.
    """
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    is_float = image.mode == "F"
    top = (1.0 if high <= 1 else 255.0) if is_float else (255.0 if image.mode == "I" and high <= 255 else 65535.0)
    if not (low >= 0 and high <= top):  # so written that NaN fails
        allowed = "in [0, 1] or [0, 255]" if is_float else "in [0, 65535]"
        raise ImageError(
            f"{as_subject(name)} has the mode {image.mode!r} and values from {low:g} to {high:g}; allowed: {allowed}. "
            f"Scale it to 8 bits."
        )
    return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8)).convert("RGB")


def from_tensor(tensor: torch.Tensor) -> Image.Image:
    """Read a torch tensor, wherever it is stored."""
    import torch

    try:
        values = tensor.detach().cpu()
        array = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # sparse, quantised, without data
        raise ImageError(
            f"The tensor given (type {str(tensor.dtype)!r}, device {str(tensor.device)!r}) has no plain values to "
            f"read. Give a dense tensor of bool, uint8, uint16, or floats in [0, 1]."
        ) from error
    return from_array(array, "the tensor given", channels_first=True)


def from_array(array: np.ndarray[Any, Any], name: str, *, channels_first: bool) -> Image.Image:
    """Read an array of shape (h, w), (h, w, c) or (c, h, w).

    Args:
        array: The values.
        name: What the array is called in a message.
        channels_first: Whether (c, h, w) wins where the shape fits both orders.

    Raises:
        ImageError: If the shape, the type or the values are not a picture's.
    """
    if array.ndim == 2:
        array, channels_first = array[:, :, None], False
    if array.ndim != 3 or not ({array.shape[0], array.shape[2]} & {1, 2, 3, 4}) or 0 in array.shape:
        raise ImageError(
            f"{as_subject(name)} has the shape {tuple(array.shape)}; a picture has {SHAPES}. "
            f"Of a batch, give each picture on its own."
        )
    fits_first, fits_last = array.shape[0] in (1, 2, 3, 4), array.shape[2] in (1, 2, 3, 4)
    if fits_first and (channels_first or not fits_last):
        array = array.transpose(1, 2, 0)
    height, width, channels = array.shape
    check_size(width, height, name)
    pixels = np.ascontiguousarray(eight_bits(array, name))
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    return to_rgb(Image.frombytes(mode, (width, height), pixels.tobytes()), name)


def eight_bits(array: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """Scale bool, uint8, uint16 or float values to uint8."""
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
    if not (low >= -FLOAT_TOLERANCE and high <= 1 + FLOAT_TOLERANCE):  # so written that NaN fails
        raise ImageError(
            f"{as_subject(name)} holds floats from {low:g} to {high:g}; they must lie in [0, 1]. "
            f"Undo a normalisation, or divide by 255."
        )
    scaled: np.ndarray[Any, Any] = np.rint(np.clip(array, 0, 1) * 255)
    return scaled.astype(np.uint8)
