"""Identify the call that a stored picture was drawn for, so that a resumed process finds unrecorded pictures.

A call is identified by its key, a hash of its owner, its place and its request. Times are not used, because a clock can
be set back.
"""

from __future__ import annotations

import hashlib
import json

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.tools.image_request import ImageRequest

__all__ = ["call_key", "is_drawn_for"]

NUM_KEY_DIGITS = 32


def call_key(owner: str, place: str, request: ImageRequest) -> str:
    """Return the key of a call.

    Args:
        owner: Id of the turn or the story.
        place: Place of the picture in it.
        request: The request.

    Examples:
        >>> fox = ImageRequest(prompt="a fox")
        >>> call_key("turn", "0.0", fox) == call_key("turn", "0.1", fox)
        False
    """
    content = json.dumps([owner, place, request.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:NUM_KEY_DIGITS]


def is_drawn_for(artifact: Artifact, key: str, request: ImageRequest, *, generator: str) -> bool:
    """Whether a stored picture answers a call.

    It does if it was drawn for this call. It also does if the same generator drew it for an equal request with an
    explicit seed, because drawing again would give the same picture.

    Args:
        artifact: The picture.
        key: Key of the call.
        request: What the call asks for.
        generator: Name of the generator that would draw it.
    """
    recipe = artifact.recipe
    if recipe is None or recipe.generator != generator:
        return False
    is_equal = artifact.asked == request and recipe.request.seed == request.seed is not None
    return artifact.call == key or is_equal
