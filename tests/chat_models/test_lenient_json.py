"""JSON is found between other words, with the mistakes of models."""

from __future__ import annotations

from typing import Any

import pytest

from mgem_agent.chat_models.lenient_json import find_object, read_bool


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('```json\n{"a": 1,}\n```', {"a": 1}),
        ('{b} {"a": 1} {"c": 2}', {"a": 1}),
        ('{"a": 1} or rather {"a": 2}', {"a": 2}),
        ("{'a': True, 'b': 'x'", {"a": True, "b": "x"}),
        ("{a: 1}", {"a": 1}),
        ("a is not there", None),
        ("", None),
        ("{" * 5000, None),
    ],
)
def test_the_object_with_the_key(text: str, expected: dict[str, Any] | None) -> None:
    assert find_object(text, "a") == expected


def test_yes_and_no_in_words() -> None:
    assert [read_bool(value) for value in (True, "true", " Yes. ", "no", "maybe", 1, None)] == [
        True, True, True, False, None, None, None,
    ]  # fmt: skip
