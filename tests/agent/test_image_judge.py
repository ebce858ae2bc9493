"""A picture is judged by any chat model that sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from PIL import Image

from mgem_agent.agent.image_judge import Verdict, look_at_image, parse_verdict
from mgem_agent.chat_models.text_engine import TextEnd, TextRequest
from mgem_agent.errors import ImageError, InputError, ReasonerPicturesError, ToolError
from mgem_agent.testing import ScriptedReasoner

CARD = Image.new("RGB", (8, 6), "red")


def test_the_reasoner_is_shown_the_picture_and_its_caption() -> None:
    answer = '{"follows": false, "score": 3, "problem": "no {hat}", "caption": "a fox in a tall hat"}'
    reasoner = ScriptedReasoner(script=[f"```json\n{answer}\n```"])
    verdict = look_at_image(reasoner, CARD, " a fox in a {hat} ")
    assert verdict == Verdict(False, 0.3, "no {hat}", "a fox in a tall hat", f"```json\n{answer}\n```")
    [request] = reasoner.requests
    [message] = request.dialogue
    picture, question = message["content"]
    assert isinstance(picture, dict) and isinstance(question, dict)
    assert picture["type"] == "image" and "Caption: a fox in a {hat}\n" in question["text"]


def test_a_caption_in_the_answer_is_not_drawn() -> None:
    reasoner = ScriptedReasoner(script=['<h>a fox</h> {"follows": true, "score": 9}'], draw="always")
    verdict = look_at_image(reasoner, CARD, "a fox")
    assert (verdict.follows, verdict.score) == (True, 0.9)
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
        assert question.endswith(" in the picture?") and tuple(choices) == ("yes", "no")
        return [0.6, 0.2] if "a red card" in question else [0.1, 0.3]


def test_a_reasoner_of_our_own_is_asked_for_probabilities() -> None:
    right = look_at_image(Sure(script=[]), CARD, " a red card. ")
    assert (right.follows, right.score, right.problem) == (True, pytest.approx(0.75), "")
    wrong = look_at_image(Sure(script=[]), CARD, "a fox")
    assert (wrong.follows, wrong.score) == (False, pytest.approx(0.25))
    assert wrong.problem == "asked whether the picture shows it, the reasoner says yes with a probability of 0.25"


def test_any_chat_model_is_asked_as_it_is() -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage(content='{"follows": true, "score": 10}')]))
    assert look_at_image(model, CARD, "a card").score == 1.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It is nice.", (None, None, "")),
        ("{broken", (None, None, "")),
        ('{"follows": "perhaps", "score": 9}', (None, None, "")),
        ('{"follows": "yes", "score": "9"}', (True, 0.9, "")),
        ('{"follows": "true", "score": 9, "problem": "none",}', (True, 0.9, "")),
        ("{'follows': False, 'problem': 'no hat'", (False, None, "no hat")),
        ('<think>{"follows": true}? No hat.</think>{"follows": false}', (False, None, "")),
        ('I looked for {the hat}.</think> {"follows": false}', (False, None, "")),
        ('I looked for {the hat}. {"follows": false}', (False, None, "")),
        ('{"follows": true}', (True, None, "")),
        ('{"follows": true, "score": true, "problem": 3}', (True, None, "")),
        ('{"follows": true, "score": 99, "problem": "Nothing."}', (True, 1.0, "")),
        ('So: {"follows": false, "score": -1, "problem": " no hat "} I think.', (False, 0.0, "no hat")),
    ],
)
def test_what_cannot_be_read_is_no_verdict(answer: str, expected: tuple[Any, ...]) -> None:
    verdict = parse_verdict(answer)
    assert (verdict.follows, verdict.score, verdict.problem) == expected
    assert verdict.answer == answer


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
