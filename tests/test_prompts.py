"""Prompts are files, and a variable that is missing is an error."""

from __future__ import annotations

import jinja2
import pytest

from mgem_agent.prompts import render_prompt


def test_a_variable_that_is_missing_is_an_error() -> None:
    assert render_prompt("recaption", instruction="a <fox>").startswith("a <fox>\n")
    with pytest.raises(jinja2.UndefinedError):
        render_prompt("recaption")


@pytest.mark.parametrize(("language", "said"), [("en", False), ("de", True)])
def test_a_story_in_another_language_says_so(language: str, said: bool) -> None:
    text = render_prompt("title", kind="how_to", audience="", about="Tea.", language=language)
    assert ('the language whose tag is "de"' in text) is said
    assert text.startswith("Write the title of a guide. It is about this:\n\nTea.")
