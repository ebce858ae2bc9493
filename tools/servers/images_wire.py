"""What a request of the images API is made of, and what its answer contains."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from mgem_agent.errors import GeneratorOutputError
from mgem_agent.redaction import redacted_start
from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.servers.wire_pictures import mask_with_holes, png_bytes

__all__ = ["answered_items", "picture_files", "picture_size", "without_fields"]

SERVER = "The OpenAI images server"
SILENT_FIELDS = frozenset({"n", "response_format"})


def without_fields(
    request: ImageRequest, refused: Sequence[str], honours: Mapping[str, str]
) -> tuple[ImageRequest, tuple[Notice, ...]]:
    """Return a request without the refused fields, and a notice for each that matters.

    Args:
        request: The request.
        refused: Fields that the server does not know.
        honours: The server's fields beyond OpenAI's, by the fields of an image request.
    """
    changes: dict[str, Any] = {}
    notices = []
    ours = {field: name for name, field in honours.items()}
    for field in refused:
        if field in SILENT_FIELDS:
            continue
        argument = "width" if field == "size" else ours.get(field, "options")
        if argument not in ("width", "options"):
            changes[argument] = None
        message = f"The server does not know {field!r}; it was left out."
        notices.append(Notice(argument=argument, message=message))
    changes["options"] = {name: value for name, value in request.options.items() if name not in refused}
    return request.model_copy(update=changes), tuple(notices)


def picture_size(request: ImageRequest) -> tuple[int, int] | None:
    """Return the width and height; a missing side is as long as the other.

    Args:
        request: The request.
    """
    width, height = request.width or request.height, request.height or request.width
    return (width, height) if width and height else None


def picture_files(request: ImageRequest, pictures: Mapping[str, Image.Image]) -> list[tuple[str, Any]]:
    """Return the pictures of a request as form parts: the start picture, then the references.

    Args:
        request: The request.
        pictures: The pictures by id.
    """
    named = [name for name in (request.image, *request.references) if name is not None]
    field = "image" if len(named) == 1 else "image[]"
    files: list[tuple[str, Any]] = [
        (field, (f"picture-{place}.png", png_bytes(pictures[name]), "image/png")) for place, name in enumerate(named)
    ]
    if request.mask is not None and request.image is not None:
        cut = mask_with_holes(pictures[request.image], pictures[request.mask])
        files.append(("mask", ("mask.png", png_bytes(cut), "image/png")))
    return files


def answered_items(answer: Any) -> list[dict[str, Any]]:
    """Return the entries of an answer up to the first that is none.

    Args:
        answer: The answer, as JSON.

    Raises:
        GeneratorOutputError: If there are none.
    """
    items = answer.get("data") if isinstance(answer, dict) else None
    found = list(itertools.takewhile(lambda item: isinstance(item, dict), items if isinstance(items, list) else []))
    if not found:
        raise GeneratorOutputError(f"{SERVER} returned no picture: {redacted_start(answer, 200)!r}.", retryable=True)
    return found
