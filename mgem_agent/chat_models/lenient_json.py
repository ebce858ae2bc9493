"""Read JSON in a model's text: between other words, and with typical mistakes.

Valid JSON is parsed strictly. Other JSON is parsed by `json_repair`, which handles trailing commas, missing brackets,
wrong quotes and comments.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["find_object", "read_bool"]

_DECODER = json.JSONDecoder()
_TRUE, _FALSE = ("true", "yes"), ("false", "no")


def find_object(text: str, key: str) -> dict[str, Any] | None:
    """Return the last JSON object in a text that has a key; None if there is none.

    Args:
        text: Text without thinking.
        key: Key that the object must have.

    Examples:
        >>> find_object('I compared {all} of it. {"follows": true, "score": 9}', "follows")
        {'follows': True, 'score': 9}
    """
    found: dict[str, Any] | None = None
    at = text.find("{")
    while at >= 0:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found = value if key in value else found
        at = text.find("{", end)
    return _repaired(text, key) if found is None else found


def read_bool(value: Any) -> bool | None:
    """Return a boolean, also from words such as "yes"; None if the value is neither true nor false."""
    if isinstance(value, bool):
        return value
    word = value.strip().strip(".!").lower() if isinstance(value, str) else ""
    return True if word in _TRUE else False if word in _FALSE else None


def _repaired(text: str, key: str) -> dict[str, Any] | None:
    """Parse the object that begins before the last occurrence of the key."""
    start = text.rfind("{", 0, max(text.rfind(key), 0))
    if start < 0:
        return None
    import json_repair  # imported only when needed

    try:
        value = json_repair.loads(text[start:])
    except (ValueError, RecursionError):
        return None
    values = value if isinstance(value, list) else [value]
    return next((each for each in values if isinstance(each, dict) and key in each), None)
