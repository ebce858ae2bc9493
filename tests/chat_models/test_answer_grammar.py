"""Schemas get limits where they have none; the grammars themselves are tested where tokens are chosen."""

from __future__ import annotations

import json
from typing import Any

from mgem_agent.chat_models.answer_grammar import json_grammar


def schema_in(form: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(form.removeprefix("start: %json "))
    assert schema.pop("x-guidance")["whitespace_flexible"] is False
    return schema


def test_what_is_open_gets_a_limit() -> None:
    limited = schema_in(
        json_grammar(
            {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "kind": {"type": "string", "enum": ["a"]},
                    "items": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
                    "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 9},
                },
                "$defs": {"Part": {"type": "object"}},
            }
        )
    )
    assert limited == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "type": {"type": "string", "maxLength": 1000},
            "kind": {"type": "string", "enum": ["a"]},
            "items": {"type": "array", "items": {"$ref": "#/$defs/Part"}, "maxItems": 32},
            "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 9},
        },
        "$defs": {"Part": {"type": "object", "maxProperties": 16}},
    }
