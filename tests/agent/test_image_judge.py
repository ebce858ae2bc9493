"""A picture is judged by any chat model that sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from PIL import Image

from mgem_agent.agent.image_judge import look_at_image
from mgem_agent.chat_models.text_engine import TextEnd, TextRequest
from mgem_agent.errors import ImageError, InputError, ReasonerPicturesError, ToolError
from mgem_agent.testing import ScriptedReasoner

CARD = Image.new("RGB", (8, 6), "red")


def test_the_reasoner_is_shown_the_picture_its_caption_and_the_questions() -> None:
    answer = '```json\n{"answers": ["yes", "no"], "problem": "no {hat}", "caption": "a fox, a tall hat"}\n```'
    reasoner = ScriptedReasoner(script=[answer])
    verdict = look_at_image(reasoner, CARD, " a fox and a hat ")
    assert (verdict.follows, verdict.score, verdict.problem) == (False, 0.5, "no {hat}")
    assert (verdict.caption, verdict.answer) == ("a fox, a tall hat", answer)
    assert verdict.answers == (("Is there a fox in the picture?", 1.0), ("Is there a hat in the picture?", 0.0))
    [request] = reasoner.requests
    picture, question = request.dialogue[0]["content"]
    assert isinstance(picture, dict) and isinstance(question, dict)
    assert picture["type"] == "image" and "Caption: a fox and a hat\n" in question["text"]
    assert "1. Is there a fox in the picture?\n2. Is there a hat in the picture?\n" in question["text"]


def test_a_caption_in_the_answer_is_not_drawn() -> None:
    reasoner = ScriptedReasoner(script=['<h>a fox</h> {"answers": ["yes"]}'], draw="always")
    verdict = look_at_image(reasoner, CARD, "a fox")
    assert (verdict.follows, verdict.score) == (True, 1.0)
    assert len(reasoner.requests) == 1


class Sure(ScriptedReasoner):
    """Gives probabilities, as the core model does."""

    def text_engine(self, model_name: str) -> Any:
        return Choosing()


class Choosing:
    def stream(self, request: TextRequest) -> Iterator[str | TextEnd]:
        raise AssertionError("nothing is to be written")

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        question = request.dialogue[-1]["content"][-1]["text"]
        assert tuple(choices) == ("yes", "no")
        if "red" in question:
            return [0.2, 0.2]
        return [0.6, 0.2] if "card" in question else [0.1, 0.3]


def test_a_reasoner_of_our_own_is_asked_for_probabilities() -> None:
    right = look_at_image(Sure(script=[]), CARD, " a red card. ")
    assert (right.follows, right.score, right.problem) == (True, pytest.approx(0.625), "")
    wrong = look_at_image(Sure(script=[]), CARD, "a fox")
    assert (wrong.follows, wrong.score, wrong.problem) == (False, pytest.approx(0.25), "not seen: fox")


def test_any_chat_model_is_asked_as_it_is() -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage(content='{"answers": ["yes"]}')]))
    assert look_at_image(model, CARD, "a card").score == 1.0


def test_an_answer_without_a_verdict_is_passed_on() -> None:
    verdict = look_at_image(ScriptedReasoner(script=["It is nice."]), CARD, "a card")
    assert (verdict.follows, verdict.score, verdict.answer) == (None, None, "It is nice.")


def test_a_reasoner_that_does_not_see_is_refused() -> None:
    blind = ScriptedReasoner(script=[], profile={"image_inputs": False})
    expected = (
        r"^Judging pictures needs a reasoner that takes pictures, and 'ScriptedReasoner' takes none\. "
        r"Give another reasoner, such as ChatMiniGemini\.$"
    )
    with pytest.raises(InputError, match=expected):
        look_at_image(blind, CARD, "a card")


def test_a_reasoner_that_fails_is_named() -> None:
    reasoner = ScriptedReasoner(script=[ValueError("400: no image support")])
    with pytest.raises(ToolError, match=r"'ScriptedReasoner' failed .* \(ValueError: 400: no image support\)\. Give"):
        look_at_image(reasoner, CARD, "a card")


def test_a_reasoner_that_refuses_pictures_is_asked_once() -> None:
    refusal = ReasonerPicturesError("It takes no pictures.")
    reasoner = ScriptedReasoner(script=[refusal])
    with pytest.raises(ReasonerPicturesError):
        look_at_image(reasoner, CARD, "a card")
    with pytest.raises(InputError, match=r"^Judging pictures needs a reasoner that takes pictures"):
        look_at_image(reasoner, CARD, "a card")


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match=r"^The caption is empty\. Say what the picture should show\.$"):
        look_at_image(ScriptedReasoner(script=[]), CARD, " ")
    with pytest.raises(ImageError, match=r"There is no file 'none\.png'"):
        look_at_image(ScriptedReasoner(script=[]), "none.png", "a card")
