"""Which of the bound tools a person's words name.

nano's language model was not trained to choose tools: it answers in words. A tool that the words name is called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["named_tool"]

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
GENERIC = frozenset(
    "a add all an and by call change check create current data delete do edit execute fetch find for from function get "
    "give info information invoke item list load look lookup make my new of one open or put query read remove request "
    "retrieve return run save search send set show the to tool update up use user value write".split()
)
"""Words of a tool's name that say nothing about when it is meant."""


def named_tool(text: str, tools: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the name of the tool that a text names with the most words; None if it names none.

    Args:
        text: The user's words.
        tools: The tools, in OpenAI's form.

    Examples:
        >>> named_tool("What is the weather in Oslo?", [{"function": {"name": "get_weather"}}])
        'get_weather'
        >>> named_tool("Who are you?", [{"function": {"name": "get_weather"}}])
    """
    said = _words(text)
    best, most = None, 0
    for tool in tools:
        name = str(tool["function"]["name"])
        words = _words(name)
        found = len(((words - GENERIC) or words) & said)
        if found > most:
            best, most = name, found
    return best


def _words(text: str) -> set[str]:
    """Return the words of a text in small letters, without a plural's `s`."""
    words = {word.lower() for word in WORD.findall(text)}
    return {word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words}
