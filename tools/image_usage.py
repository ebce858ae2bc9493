"""The tokens that a server of the OpenAI images API counted for a picture; other generators count none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ImageUsage", "read_image_usage"]


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """Tokens of one picture.

    Attributes:
        input_text_tokens: Text tokens of the prompt.
        input_image_tokens: Image tokens of the pictures that were given.
        output_tokens: Tokens of the drawn picture.
    """

    input_text_tokens: int = 0
    input_image_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: ImageUsage) -> ImageUsage:
        """Return the sum of two usages."""
        return ImageUsage(
            self.input_text_tokens + other.input_text_tokens,
            self.input_image_tokens + other.input_image_tokens,
            self.output_tokens + other.output_tokens,
        )


def read_image_usage(answer: Any) -> ImageUsage | None:
    """Return the usage in a server's answer; None if it has none that can be read.

    Args:
        answer: JSON of the answer, for one picture.

    Examples:
        >>> read_image_usage({"usage": {"input_tokens": 9, "output_tokens": 272}})
        ImageUsage(input_text_tokens=9, input_image_tokens=0, output_tokens=272)
    """
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    if not isinstance(usage, Mapping) or not any(_count(usage, name) for name in ("input_tokens", "output_tokens")):
        return None
    details = usage.get("input_tokens_details")
    num_image = _count(details, "image_tokens") if isinstance(details, Mapping) else 0
    return ImageUsage(max(_count(usage, "input_tokens") - num_image, 0), num_image, _count(usage, "output_tokens"))


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and value > 0 else 0
