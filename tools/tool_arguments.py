"""Read the arguments of a model's tool call: tolerant of their form, strict about their meaning.

Models fill optional fields with `""`, `"null"`, 0 or -1, use the names of other libraries, and write JSON inside JSON.
So:

- empty and neutral values count as missing;
- common synonyms are accepted: `size` for width and height, `steps` for `num_inference_steps`, ...;
- JSON text is decoded if a field needs an object or a list;
- unknown arguments are left out, with a notice;
- values that contradict each other, or are out of range, are refused.

Arguments from a person or a program are not read here; they are validated strictly.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, WithJsonSchema, model_validator

from mgem_agent.tools.tool_schema import shared_schema

__all__ = ["NamedPicture", "ToolArguments", "decode_json", "explain_arguments", "wrong_fields"]

NamedPicture = Annotated[str | dict[str, Any], WithJsonSchema({"type": "string"})]
"""A picture named by a model: an id, a data URL, or a path; some models write an image block."""

_ABSENT = frozenset({"", "-", "auto", "default", "n/a", "na", "nil", "none", "null", "undefined", "unset"})

_NEUTRAL: dict[str, Callable[[float], bool]] = {
    "width": lambda value: value <= 0,
    "height": lambda value: value <= 0,
    "seed": lambda value: value < 0,
    "num_inference_steps": lambda value: value <= 0,
    "guidance_scale": lambda value: value < 0,
    "strength": lambda value: value <= 0,
}
"""Numbers that mean "not chosen"."""

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "prompt": ("text", "caption", "description", "imageprompt", "positiveprompt", "instruction", "query", "input"),
    "instruction": ("prompt", "instructions", "editprompt", "editinstruction", "text", "edit"),
    "request": ("prompt", "query", "question", "text", "message", "instruction", "input"),
    "negative_prompt": ("negative", "negativetext", "avoid", "exclude"),
    "width": ("w", "imagewidth"),
    "height": ("h", "imageheight"),
    "seed": ("randomseed", "noiseseed", "rngseed"),
    "num_inference_steps": ("steps", "numsteps", "inferencesteps", "samplingsteps"),
    "guidance_scale": ("guidance", "cfg", "cfgscale"),
    "image": ("imageid", "imageurl", "imagepath", "initimage", "inputimage", "sourceimage", "picture", "fileid"),
    "images": ("image", "imageids", "imageurls", "imagepaths", "inputimages", "picture", "pictures", "fileids"),
    "mask": ("maskimage", "maskid", "maskurl"),
    "strength": ("denoisingstrength", "denoisestrength", "denoise", "imagestrength"),
    "references": ("reference", "referenceimages", "referenceimage", "referenceids", "refs"),
    "draw": ("drawmode",),
    "session": ("sessionid", "sessionname", "thread", "threadid"),
}
"""Synonyms of each field, in lower case without separators."""

_VALUES = {
    "txt2img": "text_to_image",
    "t2i": "text_to_image",
    "generate": "text_to_image",
    "img2img": "image_to_image",
    "i2i": "image_to_image",
    "inpainting": "inpaint",
    "editing": "edit",
}
"""Synonyms of values from fixed sets."""

_SIZE_NAMES = frozenset({"size", "imagesize", "resolution", "dimensions"})
_COUNT_NAMES = frozenset({"n", "num", "count", "numimages", "numberofimages", "numpictures", "batchsize"})
_COUNT_REASON = "request each picture in its own call"

_SIZE = re.compile(r"\s*(\d+)\s*(?:px)?\s*(?:[x×*,]\s*(\d+)\s*(?:px)?)?\s*", re.IGNORECASE)
_NUMBER = re.compile(r"\s*([-+]?\d+(?:\.\d+)?)\s*(?:px|pixels)?\s*", re.IGNORECASE)


class ToolArguments(BaseModel):
    """Arguments of a tool; a subclass defines the fields, and every provider accepts its JSON schema.

    Attributes:
        hidden_fields: Fields that are accepted but not part of the schema that models see.

    Examples:
        >>> class Card(ToolArguments):
        ...     prompt: str
        ...     width: int | None = None
        ...     height: int | None = None
        ...     seed: int | None = None
        >>> card = Card.model_validate({"text": "a fox", "size": "640x480", "seed": -1, "mood": "calm"})
        >>> card.prompt, card.width, card.height, card.seed, card.notices
        ('a fox', 640, 480, None, ("The argument 'mood' is unknown and was left out.",))
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    hidden_fields: ClassVar[frozenset[str]] = frozenset()

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences that name what was left out."""
        return tuple(_left_out(name) for name in self.model_extra or ())

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema that models see; the arguments are those of pydantic."""
        schema = shared_schema(super().model_json_schema(*args, **kwargs))
        shown = {name: field for name, field in schema["properties"].items() if name not in cls.hidden_fields}
        return {"type": "object", "properties": shown, "required": schema.get("required", [])}

    @model_validator(mode="before")
    @classmethod
    def _tidied(cls, given: Any) -> Any:
        found = _unwrapped(given, cls)
        return _tidy(found, cls) if isinstance(found, Mapping) else found


