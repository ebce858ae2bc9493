"""JSON Schema with the keywords that OpenAI, Gemini and Anthropic all accept.

A provider refuses a whole request because of one unknown keyword. What is left out here (lengths, formats, defaults,
null) is checked when the arguments are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_NUMBER", "SHARED_KEYWORDS", "shared_schema"]

SHARED_KEYWORDS = frozenset(
    {"anyOf", "description", "enum", "items", "maximum", "minimum", "properties", "required", "type"}
)
"""Keywords that a tool's schema may have."""

MAX_NUMBER = 2**53 - 1
"""Largest bound: above it a JSON number is not exact in JavaScript and in most gateways."""


def shared_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema in the shared keywords; nullable fields become optional fields.

    Args:
        schema: The schema from pydantic.

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
    """Remove null from the variants; if one variant is left, it replaces the node."""
    variants = [each for each in node.pop("anyOf", ()) if each.get("type") != "null"]
    if len(variants) == 1:
        return _resolved(variants[0], definitions) | node
    return node | ({"anyOf": variants} if variants else {})


def _bounds(node: Mapping[str, Any]) -> dict[str, Any]:
    """Make bounds inclusive; an exclusive bound of a non-integer is checked when the arguments are read."""
    step = 1 if node.get("type") == "integer" else 0
    low = node.get("minimum", node["exclusiveMinimum"] + step if "exclusiveMinimum" in node else None)
    high = node.get("maximum", node["exclusiveMaximum"] - step if "exclusiveMaximum" in node else None)
    found = {"minimum": low, "maximum": high}
    return {name: max(-MAX_NUMBER, min(value, MAX_NUMBER)) for name, value in found.items() if value is not None}
