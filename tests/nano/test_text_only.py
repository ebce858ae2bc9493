"""The language model alone: it is told of pictures, refuses to be asked about one, and draws by examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mgem_agent.chat_models.text_engine import TextEnd, TextRequest
from mgem_agent.errors import InputError
from mgem_agent.nano.text_only import TextOnlyEngine
from mgem_agent.prompts import render_prompt

PICTURE = {"type": "image", "image": object()}


class Engine:
    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[TextRequest] = []

    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        self.asked.append(request)
        yield from self.text
        yield TextEnd(3, len(self.text))


def answer(text: str, *messages: dict[str, Any], prefill: str = "") -> tuple[str, TextRequest]:
    engine = Engine(text)
    pieces = list(TextOnlyEngine(engine).stream(TextRequest(messages, prefill=prefill)))
    assert isinstance(pieces[-1], TextEnd)
    return "".join(piece for piece in pieces if isinstance(piece, str)), engine.asked[0]


def test_asked_about_a_picture_it_says_that_it_cannot_see() -> None:
    message = {"role": "user", "content": [PICTURE, {"type": "text", "text": "What is it?"}]}
    with pytest.raises(InputError, match=r"^nano cannot see in this installation: its vision weights are not here"):
        answer("", message)


def test_it_is_told_of_a_picture_of_its_own() -> None:
    shown = {"role": "user", "content": [PICTURE, {"type": "text", "text": render_prompt("shown")}]}
    text, request = answer("Good.", shown)
    assert text == "Good."
    assert request.dialogue[0]["content"] == f"(a picture)\n{render_prompt('shown')}"


def test_a_picture_that_is_asked_for_is_the_whole_answer() -> None:
    message = {"role": "user", "content": "Draw a fox.", "draw": True}
    text, request = answer(" a red fox </h> and more", message)
    assert text == "<h> a red fox  </h>"
    assert request.prefill == "<h>" and request.dialogue[-1]["content"] == "Picture: Draw a fox."
    assert answer(" a fox, a fo", message)[0] == "<h> a fox </h>", "what was cut off is left out"


def test_a_second_pass_reads_the_question_and_the_first_sentence() -> None:
    message = {"role": "user", "content": "A story of a mouse.", "draw": True}
    text, request = answer(" a mouse </h>", message, prefill="Max ran. He won. <h>")
    assert text == " a mouse  </h>"
    assert request.dialogue[-1]["content"] == "Picture: A story of a mouse. Max ran."
