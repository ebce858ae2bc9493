"""Compare what a server reports with what was requested.

The executed request has the server's values, so that it gives the same picture again. A notice names each difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from PIL import Image
from pydantic import ValidationError

from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["executed_request", "facts_of_parameters"]

NUMBERS = (
    ("seed", "Seed", int),
    ("num_inference_steps", "Steps", int),
    ("guidance_scale", "CFG scale", float),
    ("strength", "Denoising strength", float),
)
NAMES = (("sampler_name", "Sampler"), ("scheduler", "Schedule type"), ("model", "Model"), ("model_hash", "Model hash"))


def facts_of_parameters(parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of a `parameters` chunk by the names of `ImageRequest`; unreadable ones are left out."""
    facts: dict[str, Any] = {ours: parameters[theirs] for ours, theirs in NAMES if parameters.get(theirs)}
    for ours, theirs, kind in NUMBERS:
        try:
            facts[ours] = kind(parameters[theirs])
        except (KeyError, ValueError):
            continue  # missing, or not a number
    return facts


def executed_request(
    request: ImageRequest,
    image: Image.Image,
    facts: Mapping[str, Any],
    *,
    options: Mapping[str, str],
) -> tuple[ImageRequest, tuple[Notice, ...]]:
    """Return a request with the values that were used, and a notice for each that differs from the request.

    Args:
        request: The original request.
        image: The picture.
        facts: Values that the server reports: fields of a request, and `sampler_name`, `scheduler`, `model`.
        options: For each of these three names, the option that sets it.
    """
    used: dict[str, Any] = {"width": image.width, "height": image.height}
    used |= {name: facts[name] for name, _, _ in NUMBERS if name in facts}
    if request.task not in ("image_to_image", "inpaint"):
        used.pop("strength", None)
    used = {name: value for name, value in used.items() if _can_be(name, value)}
    notices = [
        Notice(argument=name, message=f"{name}={asked} was requested; the server used {value}.")
        for name, value in used.items()
        if (asked := getattr(request, name)) is not None and asked != value
    ]
    chosen = dict(request.options)
    for name, option in options.items():
        done = facts.get(name)
        if not isinstance(done, str) or not done:
            continue
        asked = request.options.get(option)
        if asked is None:
            chosen[option] = done
        elif not _is_same(name, asked, done, facts):
            chosen[option] = done
            notices.append(
                Notice(argument="options", message=f"{option}={asked!r} was requested; the server used {done!r}.")
            )
    return request.model_copy(update=used | {"options": chosen}), tuple(notices)


def _can_be(name: str, value: Any) -> bool:
    """Whether a value is valid in a request; servers report -1 or 0 for unknown values."""
    try:
        ImageRequest.model_validate({"prompt": "-", name: value})
    except ValidationError as error:
        return not any(fault["loc"] == (name,) for fault in error.errors())
    return True


def _is_same(name: str, asked: object, done: str, facts: Mapping[str, Any]) -> bool:
    """Whether two names are equivalent: samplers have several names, and models a path and a hash."""
    if name == "model":
        return _model_name(str(asked)) == _model_name(done)
    if name == "sampler_name":
        both = _plain(done) + _plain(str(facts.get("scheduler") or ""))
        return _plain(str(asked)) in (_plain(done), both)
    return _plain(str(asked)) in (_plain(done), "automatic")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("k_").replace("++", "pp"))


def _model_name(name: str) -> str:
    name = re.sub(r"\s*\[[0-9a-fA-F]+\]$", "", name.strip())
    name = PureWindowsPath(PurePosixPath(name).name).name
    return re.sub(r"\.(safetensors|ckpt|gguf|pt|pth|sft)$", "", name, flags=re.IGNORECASE).lower()
