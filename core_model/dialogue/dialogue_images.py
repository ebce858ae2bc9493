"""The images of a dialogue whose messages have a text, or a list of parts, as content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["images_of"]


def images_of(dialogue: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Return the images of a dialogue, in order.

    Args:
        dialogue: The messages.
    """
    parts = [part for message in dialogue if not isinstance(message["content"], str) for part in message["content"]]
    return [part["image"] for part in parts if part["type"] == "image"]
