from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from PIL import Image

from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.nano.eval.scene_judge import SceneJudge, probability_of_count
from mgem_agent.recipes.nano.eval.thing_boxes import Box, ThingFinder

SIZE = 100
BOXES: dict[str, Box] = {"red": (0.0, 0.5, 0.3, 0.9), "white": (0.6, 0.1, 0.9, 0.4)}


class Engine:
    """Says what a picture shows by the colour in its middle: foxes are red, owls are white."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def choice_probabilities(self, request: TextRequest, choices: Sequence[str]) -> list[float]:
        image, text = request.dialogue[-1]["content"]
        picture = load_image(image["image"])
        pixel = picture.getpixel((picture.width // 2, picture.height // 2))
        shown = {(255, 0, 0): "red", (255, 255, 255): "white"}.get(pixel, "ground")
        self.asked.append((shown, text["text"]))
        wanted = "red" if "fox" in text["text"] else "white"
        yes = 0.875 if shown == wanted else 0.125
        return [yes, 1 - yes]

    def stream(self, request: TextRequest) -> Any:
        raise AssertionError("only probabilities are asked for")


class Finder(ThingFinder):
    """Finds the boxes that were drawn."""

    def find(self, picture: Image.Image) -> list[Box]:
        def colour(box: Box) -> Any:
            return picture.getpixel((round(SIZE * (box[0] + box[2]) / 2), round(SIZE * (box[1] + box[3]) / 2)))

        return [box for box in BOXES.values() if colour(box) != (0, 0, 0)]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    image = Image.new("RGB", (SIZE, SIZE))
    for colour, box in BOXES.items():
        image.paste(colour, tuple(round(SIZE * edge) for edge in box))
    image.save(tmp_path / "a.png")
    return tmp_path / "a.png"


def prompt(*questions: tuple[str, str]) -> EvalPrompt:
    return EvalPrompt(prompt="a fox and an owl", atom_count=2, vqa_list=questions, skills=("object",) * len(questions))


def judge() -> tuple[SceneJudge, Engine]:
    engine = Engine()
    return SceneJudge(ChatMiniGemini(model="any", engine_factory=lambda name: engine), Finder()), engine


def test_things_are_counted_by_naming_each(picture: Path) -> None:
    scorer, engine = judge()
    found = scorer.score(
        picture,
        prompt(
            ("How many foxes are in the image?", "one"),
            ("How many foxes are in the image?", "two"),
            ("How many foxes are in the image?", "three"),
            ("Are there any foxes in the image?", "Yes"),
            ("Are there any owls in the image?", "No"),
        ),
    )
    one, both = 0.875**2 + 0.125**2, 0.875 * 0.125
    assert found == pytest.approx([one, both, 0.0, 1 - both, both])
    assert [shown for shown, _ in engine.asked] == ["red", "white"] * 2  # each thing once for each noun


@pytest.mark.parametrize(
    ("relation", "is_right"), [("to the left of", True), ("to the right of", False), ("below", True), ("above", False)]
)
def test_relations_follow_from_boxes(picture: Path, relation: str, is_right: bool) -> None:
    scorer, _ = judge()
    asked = prompt(
        ("How many foxes are in the image?", "one"),
        ("How many owls are in the image?", "one"),
        (f"Is the fox {relation} the owl?", "Yes"),
    )
    assert scorer.score(picture, asked)[2] == pytest.approx(0.875**2 if is_right else 0.0)


def test_other_questions_are_asked_about_the_whole_picture(picture: Path) -> None:
    scorer, engine = judge()
    assert scorer.score(picture, prompt(("Is the fox orange?", "Yes"))) == [0.125]
    assert engine.asked == [("ground", "Is the fox orange?")]


def test_without_things_nothing_is_asked(tmp_path: Path) -> None:
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "a.png")
    scorer, engine = judge()
    questions = prompt(("How many foxes are in the image?", "one"), ("Is the fox above the owl?", "Yes"))
    assert scorer.score(tmp_path / "a.png", questions) == [0.0, 0.0]
    assert engine.asked == []


def test_a_model_without_probabilities_is_refused() -> None:
    with pytest.raises(InputError, match="needs a model with probabilities, got a FakeListChatModel"):
        SceneJudge(FakeListChatModel(responses=[]))


@pytest.mark.parametrize("number", range(4))
def test_the_probability_of_a_count_is_that_of_its_outcomes(number: int) -> None:
    import itertools
    import math

    yes = (0.9, 0.5, 0.2)
    outcomes = [bits for bits in itertools.product((0, 1), repeat=3) if sum(bits) == number]
    summed = sum(math.prod(p if bit else 1 - p for p, bit in zip(yes, bits, strict=True)) for bits in outcomes)
    assert probability_of_count(yes, number) == pytest.approx(summed)
    assert probability_of_count(yes, 7) == 0
