"""The PNG file of a picture: the same picture and recipe give the same bytes, and say how it was made.

Two text chunks are written before the pixels. `parameters` is the web UI's of AUTOMATIC1111, which other programs and
the sites where pictures are shared read. `mgem` is the whole recipe as JSON, from which the picture can be drawn again.
Neither holds a time or a version, so that a picture which is drawn again is the same file.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

from PIL import Image, PngImagePlugin, UnidentifiedImageError
from pydantic import ValidationError

from mgem_agent.artifacts.artifact import PictureRecipe
from mgem_agent.core_model.encoded_picture import open_file
from mgem_agent.core_model.image_loading import quietly
from mgem_agent.errors import ImageError
from mgem_agent.redaction import without_secrets

__all__ = ["encode_picture", "is_whole_png", "parameters_text", "read_recipe"]

CHUNK = "mgem"
COMPRESS_LEVEL = 6
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
SETTINGS = (
    ("Steps", "num_inference_steps"),
    ("CFG scale", "guidance_scale"),
    ("Seed", "seed"),
    ("Denoising strength", "strength"),
)


def encode_picture(image: Image.Image, recipe: PictureRecipe | None = None) -> bytes:
    """Encode a picture as PNG.

    Args:
        image: The picture, RGB.
        recipe: How it was drawn, if it was.

    Returns:
        The bytes of the file; the same ones each time, on one version of the compressor.
    """
    chunks = PngImagePlugin.PngInfo()
    if recipe is not None:
        whole = json.dumps(recipe.model_dump(mode="json", exclude_none=True), sort_keys=True)
        chunks.add_text("parameters", without_secrets(parameters_text(recipe)))
        chunks.add_text(CHUNK, without_secrets(whole))
    plain = image if image.mode == "RGB" else image.convert("RGB")
    if plain.info:  # what a loaded file carries along: profile, density, EXIF
        plain = plain.copy()
        plain.info = {}
    buffer = io.BytesIO()
    plain.save(buffer, format="PNG", pnginfo=chunks, compress_level=COMPRESS_LEVEL)
    return buffer.getvalue()


def parameters_text(recipe: PictureRecipe) -> str:
    """A recipe in the form of AUTOMATIC1111's web UI: prompt, negative prompt, and a line of settings."""
    request = recipe.request
    settings = {title: getattr(request, name) for title, name in SETTINGS}
    settings["Sampler"] = request.options.get("sampler_name")
    settings["Size"] = f"{request.width}x{request.height}" if request.width and request.height else None
    settings["Model"] = recipe.model or None
    settings["Version"] = "mgem-agent"
    line = ", ".join(f"{title}: {_quoted(value)}" for title, value in settings.items() if value is not None)
    negative = f"\nNegative prompt: {request.negative_prompt}" if request.negative_prompt else ""
    return f"{request.prompt}{negative}\n{line}"


def _quoted(value: object) -> str:
    """A value as that form has it: in JSON's quotes where it holds one of the form's own signs."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ",:\n") else text


def read_recipe(path: str | Path) -> PictureRecipe | None:
    """Read how a PNG was drawn from its own chunk; its pixels are not decoded.

    Args:
        path: Any file.

    Returns:
        The recipe, or None if it is no PNG of ours.

    Raises:
        ImageError: If the file cannot be read, or its chunk is damaged or of a later version.
    """
    try:
        with open_file(path) as file, quietly(), Image.open(file, formats=["PNG"]) as image:
            text = image.info.get(CHUNK)
    except ImageError:
        raise
    except UnidentifiedImageError:
        return None
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"The file {str(path)!r} is a damaged PNG: {error}.") from error
    if not isinstance(text, str):
        return None
    try:
        return PictureRecipe.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "as a whole"
        raise ImageError(
            f"The file {str(path)!r} says of its making what this version cannot read ({where}: {first['msg']}). "
            f"Update mgem-agent, or draw it anew."
        ) from error


def is_whole_png(path: Path) -> bool:
    """Whether a file begins and ends as a PNG does; its pixels are not decoded.

    Args:
        path: A file that was written as a PNG.
    """
    try:
        with open_file(path) as file:
            start = file.read(len(PNG_START))
            file.seek(-min(len(PNG_END), path.stat().st_size), os.SEEK_END)
            return start == PNG_START and file.read() == PNG_END
    except (ImageError, OSError):
        return False
