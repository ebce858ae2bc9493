"""JSON Schema that every provider takes: the keywords that OpenAI, Gemini and Anthropic share.

A provider refuses the whole request, not the one keyword, when it meets a schema that it does not know. What is left
out here (lengths, formats, defaults, null) is checked when the arguments are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_NUMBER", "SHARED_KEYWORDS", "shared_schema"]

SHARED_KEYWORDS = frozenset(
    {"anyOf", "description", "enum", "items", "maximum", "minimum", "properties", "required", "type"}
)
"""Keywords that may stand in a tool's schema."""

MAX_NUMBER = 2**53 - 1
"""Largest bound: above it a JSON number is not exact in JavaScript and in most gateways."""


def shared_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema in the shared keywords; fields that may be null become fields that may be left out.

    Args:
        schema: As pydantic writes it.

    Examples:
        >>> shared_schema({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}], "default": None})
        {'type': 'integer', 'minimum': 1}
    """
    return _reduced(schema, schema.get("$defs", {}))


def _reduced(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    node = _without_null(_resolved(schema, definitions), definitions)
    kept: dict[str, Any] = {name: node[name] for name in ("description", "type", "enum", "required") if name in node}
    if "const" in node:
        kept["enum"] = [node["const"]]
    if "anyOf" in node:
        kept["anyOf"] = [_reduced(each, definitions) for each in node["anyOf"]]
    if "items" in node:
        kept["items"] = _reduced(node["items"], definitions)
    if "properties" in node:
        kept["properties"] = {name: _reduced(each, definitions) for name, each in node["properties"].items()}
    return kept | _bounds(node)


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    node = dict(schema)
    if name := node.pop("$ref", None):
        node = _resolved(definitions[name.rpartition("/")[2]], definitions) | node
    return node


def _without_null(node: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the null among the variants; a single one that is left takes the node's place."""
    variants = [each for each in node.pop("anyOf", ()) if each.get("type") != "null"]
    if len(variants) == 1:
        return _resolved(variants[0], definitions) | node
    return node | ({"anyOf": variants} if variants else {})


def _bounds(node: Mapping[str, Any]) -> dict[str, Any]:
    """Inclusive bounds; for a number that is no integer the excluded bound itself is checked when it is read."""
    step = 1 if node.get("type") == "integer" else 0
    low = node.get("minimum", node["exclusiveMinimum"] + step if "exclusiveMinimum" in node else None)
    high = node.get("maximum", node["exclusiveMaximum"] - step if "exclusiveMaximum" in node else None)
    found = {"minimum": low, "maximum": high}
    return {name: max(-MAX_NUMBER, min(value, MAX_NUMBER)) for name, value in found.items() if value is not None}