def explain_arguments(error: Any) -> str:
    """Return a message about wrong arguments, for the model that made the call.

    Args:
        error: The error that pydantic raised.
    """
    return (
        f"The arguments of the call are wrong. {wrong_fields(error)}. Call again with arguments that fit the tool's "
        "schema."
    )


def wrong_fields(error: ValidationError) -> str:
    """Return what pydantic found wrong, field by field, without URLs and error types.

    Args:
        error: The error that pydantic raised.
    """
    told = [
        (".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ").rstrip("."))
        for each in error.errors(include_url=False)
    ]
    return "; ".join(f"{place}: {message}" if place else message for place, message in told)


@functools.cache
def _schemas(kind: type[ToolArguments]) -> dict[str, Any]:
    """Return the schema of every field, also of hidden ones."""
    return shared_schema(super(ToolArguments, kind).model_json_schema())["properties"]


@functools.cache
def _names(kind: type[ToolArguments]) -> dict[str, str]:
    """Return the field of each name; a field's own name takes precedence over synonyms."""
    names: dict[str, str] = {}
    for field in kind.model_fields:
        names |= {name: field for name in _SYNONYMS.get(field, ()) if name not in names}
    return names | {_plain(field): field for field in kind.model_fields}


def _left_out(name: str) -> str:
    why = f"was left out: {_COUNT_REASON}" if _plain(name) in _COUNT_NAMES else "is unknown and was left out"
    return f"The argument {name[:80]!r} {why}."


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def decode_json(value: Any) -> Any:
    """Decode JSON text, also nested JSON text; anything else is returned unchanged.

    Args:
        value: Anything.
    """
    for _ in range(3):
        if not isinstance(value, str) or value.strip()[:1] not in ("{", "[", '"'):
            break
        try:
            value = json.loads(value, strict=False)
        except (ValueError, RecursionError):
            break
    return value


def _unwrapped(given: Any, kind: type[ToolArguments]) -> Any:
    """Unwrap arguments from JSON text and from a single outer key, such as `input` or `arguments`."""
    found = decode_json(given)
    if isinstance(found, Mapping) and len(found) == 1:
        inner = decode_json(next(iter(found.values())))
        if isinstance(inner, Mapping) and any(_plain(str(name)) in _names(kind) for name in inner):
            if any(field in kind.model_fields and field in inner for field in kind.model_fields):
                return inner
    return found


