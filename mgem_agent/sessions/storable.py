"""Records as they can be stored: without secrets, surrogates, and the character 0, which PostgreSQL refuses."""

from __future__ import annotations

import json
import re
from typing import Any

from mgem_agent.redaction import without_secrets
from mgem_agent.text_decoding import clean_text

__all__ = ["storable"]

ZERO = r"\u0000"
_ESCAPED_ZERO = re.compile(r"(?P<backslash>\\\\)|\\u0000")


def storable(record: dict[str, Any]) -> dict[str, Any]:
    r"""Return a record as it can be stored.

    Args:
        record: The record, as JSON.

    Examples:
        >>> storable({"text": "a\x00b \\u0000"})
        {'text': 'a�b \\u0000'}
    """
    text = clean_text(without_secrets(json.dumps(record, ensure_ascii=False)))
    if ZERO in text:
        text = _ESCAPED_ZERO.sub(lambda found: found["backslash"] or "\N{REPLACEMENT CHARACTER}", text)
    kept: dict[str, Any] = json.loads(text)
    return kept
