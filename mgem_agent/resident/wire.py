"""Requests and events of engines as JSON, and back, without a loss.

A picture is sent as the file or data URL that it is; one in memory is sent as PNG. An error keeps its class and its
fields, so that the caller handles it as if the engine ran in its own process.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from PIL import Image

from mgem_agent import errors
from mgem_agent.chat_models.remote_engine import with_pictures, without_files
from mgem_agent.chat_models.text_engine import TextEnd, TextRequest
from mgem_agent.errors import InputError, MgemError
from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult
from mgem_agent.tools.image_usage import ImageUsage

__all__ = [
    "decode_drawing_event",
    "decode_error",
    "decode_pictures",
    "decode_text_event",
    "decode_text_request",
    "encode_drawing_event",
    "encode_error",
    "encode_pictures",
    "encode_text_event",
    "encode_text_request",
]

_TEXT_FIELDS = ("prefill", "max_tokens", "temperature", "top_p", "seed", "thread_id", "grammar")
_PLAIN = (str, int, float, bool, type(None))


def encode_text_request(request: TextRequest) -> dict[str, Any]:
    """Return a request as JSON. Its `cancel` is left out: whoever sends it closes the connection.

    Raises:
        InputError: If an option is not plain data, such as a function.
        ImageError: If a picture is a file that cannot be read.
    """
    if odd := sorted(name for name, value in request.options.items() if not _is_plain(value)):
        raise InputError(
            f"The options {', '.join(map(repr, odd))} are not plain data, and the model runs in `mgem serve`. To load "
            "it in this process: MGEM_USE_SERVER=false"
        )
    dialogue = with_pictures(request.dialogue, _encode_source)
    return {"dialogue": dialogue, "options": dict(request.options)} | {
        name: getattr(request, name) for name in _TEXT_FIELDS
    }


def decode_text_request(data: Mapping[str, Any], **fields: Any) -> TextRequest:
    """Return the request that JSON describes.

    Args:
        data: What `encode_text_request` made.
        **fields: Further fields, such as `cancel`.

    Raises:
        InputError: If it is not such JSON.
    """
    try:
        dialogue = with_pictures(data["dialogue"], _decode_source)
        options = dict(data["options"])
        return TextRequest(dialogue, options=options, **{name: data[name] for name in _TEXT_FIELDS}, **fields)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The request is not one of this release: {type(error).__name__}: {error}") from error


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(each) for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _encode_source(source: Any) -> dict[str, str]:
    """Return a picture as the model's code takes it: a data URL unchanged, else the bytes of a file."""
    source = without_files(source)
    if isinstance(source, str):
        return {"url": source}
    if isinstance(source, Image.Image):
        source = _png(source)
    return {"file": base64.b64encode(source).decode("ascii")}


def _decode_source(source: Mapping[str, str]) -> str | bytes:
    return source["url"] if "url" in source else base64.b64decode(source["file"])


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def encode_pictures(pictures: Mapping[str, Image.Image]) -> dict[str, str]:
    """Return pictures by name as PNG in base64."""
    return {name: base64.b64encode(_png(picture)).decode("ascii") for name, picture in pictures.items()}


def decode_pictures(data: Mapping[str, str]) -> dict[str, Image.Image]:
    """Return the pictures that `encode_pictures` made.

    Raises:
        InputError: If one is not such a picture.
    """
    return {name: _picture(text) for name, text in data.items()}


def _picture(text: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"])
        picture.load()
    except (OSError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise InputError(f"A picture is not a PNG file in base64: {error}") from error
    return picture


def encode_text_event(event: str | TextEnd) -> dict[str, Any]:
    """Return a piece of an answer, or its end, as JSON."""
    return {"text": event} if isinstance(event, str) else {"end": asdict(event)}


def decode_text_event(data: Mapping[str, Any]) -> str | TextEnd:
    """Return what `encode_text_event` made."""
    return str(data["text"]) if "text" in data else TextEnd(**data["end"])


def encode_drawing_event(event: GenerationProgress | ImageResult) -> dict[str, Any]:
    """Return an event of a generator as JSON."""
    if isinstance(event, GenerationProgress):
        preview = None if event.preview is None else encode_pictures({"": event.preview})[""]
        return {"progress": {"index": event.index, "step": event.step, "num_steps": event.num_steps}} | (
            {} if preview is None else {"preview": preview}
        )
    found: dict[str, Any] = {
        "index": event.index,
        "executed": event.executed.model_dump(mode="json"),
        "generator": event.generator,
        "model": event.model,
        "notices": [notice.model_dump() for notice in event.notices],
        "seconds": event.seconds,
        "versions": event.versions,
        "usage": None if event.usage is None else asdict(event.usage),
        "error": None if event.error is None else encode_error(event.error),
        "image": None if event.image is None else encode_pictures({"": event.image})[""],
    }
    return {"result": found}


def decode_drawing_event(data: Mapping[str, Any], requests: Sequence[ImageRequest]) -> GenerationProgress | ImageResult:
    """Return what `encode_drawing_event` made.

    Args:
        data: The JSON.
        requests: The requests of the batch.
    """
    if "progress" in data:
        preview = None if "preview" not in data else _picture(data["preview"])
        return GenerationProgress(**data["progress"], preview=preview)
    found = dict(data["result"])
    return ImageResult(
        request=requests[found["index"]],
        executed=ImageRequest.model_validate(found.pop("executed")),
        notices=tuple(Notice.model_validate(each) for each in found.pop("notices")),
        usage=None if (usage := found.pop("usage")) is None else ImageUsage(**usage),
        error=None if (error := found.pop("error")) is None else decode_error(error),
        image=None if (image := found.pop("image")) is None else _picture(image),
        **found,
    )


def encode_error(error: MgemError) -> dict[str, Any]:
    """Return an error as JSON: its class, its message and its fields."""
    fields = {name: value for name, value in vars(error).items() if _is_plain(value)}
    return {"class": type(error).__name__, "message": str(error), "fields": fields}


def decode_error(data: Mapping[str, Any]) -> MgemError:
    """Return the error that JSON describes; one of an unknown class is an `MgemError`."""
    cls = getattr(errors, str(data["class"]), MgemError)
    error: MgemError = cls.__new__(cls, str(data["message"]))
    MgemError.__init__(error, str(data["message"]))
    for name, value in data["fields"].items():
        setattr(error, name, tuple(value) if isinstance(value, list) else value)
    return error
