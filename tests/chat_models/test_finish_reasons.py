"""Why an answer ended, in every provider's words."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage

from mgem_agent.chat_models.finish_reasons import finish_notice, read_finish_reason, refusal_text
from mgem_agent.testing import ScriptedReasoner


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"finish_reason": "stop"}, "stop"),
        ({"finish_reason": "tool_calls"}, "stop"),
        ({"finish_reason": "length"}, "length"),
        ({"finish_reason": "content_filter"}, "content_filter"),
        ({"finish_reason": "MAX_TOKENS"}, "length"),
        ({"finish_reason": "FinishReason.SAFETY"}, "content_filter"),
        ({"stop_reason": "refusal"}, "refusal"),
        ({"stop_reason": "end_turn"}, "stop"),
        ({"stopReason": "guardrail_intervened"}, "content_filter"),
        ({"done_reason": "length"}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"finish_reason": "sunspots"}, "other"),
        ({"status": "completed"}, None),
        ({}, None),
    ],
)
def test_each_provider_says_it_in_its_own_words(metadata: dict[str, Any], expected: str | None) -> None:
    assert read_finish_reason(AIMessage("Hello.", response_metadata=metadata)) == expected


def test_a_refusal_is_kept_apart_from_the_answer() -> None:
    said = AIMessage("", additional_kwargs={"refusal": "I cannot."}, response_metadata={"finish_reason": "stop"})
    assert (read_finish_reason(said), refusal_text(said)) == ("refusal", "I cannot.")
    blocks = AIMessage([{"type": "refusal", "refusal": "No."}])
    assert (read_finish_reason(blocks), refusal_text(blocks)) == ("refusal", "No.")


def test_notices() -> None:
    assert finish_notice("stop") is None
    assert finish_notice("length") == "The answer reached its token limit and was cut off."
    assert finish_notice("refusal", refusal="I cannot.") == "The model refused to answer: I cannot."
    assert finish_notice("stop", is_empty=True) == "The answer is empty. Ask again, or rephrase the question."
    assert finish_notice("cancelled", is_empty=True) is None
    assert finish_notice("content_filter", is_empty=True) == (
        "The provider withheld the answer: its content filter was triggered. The answer is empty."
    )


def test_a_chat_model_of_ours_says_it_in_its_metadata() -> None:
    metadata = ScriptedReasoner(script=[""]).invoke("Hello.").response_metadata
    assert metadata["finish_reason"] == "stop"
    assert [note["reason"] for note in metadata["notices"]] == ["empty"]
