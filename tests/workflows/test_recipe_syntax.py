"""YAML stricter than its safe loader, and JSON without keys that stand twice."""

from __future__ import annotations

import pytest

from mgem_agent.workflows.recipe_syntax import parse_recipe


def test_words_stay_words() -> None:
    found = parse_recipe("language: no\ntitle: 2026-11-22\na: true\nb: 3\nc: off", is_json=False)
    assert found == {"language": "no", "title": "2026-11-22", "a": True, "b": 3, "c": "off"}


@pytest.mark.parametrize(
    ("text", "is_json", "wrong"),
    [
        ("a: 1\nb: 2\na: 3", False, "the key 'a' is a duplicate.*line 3, column 1"),
        ("a: &x [1]\nb: *x", False, "are not allowed in a recipe.*line 2, column 4"),
        ("a: [1", False, "line 1"),
        ("a: !!python/object:os.system x", False, "could not determine a constructor"),
        ("[" * 30 + "]" * 30, False, "nested too deeply.*column 21"),
        ("[" * 5_000, True, "nested too deeply"),
        ('{"a": 1, "a": 2}', True, "the key 'a' is a duplicate"),
        ('{"a": ', True, "line 1 column"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(text: str, is_json: bool, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong) as error:
        parse_recipe(text, is_json=is_json)
    assert "\n" not in str(error.value)
