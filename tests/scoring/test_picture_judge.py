"""A judge asks the questions of a caption, and its answers become a score."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.scoring import CaptionAtom, PictureJudge, PictureScore
from mgem_agent.scoring.picture_judge import read_answers, read_questions
from mgem_agent.testing import ScriptedReasoner

CARD = Image.new("RGB", (8, 6), "red")
FOX, HAT = CaptionAtom("Is there a fox?", "thing", "fox"), CaptionAtom("Is there a hat?", "thing", "hat")


class Probable:
    """A model that gives probabilities and cannot write."""

    can_write = False

    def __init__(self, **yes: float) -> None:
        self.yes = yes
        self.asked: list[str] = []

    def ask(self, message: HumanMessage) -> str:
        raise AssertionError("it is not asked to write")

    def probability_of_yes(self, message: HumanMessage) -> float:
        question: Any = message.content[-1]
        self.asked.append(question["text"])
        return next(value for word, value in self.yes.items() if word in question["text"])


def test_the_score_is_the_mean_probability_of_yes() -> None:
    score = PictureJudge(Probable(fox=0.9, hat=0.2)).score(CARD, "a fox and a hat")
    assert score.score == pytest.approx(0.55)
    assert [answer.words for answer in score.failed] == ["hat"]


def test_a_thing_that_is_not_there_is_asked_about_once() -> None:
    model = Probable(hat=0.1, fox=0.9)
    score = PictureJudge(model).score(CARD, "a fox in two red hats")
    assert model.asked == ["Is there a fox in the picture?", "Are there hats in the picture?"]
    assert [answer.yes for answer in score.answers] == [0.9, 0.1, 0.1, 0.1, 0.1]


def test_a_caption_that_the_rules_do_not_read_is_broken_up_by_the_model() -> None:
    questions = '{"questions": [{"kind": "thing", "question": "Is there a fox?"}, {"kind": "leap", "question": "Up?"}]}'
    reasoner = ScriptedReasoner(script=[questions, '{"answers": ["yes", "no"]}'])
    score = PictureJudge(reasoner).score(CARD, "a fox jumps over a dog")
    assert [(answer.kind, answer.yes) for answer in score.answers] == [("thing", 1.0), ("other", 0.0)]


def test_where_the_model_gives_no_questions_the_rules_do() -> None:
    reasoner = ScriptedReasoner(script=["I would rather not.", '{"answers": ["yes", "no"]}'])
    assert PictureJudge(reasoner).score(CARD, "a fox jumps over a dog").score == 0.5
    assert [atom.question for atom in PictureJudge(Probable()).atoms("???")] == ["Is there ??? in the picture?"]


def test_questions_can_be_given() -> None:
    assert PictureJudge(Probable(fox=0.5)).score(CARD, "", [FOX]).score == 0.5
    with pytest.raises(InputError, match=r"^There are no questions to ask about the picture\. Give at least one\.$"):
        PictureJudge(Probable()).score(CARD, "a fox", [])
    with pytest.raises(InputError, match=r"^The caption is empty"):
        PictureJudge(Probable()).score(CARD, " ")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"answers": ["yes", "no"]}', (1.0, 0.0)),
        ('{"answers": [true, "No."]}', (1.0, 0.0)),
        ('{"answers": {"1": "yes", "2": "no"}}', (1.0, 0.0)),
        ('<think>{"answers": ["no", "no"]}?</think>{"answers": ["yes", "perhaps"]}', (1.0, None)),
        ("{'answers': ['yes', 'no'],", (1.0, 0.0)),
        ('{"answers": ["yes"]}', (None, None)),
        ('{"answers": "yes"}', (None, None)),
        ("Lovely!", (None, None)),
        ("", (None, None)),
    ],
)
def test_answers_are_read(answer: str, expected: tuple[float | None, ...]) -> None:
    score = read_answers(answer, (FOX, HAT))
    assert tuple(each.yes for each in score.answers) == expected
    assert score.said == (answer or "(nothing)")


def test_questions_are_read() -> None:
    assert read_questions('{"questions": ["Is there a fox?", 3, {"question": " "}]}') == (
        CaptionAtom("Is there a fox?", "other"),
    )
    assert read_questions("None.") == ()


def test_a_better_caption_states_what_is_missing() -> None:
    score = read_answers('{"answers": ["yes", "no"], "problem": "no hat", "caption": "a hat on a fox"}', (FOX, HAT))
    assert (score.what_is_wrong, score.follows) == ("no hat", False)
    assert PictureJudge(Probable()).better_caption("a fox in a hat", score) == "a hat on a fox"
    plain = score.model_copy(update={"caption": ""})
    assert PictureJudge(Probable()).better_caption("a fox in a hat", plain) == "hat. a fox in a hat"
    reasoner = ScriptedReasoner(script=['"a tall hat on a fox"'])
    assert PictureJudge(reasoner).better_caption("a fox in a hat", plain) == "a tall hat on a fox"
    assert "- Is there a hat?" in str(reasoner.requests[0].dialogue[-1]["content"])
    assert PictureJudge(Probable()).better_caption("a fox", PictureScore()) == "a fox"


def test_a_picture_passes_a_threshold() -> None:
    score = read_answers('{"answers": ["yes", "no"]}', (FOX, HAT))
    assert score.passes(0.5) and not score.passes(0.6) and not score.passes(None)
    assert PictureScore().passes(None)
