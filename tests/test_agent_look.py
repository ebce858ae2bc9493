"""The agent asks of its stored pictures what everyone asks, and counts the score from 0 to 10."""

from __future__ import annotations

import pytest

from mgem_agent.agent_look import look_message, read_verdict
from mgem_agent.image_verdict import look_question, parse_verdict


def test_the_question_names_the_stored_picture() -> None:
    block = {"type": "image", "file_id": "img-12345678"}
    assert look_message("img-12345678", "a fox") == look_question(block, "a fox")


@pytest.mark.parametrize("score", [0, 1, 2, 3, 6, 7, 9.5, 10, None])
def test_the_score_is_the_one_that_was_said(score: float | None) -> None:
    said = "null" if score is None else score
    answer = f'{{"follows": true, "score": {said}, "problem": "no hat"}}'
    assert read_verdict(answer).score == score
    assert read_verdict(answer).problem == parse_verdict(answer).problem == "no hat"
