"""Dialogues about one scene: a caption, a list of what it shows, one question, or several questions in turn.

A list of all things or words trains more of a picture's tokens, which dominate the cost of a step, than one question
does. A thing that a question has named is not asked for later.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mgem_agent.recipes.nano.world.nouns import joined_with_and, with_article, with_capital
from mgem_agent.recipes.nano.world.scene_captions import caption
from mgem_agent.recipes.nano.world.scene_parts import Scene
from mgem_agent.recipes.nano.world.scene_questions import MAX_SIGNS, Question, questions_about

__all__ = ["DialogueTurn", "dialogue_about"]

_CAPTION_SHARE = 0.2
_LIST_SHARE = 0.8
_MAX_QUESTIONS = 8
_NUM_THOROUGH = (5, 10)
_THOROUGH_LIST_SHARE = 0.25
_RARE = ("read_large", "read_medium", "read_small", "chart", "count", "where")
_RARE_WEIGHT = 0.3

_ASK_SHORT = ("Describe the picture.", "What is shown here?", "Describe this in one sentence.", "Caption this picture.")
_ASK_MORE = ("Describe the picture for an image generator.", "Write a detailed caption.", "Describe it with its style.")
_ASK_LIST = ("List the things in the picture.", "Name everything in the picture.", "Which things do you see?")
_ASK_READ = ("Read the words.", "Read everything that is printed there.", "What do the words say?")


@dataclass(frozen=True)
class DialogueTurn:
    """A question and its answer.

    Args:
        kind: Kind of the question, or "caption" or "list".
        question: Text of the user.
        answer: Text of the assistant.
        accepted: A right answer names one of these; empty for captions and lists.
    """

    kind: str
    question: str
    answer: str
    accepted: tuple[str, ...] = ()


def dialogue_about(scene: Scene, rng: random.Random, *, thorough: bool = False) -> tuple[DialogueTurn, ...]:
    """Return a dialogue of one to nine turns, or up to eleven if it is thorough; no question is repeated.

    Args:
        scene: The scene.
        rng: Random generator.
        thorough: Whether to ask many questions, about all that the scene shows, and to list or describe little.
    """
    questions = _unrepeated(questions_about(scene, rng, thorough=thorough))
    # Questions that few scenes allow usually come first; otherwise they would be rare.
    questions.sort(key=lambda question: rng.random() * (_RARE_WEIGHT if question.kind in _RARE else 1.0))
    chosen = questions[: rng.randint(*_NUM_THOROUGH if thorough else (1, _MAX_QUESTIONS))]
    turns = [_turn(question) for question in sorted(chosen, key=lambda question: question.kind != "what")]
    listed = _list_turn(scene, rng)
    if scene.surface is not None:
        return tuple(turns)
    if listed is not None and rng.random() < (_THOROUGH_LIST_SHARE if thorough else _LIST_SHARE):
        turns.insert(0, listed)
    elif not thorough and rng.random() < _CAPTION_SHARE:
        turns.insert(0, _caption_turn(scene, rng))
    return tuple(turns)


def _list_turn(scene: Scene, rng: random.Random) -> DialogueTurn | None:
    """Return a list of all words or things from top to bottom, or None if there are too few."""
    if len(scene.texts) > MAX_SIGNS:
        words = ", ".join(text.text for text in sorted(scene.texts, key=lambda text: (_row(text.y), text.x)))
        return DialogueTurn("list", rng.choice(_ASK_READ), f"{with_capital(words)}.")
    concepts = {thing.concept for thing in scene.objects}
    if len(concepts) < 2 or len(concepts) < len(scene.objects):
        return None
    things = sorted(scene.objects, key=lambda thing: (_row(thing.y), thing.x))
    return DialogueTurn(
        "list",
        rng.choice(_ASK_LIST),
        f"{with_capital(joined_with_and([with_article(thing.concept) for thing in things]))}.",
    )


def _row(y: float) -> int:
    return int(8 * y)


def _unrepeated(questions: list[Question]) -> list[Question]:
    return list({question.text: question for question in questions}.values())


def _turn(question: Question) -> DialogueTurn:
    return DialogueTurn(question.kind, question.text, question.answer, question.accepted)


def _caption_turn(scene: Scene, rng: random.Random) -> DialogueTurn:
    if rng.random() < 0.7:
        words = caption(scene, rng, "plain")
        return DialogueTurn("caption", rng.choice(_ASK_SHORT), f"{with_capital(words)}.")
    return DialogueTurn("caption", rng.choice(_ASK_MORE), caption(scene, rng, "rich"))
