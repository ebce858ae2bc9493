"""Dialogues about one scene: a caption, one question, or several questions in turn."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mgem_agent.recipes.data.nouns import with_capital
from mgem_agent.recipes.data.scene_captions import caption
from mgem_agent.recipes.data.scene_parts import Scene
from mgem_agent.recipes.data.scene_questions import Question, questions_about

__all__ = ["DialogueTurn", "dialogue_about"]

_CAPTION_SHARE = 0.2
_MAX_QUESTIONS = 6
_RARE = ("read_large", "read_medium", "read_small", "chart", "count", "where")
_RARE_WEIGHT = 0.3

_ASK_SHORT = ("Describe the picture.", "What is shown here?", "Describe this in one sentence.", "Caption this picture.")
_ASK_MORE = ("Describe the picture for an image generator.", "Write a detailed caption.", "Describe it with its style.")


@dataclass(frozen=True)
class DialogueTurn:
    """A question and its answer.

    Args:
        kind: Kind of the question, or "caption".
        question: What the user says.
        answer: What the assistant says.
        accepted: What a right answer names: one of these; empty for captions.
    """

    kind: str
    question: str
    answer: str
    accepted: tuple[str, ...] = ()


def dialogue_about(scene: Scene, rng: random.Random) -> tuple[DialogueTurn, ...]:
    """Return a dialogue of one to seven turns; no question comes twice.

    Args:
        scene: The scene.
        rng: What is chosen with.
    """
    questions = _unrepeated(questions_about(scene, rng))
    # What few scenes can be asked goes first, more often than not, or it would be rare.
    questions.sort(key=lambda question: rng.random() * (_RARE_WEIGHT if question.kind in _RARE else 1.0))
    turns = [_turn(question) for question in questions[: rng.randint(1, _MAX_QUESTIONS)]]
    if rng.random() < _CAPTION_SHARE:
        turns.insert(0, _caption_turn(scene, rng))
    return tuple(turns)


def _unrepeated(questions: list[Question]) -> list[Question]:
    return list({question.text: question for question in questions}.values())


def _turn(question: Question) -> DialogueTurn:
    return DialogueTurn(question.kind, question.text, question.answer, question.accepted)


def _caption_turn(scene: Scene, rng: random.Random) -> DialogueTurn:
    if rng.random() < 0.7:
        words = caption(scene, rng, "plain")
        return DialogueTurn("caption", rng.choice(_ASK_SHORT), f"{with_capital(words)}.")
    return DialogueTurn("caption", rng.choice(_ASK_MORE), caption(scene, rng, "rich"))
