"""A judge of pictures in nano's style that can count: things are found first, and then named one by one.

A small model names one thing well and counts badly. So `ThingFinder` finds the things, and the model answers for the
cut-out of each whether it is what the question names. The probability of a count is that of exactly so many yes.
Relations follow from the boxes. Other questions are asked about the whole picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from langchain_core.messages import HumanMessage
from PIL import Image

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.nano.eval.thing_boxes import Box, ThingFinder
from mgem_agent.recipes.nano.world.nouns import number_word
from mgem_agent.scoring.picture_judge import picture_block

__all__ = ["SceneJudge", "probability_of_count"]

_COUNT = re.compile(r"How many (?P<noun>.+) are in the (?:image|picture)\?")
_ANY = re.compile(r"Are there any (?P<noun>.+) in the (?:image|picture)\?")
_POSITION = re.compile(
    r"(?:Is|Are) the (?P<first>.+) (?P<relation>to the left of|to the right of|above|below) the (?P<second>.+)\?"
)
_NUMBERS = {number_word(number): number for number in range(11)}
_MARGIN = 0.15

Answers = Callable[[str], list[float]]
"""From a noun to the probability that each thing is one."""


class SceneJudge:
    """Scores pictures in nano's style by GenEval 2's questions.

    Args:
        model: The model that names things: nano, or another Mini-Gemini of nano's world.
        finder: Finds the things.

    Raises:
        InputError: If the model gives no probabilities.
    """

    kind: Literal["soft", "hard", "vqascore"] = "soft"

    def __init__(self, model: object, finder: ThingFinder | None = None) -> None:
        if not isinstance(model, GenProtocolModel):
            raise InputError(
                f"The judge scene:MODEL needs a model with probabilities, got a {type(model).__name__}. Give 'nano' "
                "or the folder of a Mini-Gemini."
            )
        self._model: GenProtocolModel = model
        self._finder = finder or ThingFinder()

    def score(self, picture: Path, prompt: EvalPrompt) -> list[float]:
        """Return the probability of the right answer to each question.

        Args:
            picture: File of the picture.
            prompt: The prompt with its questions.

        Raises:
            MgemError: If the model fails.
        """
        image = load_image(picture)
        boxes = self._finder.find(image)
        cuts = [_cut(image, box) for box in boxes]
        known: dict[str, list[float]] = {}

        def named(noun: str) -> list[float]:
            if noun not in known:
                known[noun] = [self._yes(cut, f"Are there any {noun} in the picture?") for cut in cuts]
            return known[noun]

        return [self._answered(image, boxes, named, prompt, *each) for each in prompt.vqa_list]

    def _answered(
        self, image: Image.Image, boxes: Sequence[Box], named: Answers, prompt: EvalPrompt, question: str, right: str
    ) -> float:
        if (found := _COUNT.fullmatch(question)) and right in _NUMBERS:
            return probability_of_count(named(found["noun"]), _NUMBERS[right])
        if found := _ANY.fullmatch(question):
            any_yes = 1 - probability_of_count(named(found["noun"]), 0)
            return any_yes if right == "Yes" else 1 - any_yes
        if found := _POSITION.fullmatch(question):
            nouns = [_as_counted(found[name], prompt) for name in ("first", "second")]
            placed = _placed(boxes, found["relation"], *map(named, nouns))
            return placed if right == "Yes" else 1 - placed
        yes = self._yes(image, question)
        return yes if right == "Yes" else 1 - yes

    def _yes(self, picture: Image.Image, question: str) -> float:
        found = self._model.probability_of_yes(
            [HumanMessage([picture_block(picture), {"type": "text", "text": question}])]
        )
        return 0.0 if found is None else found


def probability_of_count(yes: Sequence[float], number: int) -> float:
    """Return the probability that exactly some of independent events happen.

    Args:
        yes: Probability of each event.
        number: Number of events that happen.

    Examples:
        >>> probability_of_count([0.5, 0.5], 1), probability_of_count([1.0, 0.25], 2), probability_of_count([], 0)
        (0.5, 0.25, 1.0)
    """
    chances = np.ones(1)
    for each in yes:
        chances = np.convolve(chances, [1 - each, each])
    return float(chances[number]) if number < len(chances) else 0.0


def _placed(boxes: Sequence[Box], relation: str, first: Sequence[float], second: Sequence[float]) -> float:
    """Return the probability that the likeliest two things are placed as a relation says."""
    pairs = [(first[i] * second[j], i, j) for i in range(len(boxes)) for j in range(len(boxes)) if i != j]
    if not pairs:
        return 0.0
    likely, i, j = max(pairs)
    across, down = ((boxes[i][axis] + boxes[i][axis + 2] - boxes[j][axis] - boxes[j][axis + 2]) / 2 for axis in (0, 1))
    is_placed = {
        "to the left of": across < 0,
        "to the right of": across > 0,
        "above": down < 0,
        "below": down > 0,
    }[relation]
    return likely if is_placed else 0.0


def _as_counted(noun: str, prompt: EvalPrompt) -> str:
    """Return the plural of a noun as the prompt's own question about its number has it."""
    plurals = [found["noun"] for question, _ in prompt.vqa_list if (found := _COUNT.fullmatch(question))]
    return next((each for each in plurals if each[:3] == noun[:3] and abs(len(each) - len(noun)) < 4), noun)


def _cut(image: Image.Image, box: Box) -> Image.Image:
    """Return a square around a box, with a margin."""
    left, right = box[0] * image.width, box[2] * image.width
    top, bottom = box[1] * image.height, box[3] * image.height
    half = (0.5 + _MARGIN) * max(right - left, bottom - top)
    middle = ((left + right) / 2, (top + bottom) / 2)
    edges = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
    inside = (max(0, edges[0]), max(0, edges[1]), min(image.width, edges[2]), min(image.height, edges[3]))
    return image.crop(tuple(map(round, inside)))  # type: ignore[arg-type]
