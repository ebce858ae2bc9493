"""Which of the bound tools a person's words name."""

from __future__ import annotations

import pytest

from mgem_agent.nano.tool_intent import named_tool

NAMES = ("get_weather", "addNumbers", "search", "list_open_tickets", "generate_report")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("What is the weather in Oslo?", "get_weather"),
        ("Weather!", "get_weather"),
        ("Which number is it?", "addNumbers"),
        ("Search for red foxes.", "search"),
        ("Show me every ticket.", "list_open_tickets"),
        ("Write a report of the weather report.", "get_weather"),  # the first of those that are named alike
        ("Who are you?", None),
        ("Get it and open the list.", None),
        ("", None),
    ],
)
def test_the_tool_that_is_named(text: str, name: str | None) -> None:
    assert named_tool(text, [{"function": {"name": each}} for each in NAMES]) == name
