"""Tool calls as JSON in an answer's text, for tools other than drawing, and the description of tools in the prompt.

The format is the one that most open models are trained on: `<tool_call>{"name": ..., "arguments": {...}}
</tool_call>`. If a model writes it incorrectly, the result is an invalid call that contains the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgem_agent.chat_models.stop_strings import held_length

__all__ = [
    "CALL_CLOSE",
    "CALL_OPEN",
    "JsonCall",
    "JsonCallParser",
    "describe_tools",
    "first_object",
    "render_call",
]

CALL_OPEN = "<tool_call>"
CALL_CLOSE = "</tool_call>"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class JsonCall:
    """A call in an answer.

    Args:
        name: Name of the tool; empty if the call cannot be read.
        arguments: Arguments as JSON, or the unreadable text.
    """

    name: str
    arguments: str


class JsonCallParser:
    """Extracts calls from an answer's text, however the text is split into pieces.

    Examples:
        >>> parser = JsonCallParser()
        >>> parser.feed('Let me see. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool')
        ['Let me see. ']
        >>> parser.feed("_call>")
        [JsonCall(name='add', arguments='{"a": 1}')]
    """

    def __init__(self) -> None:
        self._text = ""  # held text: the beginning of a tag, or the open call
        self._is_open = False
        self._searched = 0  # number of characters of the open call that do not contain its end

    @property
    def is_complete(self) -> bool:
        """Whether the open call already contains a complete JSON object."""
        return self._is_open and "}" in self._text and _call_object(self._text) is not None

    def feed(self, piece: str) -> list[str | JsonCall]:
        """Read the next piece of the answer, and return texts and calls in order."""
        found: list[str | JsonCall] = []
        self._text += piece
        while True:
            mark = CALL_CLOSE if self._is_open else CALL_OPEN
            at = self._text.find(mark, self._searched)
            if at < 0:
                break
            before, self._text = self._text[:at], self._text[at + len(mark) :]
            found += _read_call(before) if self._is_open else [before] if before else []
            self._is_open, self._searched = not self._is_open, 0
        if self._is_open:
            self._searched = max(0, len(self._text) - len(CALL_CLOSE))
        elif cut := len(self._text) - held_length(self._text, CALL_OPEN):
            found.append(self._text[:cut])
            self._text = self._text[cut:]
        return found

    def close(self) -> list[str | JsonCall]:
        """End the answer: return held text, and a call that is still open."""
        text, is_open = self._text, self._is_open
        self._text, self._is_open, self._searched = "", False, 0
        if not text.strip():
            return [text] if text and not is_open else []
        return _read_call(text) if is_open else [text]


def first_object(text: str) -> Any:
    """Return the JSON object at the beginning of a text, after whitespace or a code fence; None if there is none."""
    start = text.find("{")
    if start < 0 or text[:start].strip().strip("`").strip() not in ("", "json"):
        return None
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return value


def _call_object(text: str) -> Any:
    """Return the JSON object of a call, even if its last brace is missing."""
    value = first_object(text)
    return first_object(text + "}") if value is None else value


def _read_call(text: str) -> list[str | JsonCall]:
    """Read a call; if the opening tag is repeated, the last one counts."""
    body = text.rpartition(CALL_OPEN)[2]
    value = _call_object(body)
    if not isinstance(value, dict) or not isinstance(name := value.get("name"), str):
        return [JsonCall("", body.strip())]
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, dict) and arguments.get("name") == name and isinstance(arguments.get("arguments"), dict):
        arguments = arguments["arguments"]  # the model repeated a call whose beginning was prefilled
    return [JsonCall(name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))]


def render_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Render a call for the history, in the format that models are asked to use."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False, default=str)
    return f"{CALL_OPEN}\n{body}\n{CALL_CLOSE}"


def describe_tools(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each tool's name, description and parameters as a line of JSON."""
    return [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
