"""The PNG file of a picture, with the metadata to draw it again. The same picture and recipe give the same bytes.

Two text chunks precede the pixels. `parameters` has the format of AUTOMATIC1111's web UI, which other programs and
picture-sharing sites read. `mgem` is the recipe as JSON, for redrawing. Neither contains a time or a version, so that a
redrawn picture is the same file. Neither contains a server's address or a local path, because pictures are shared. The
chunks are tEXt, which more programs read; text that is not Latin-1 goes into iTXt.

Other programs require of `parameters`: the line of settings begins with `Steps:` (ComfyUI, sd-prompt-reader), has a
`Sampler:` and a seed (sd-parsers), and follows a line `Negative prompt:`, even an empty one (ComfyUI). Unknown values
are written as `Steps: 0`, `Sampler: default` and `Seed: -1`.
"""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

from PIL import Image, PngImagePlugin, UnidentifiedImageError
from pydantic import ValidationError

from mgem_agent.artifacts.artifact import PictureRecipe
from mgem_agent.artifacts.shareable import shareable_recipe
from mgem_agent.core_model.encoded_picture import open_file
from mgem_agent.core_model.image_loading import quietly
from mgem_agent.errors import ImageError
from mgem_agent.redaction import without_secrets

__all__ = ["PNG_END", "PNG_START", "encode_picture", "is_complete_png", "read_recipe"]

CHUNK = "mgem"
COMPRESS_LEVEL = 6
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
MODEL = re.compile(r"(?P<name>.+) \[(?P<hash>[0-9a-fA-F]{6,64})\]", re.DOTALL)
USUAL_SAMPLER, UNKNOWN_STEPS, UNKNOWN_SEED = "default", 0, -1


def encode_picture(image: Image.Image, recipe: PictureRecipe | None = None) -> bytes:
    """Encode a picture as PNG.

    Args:
        image: The picture, RGB.
        recipe: How it was drawn, if it was.

    Returns:
        The bytes of the file, which depend only on the arguments and the version of the compressor.
    """
    chunks = PngImagePlugin.PngInfo()
    if recipe is not None:
        recipe = shareable_recipe(recipe)
        whole = json.dumps(recipe.model_dump(mode="json", exclude_none=True), sort_keys=True)
        chunks.add_text("parameters", without_secrets(parameters_text(recipe)))
        chunks.add_text(CHUNK, without_secrets(whole))
    plain = image if image.mode == "RGB" else image.convert("RGB")
    if plain.info:  # metadata of the loaded file: profile, density, EXIF
        plain = plain.copy()
        plain.info = {}
    buffer = io.BytesIO()
    plain.save(buffer, format="PNG", pnginfo=chunks, compress_level=COMPRESS_LEVEL)
    return buffer.getvalue()


def parameters_text(recipe: PictureRecipe) -> str:
    """Return a recipe in the format of AUTOMATIC1111's web UI: prompt, negative prompt, and a line of settings."""
    request = recipe.request
    options = request.options
    named = MODEL.fullmatch(recipe.model)
    sampler = options.get("sampler_name") or options.get("scheduler") or USUAL_SAMPLER
    settings = {
        "Steps": request.num_inference_steps or UNKNOWN_STEPS,
        "Sampler": sampler,
        "Schedule type": options.get("scheduler") if options.get("sampler_name") else None,
        "CFG scale": request.guidance_scale,
        "Seed": UNKNOWN_SEED if request.seed is None else request.seed,
        "Size": f"{request.width}x{request.height}" if request.width and request.height else None,
        "Model hash": named["hash"] if named else None,
        "Model": (named["name"] if named else recipe.model) or None,
        "Denoising strength": request.strength,
        "Version": "mgem-agent",
    }
    line = ", ".join(f"{title}: {_quoted(value)}" for title, value in settings.items() if value is not None)
    return f"{request.prompt}\nNegative prompt: {request.negative_prompt or ''}\n{line}"


def _quoted(value: object) -> str:
    """Return a value, in JSON quotes if it contains a separator of the format."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ",:\n") else text


def read_recipe(path: str | Path) -> PictureRecipe | None:
    """Read how a PNG was drawn from its own chunk; its pixels are not decoded.

    Args:
        path: Any file.

    Returns:
        The recipe, or None if this package did not write the file.

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
            f"This version cannot read the recipe in the file {str(path)!r} ({where}: {first['msg']}). "
            f"Update mgem-agent, or draw the picture again."
        ) from error


def is_complete_png(path: Path) -> bool:
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
