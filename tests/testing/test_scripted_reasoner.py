"""A script is said line by line, and ends in an error."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage

from mgem_agent.errors import MgemError
from mgem_agent.testing import ScriptedReasoner


def test_lines_are_said_in_order_and_then_there_are_none() -> None:
    model = ScriptedReasoner(script=["one", ValueError("two"), lambda request: f"prefill: {request.prefill!r}"])
    assert model.invoke("x").text == "one"
    with pytest.raises(ValueError, match="^two$"):
        model.invoke("x")
    assert model.invoke("x").text == "prefill: ''"
    with pytest.raises(
        MgemError, match=r"^The script has only 3 line\(s\), but one more was requested\. Add a line, or"
    ):
        model.invoke("x")
    assert len(model.requests) == 3


def test_a_message_is_said_with_its_calls() -> None:
    call = {"name": "generate_image", "args": {"prompt": "a fox"}, "id": "1", "type": "tool_call"}
    answer = ScriptedReasoner(script=[AIMessage("Here:", tool_calls=[call])]).invoke("x")
    assert (answer.text, answer.tool_calls[0]["args"]["prompt"]) == ("Here:", "a fox")


def test_an_endless_script_begins_again_and_counts_words() -> None:
    model = ScriptedReasoner(script=["one", "two"], is_endless=True)
    answers = [model.invoke("x y") for _ in range(3)]
    assert [answer.text for answer in answers] == ["one", "two", "one"]
    assert answers[0].usage_metadata == {
        "input_tokens": 2,
        "output_tokens": 1,
        "total_tokens": 3,
        "input_token_details": {"cache_read": 0, "image": 0},
    }
