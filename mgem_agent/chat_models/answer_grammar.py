"""Grammars that constrain an answer, for engines with constrained decoding.

Small models repeat themselves endlessly. So texts, lists and numbers that a schema does not limit get a limit here, and
every answer ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mgem_agent.chat_models.json_calls import CALL_CLOSE, CALL_OPEN

__all__ = ["call_grammar", "json_grammar", "mixed_grammar", "text_grammar"]

_MAX_TEXT = 1000
_MAX_ITEMS = 32
_MAX_FIELDS = 16
_MAX_NUMBER = 10**15 - 1
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}
"""The JSON layout that models are trained on, with limited whitespace. Schema keywords unknown to the library are
ignored here and checked when the answer is read."""

_OPEN_TEXT = ("maxLength", "enum", "const", "pattern", "format")


def json_grammar(schema: Mapping[str, Any]) -> str:
    """Return the grammar of a JSON value.

    Args:
        schema: JSON schema of the value.
    """
    return f"start: {_json(schema)}"


def call_grammar(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the grammar of a call of one of the tools.

    Args:
        tools: Tools in OpenAI's format.
    """
    return f"""start: ({_calls(tools)}) "\\n{CALL_CLOSE}\""""


def mixed_grammar(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the grammar of free text with captions, in which every call is a call of one of the tools.

    Args:
        tools: Tools in OpenAI's format.
    """
    begun = CALL_OPEN.partition("_")[0]  # a small model begins the tag correctly but often ends it wrong
    return f"""start: (begun "{CALL_OPEN.removeprefix(begun)}" (call | caption))* WORDS
begun[lazy]: WORDS "{begun}"
call: "\\n" ({_calls(tools)}) "\\n{CALL_CLOSE}"
caption: "\\n<h>"
WORDS: /(?s:.*)/"""


def text_grammar() -> str:
    """Return the grammar of plain text: not blank, and without the `<` that begins tags and calls."""
    return r"""start: WORDS
WORDS: /[^<]*[^\s<][^<]*/"""


def _calls(tools: Sequence[Mapping[str, Any]]) -> str:
    rules = []
    for tool in (tool["function"] for tool in tools):
        parameters = tool.get("parameters") or {"type": "object", "properties": {}}
        name = json.dumps(f'{{"name": {json.dumps(tool["name"])}, "arguments": ')
        rules.append(f'{name} {_json(parameters)} "}}"')
    return " | ".join(rules)


def _json(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps({**_limited(schema), 'x-guidance': _LAYOUT})}"


def _limited(schema: Any) -> Any:
    """Return a schema in which all values are limited, and objects have only the named fields."""
    if isinstance(schema, list):
        return [_limited(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return _ending({key: _limited_keyword(key, value) for key, value in schema.items()})


def _limited_keyword(key: str, value: Any) -> Any:
    if key in ("enum", "const", "default", "examples", "required"):
        return value  # these are not schemas
    if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
        return {name: _limited(each) for name, each in value.items()}
    return _limited(value)


def _ending(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    if kind == "string" and not any(name in schema for name in _OPEN_TEXT):
        schema["maxLength"] = _MAX_TEXT
    elif kind == "array":
        schema.setdefault("maxItems", _MAX_ITEMS)
    elif kind == "integer" and "enum" not in schema:
        if "exclusiveMinimum" not in schema:
            schema["minimum"] = max(schema.get("minimum", -_MAX_NUMBER), -_MAX_NUMBER)
        if "exclusiveMaximum" not in schema:
            schema["maximum"] = min(schema.get("maximum", _MAX_NUMBER), _MAX_NUMBER)
    elif kind == "object" and schema.get("properties"):
        schema.setdefault("additionalProperties", False)
    elif kind == "object":
        schema.setdefault("maxProperties", _MAX_FIELDS)
    return schema
