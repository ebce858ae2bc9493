"""The tokens of a turn: image tokens are left out if the reasoner does not report them."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage

from mgem_agent.server.usage import Usage, usage_of


def answer(num_in: int, num_out: int, **details: int) -> AIMessage:
    usage: Any = {"input_tokens": num_in, "output_tokens": num_out, "total_tokens": num_in + num_out}
    return AIMessage(content="x", usage_metadata={**usage, "input_token_details": details})


def test_the_sum_over_all_answers() -> None:
    said = [HumanMessage(content="x"), answer(80, 3, image=64, cache_read=2), answer(90, 1, image=64), AIMessage("y")]
    assert usage_of(said) == Usage(170, 4, 128, 2)


def test_image_tokens_that_are_not_reported() -> None:
    assert usage_of([answer(80, 3, cache_read=1)]) == Usage(80, 3, None, 1)
    assert usage_of([]) == Usage(0, 0, None, 0)
    assert usage_of([answer(80, 3, image=0)]).image_tokens == 0
