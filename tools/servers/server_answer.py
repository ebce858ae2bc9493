"""The answer of a server: its JSON, or its text; and readable error messages from it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import httpx

from mgem_agent.redaction import redacted_start

__all__ = ["ServerAnswer", "described", "message_of"]

MAX_MESSAGE_CHARS = 400
MAX_DEPTH = 8
WORDS = ("message", "msg", "errors", "detail", "error", "details")
"""Keys of error messages, the most informative first; AUTOMATIC1111's `error` is only a class name."""
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """The answer of a server.

    Attributes:
        status: HTTP status.
        headers: HTTP headers.
        body: The whole body, decompressed.
    """

    status: int
    headers: httpx.Headers
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON. Lone surrogates are replaced, because they cannot be stored.

        Raises:
            ValueError: If it is not JSON.
            RecursionError: If it is nested too deeply.
        """
        data = json.loads(self.body)
        if not SURROGATE.search(self.body):
            return data
        return json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", errors="replace"))

    @property
    def data(self) -> Any:
        """The body as JSON, or as text if it is not JSON."""
        try:
            return self.json()
        except (ValueError, RecursionError):
            return self.body.decode("utf-8", errors="replace")


def described(body: bytes) -> str:
    """Describe an unexpected body in a few words."""
    start = body[:200].lstrip().lower()
    if not start:
        return "nothing"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return repr(redacted_start(body[:4096].decode("utf-8", errors="replace"), 60))


def message_of(data: Any) -> str:
    """Return the message in the body of an error, on one line and truncated.

    Several errors, such as FastAPI's list under `detail`, are joined by `; `, each with its field.

    Args:
        data: The body as JSON, or as text.
    """
    text = _words(data, MAX_DEPTH)
    if text.lstrip()[:15].lower().startswith(("<!doctype html", "<html")):
        return "an HTML page"
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return redacted_start(text, MAX_MESSAGE_CHARS).rstrip(".") or "no reason given"


def _words(data: Any, depth: int) -> str:
    if isinstance(data, str):
        return data
    if depth and isinstance(data, list):
        return "; ".join(_words(each, depth - 1) for each in data)
    if depth and isinstance(data, dict):
        for name in WORDS:
            if data.get(name):
                place = data.get("loc")
                where = ".".join(map(str, place)) + ": " if isinstance(place, list) and place else ""
                return where + _words(data[name], depth - 1)
    return json.dumps(data)