def _tidy(given: Mapping[str, Any], kind: type[ToolArguments]) -> dict[str, Any]:
    names = _names(kind)
    exact = {str(name): value for name, value in given.items() if name in kind.model_fields}
    found = dict(_read_all(exact, kind))
    rest = {str(name): value for name, value in given.items() if name not in kind.model_fields}
    for name in list(rest):
        field = names.get(_plain(name))
        if field is not None and _is_absent(found.get(field)):
            found |= _read_all({field: rest.pop(name)}, kind)
    for name in [name for name in rest if _plain(name) in _SIZE_NAMES]:
        size = {} if _is_absent(rest[name]) else _size(rest[name])
        if size and set(size) <= set(kind.model_fields):
            found |= _agreeing(size, found, name, rest.pop(name))
    return found | {name: value for name, value in rest.items() if not _says_nothing(name, value, found, names)}


def _read_all(found: Mapping[str, Any], kind: type[ToolArguments]) -> Iterator[tuple[str, Any]]:
    """Yield the fields that have a value, each converted to its type if the conversion is unambiguous."""
    for field, value in found.items():
        read = _as_type(value, _schemas(kind)[field], field)
        if kind.model_fields[field].is_required() or not _is_absent(read):
            yield field, read


def _says_nothing(name: str, value: Any, found: Mapping[str, Any], names: Mapping[str, str]) -> bool:
    """Whether an unknown argument may be left out without a notice."""
    if _is_absent(value) or (field := names.get(_plain(name))) is not None and found.get(field) == value:
        return True
    return _plain(name) in _COUNT_NAMES and str(value).strip() in ("0", "1")


def _is_absent(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _ABSENT
    return value is None or (isinstance(value, (list, tuple, Mapping)) and not value)


def _as_type(value: Any, schema: Mapping[str, Any], field: str) -> Any:
    """Convert a value to the type of its field; an ambiguous value is left for pydantic to refuse."""
    kind = schema.get("type")
    if "enum" in schema:
        return _as_choice(value, schema["enum"])
    if kind in ("integer", "number"):
        return _as_number(value, field)
    if kind == "array":
        return _as_list(value)
    if kind == "object":
        return decode_json(value)
    if isinstance(value, (list, tuple)):
        return value[0] if len(value) == 1 else ", ".join(value) if all(isinstance(x, str) for x in value) else value
    return value


def _as_choice(value: Any, choices: list[Any]) -> Any:
    if not isinstance(value, str):
        return value
    plain = _plain(value)
    known = {_plain(choice): choice for choice in choices}
    return known.get(plain) or known.get(_plain(_VALUES.get(plain, "")), value)


def _as_number(value: Any, field: str) -> Any:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = str(decode_json(value)).strip()
        if text.lower() == "random":
            return None
        match = _NUMBER.fullmatch(text)
        value = text if match is None else float(match[1]) if "." in match[1] else int(match[1])
    is_neutral = _NEUTRAL.get(field)
    return None if isinstance(value, (int, float)) and is_neutral and is_neutral(value) else value


def _as_list(value: Any) -> Any:
    found = decode_json(value)
    if isinstance(found, (str, Mapping)):
        found = [] if _is_absent(found) else [found]
    return [each for each in found if not _is_absent(each)] if isinstance(found, (list, tuple)) else found


def _size(value: Any) -> dict[str, int]:
    """Read a size: `640x480`, `[640, 480]`, `{"width": 640, "height": 480}`, or one number for a square."""
    found = decode_json(value)
    if isinstance(found, Mapping):
        found = [found.get("width"), found.get("height")]
    text = ",".join(map(str, found)) if isinstance(found, (list, tuple)) else str(found)
    match = _SIZE.fullmatch(text)
    return {} if match is None else {"width": int(match[1]), "height": int(match[2] or match[1])}


def _agreeing(size: dict[str, int], found: Mapping[str, Any], name: str, value: Any) -> dict[str, int]:
    for side, pixels in size.items():
        if side in found and found[side] != pixels:
            raise ValueError(f"{name} is {value!r} and {side} is {found[side]!r}. Give one of the two.")
    return {side: pixels for side, pixels in size.items() if pixels > 0}
