"""Questions about held-out scenes, by kind.

Every question is asked alone, about its own picture. The questions are those of the records that `mgem data scenes
--split held_out` writes, in order, up to a number of each kind; those about pictures that show nothing are of its kind
`unclear`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.answer_log import AnswerLog
from mgem_agent.recipes.eval.proportion import Proportion
from mgem_agent.recipes.nano.eval.answer_matching import is_right_answer
from mgem_agent.recipes.nano.world.dataset import SceneDataSettings, scene_record
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import SceneKind, sample_scene
from mgem_agent.recipes.nano.world.scene_questions import QUESTION_KINDS, UNCLEAR
from mgem_agent.recipes.nano.world.scene_rendering import render_scene

__all__ = ["SceneQuestion", "Understanding", "answer_questions", "held_out_questions", "measure_understanding"]

_MAX_SCENES = 200
"""Maximum scenes searched for each question of a kind; the rarest kind is in one scene of twenty."""


class PictureAnswerer(Protocol):
    """The interface of `SeeingModel`."""

    def answer(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        """Return an answer to each question about its picture."""
        ...


@dataclass(frozen=True)
class SceneQuestion:
    """A question about a scene.

    Args:
        id: Record and turn.
        index: Index of the scene.
        kind: One of `QUESTION_KINDS`.
        text: The question.
        accepted: A right answer names one of these.
        series: Kind of the scenes.
    """

    id: str
    index: int
    kind: str
    text: str
    accepted: tuple[str, ...]
    series: SceneKind = "any"


class Understanding(BaseModel):
    """Right answers by kind of question.

    Attributes:
        model: Name of the model.
        without_hr: Whether it got low-resolution pictures only.
        kinds: Proportion of right answers by kind of question.
        doubted: Proportion of questions about scenes to which it said that it cannot tell.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    without_hr: bool = False
    kinds: dict[str, Proportion]
    doubted: Proportion | None = None


def held_out_questions(num: int, seed: int = 0) -> list[SceneQuestion]:
    """Return questions about held-out scenes, the first of each kind, then the second, and so on.

    Args:
        num: Number of each kind.
        seed: Seed of the scenes.

    Raises:
        InputError: If `num` is less than one.
    """
    if num < 1:
        raise InputError(f"{num} questions of each kind cannot be asked. Give 1 or more.")
    found: dict[str, list[SceneQuestion]] = {kind: [] for kind in QUESTION_KINDS}
    for index in range(num * _MAX_SCENES):
        for question in (*_questions_of(index, seed), *_questions_of(index, seed, "unclear")[:1]):
            if len(found[question.kind]) < num:
                found[question.kind].append(question)
        if all(len(questions) == num for questions in found.values()):
            break
    return [questions[place] for place in range(num) for questions in found.values() if place < len(questions)]


def _questions_of(index: int, seed: int, series: SceneKind = "any") -> list[SceneQuestion]:
    record = scene_record(index, SceneDataSettings("held_out", series, seed))
    scene = record["id"] if series == "any" else f"{record['id']}-{series}"
    asked = [turn["value"] for turn in record["conversations"] if turn["from"] == "human"]
    rows = zip(asked, record["answer_kinds"], record["accepted"], strict=True)
    return [
        SceneQuestion(f"{scene}/{turn}", index, kind, text.removeprefix("<image>\n"), tuple(accepted), series)
        for turn, (text, kind, accepted) in enumerate(rows)
        if kind in QUESTION_KINDS
    ]


def measure_understanding(
    model: PictureAnswerer,
    assets: EmojiAssets,
    file: Path,
    settings: Mapping[str, Any],
    *,
    num: int,
    seed: int = 0,
    batch_size: int = 16,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Proportion], Proportion]:
    """Ask the questions, and count right answers by kind, and doubts about scenes that show something.

    Arguments and errors are those of `answer_questions`.
    """
    answers = _answers(model, assets, file, settings, num=num, seed=seed, batch_size=batch_size, report=report)
    kinds: dict[str, Proportion] = {
        kind: Proportion.of(_is_right(question, text) for question, text in answers if question.kind == kind)
        for kind in QUESTION_KINDS
    }
    return kinds, Proportion.of(UNCLEAR in text.lower() for question, text in answers if question.kind != "unclear")


def answer_questions(
    model: PictureAnswerer,
    assets: EmojiAssets,
    file: Path,
    settings: Mapping[str, Any],
    *,
    num: int,
    seed: int = 0,
    batch_size: int = 16,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[tuple[SceneQuestion, bool]]:
    """Ask the questions, and return each with whether it was answered right.

    Args:
        model: The model.
        assets: The emoji set.
        file: Log of the answers; stored ones are reused.
        settings: What the answers depend on besides the seed.
        num: Number of questions of each kind.
        seed: Seed of the scenes.
        batch_size: Questions in a batch.
        report: Called with the number done and the total.

    Raises:
        InputError: If the file has answers of other settings.
    """
    answers = _answers(model, assets, file, settings, num=num, seed=seed, batch_size=batch_size, report=report)
    return [(question, _is_right(question, text)) for question, text in answers]


def _is_right(question: SceneQuestion, text: str) -> bool:
    return is_right_answer(question.kind, text, question.accepted)


def _answers(
    model: PictureAnswerer,
    assets: EmojiAssets,
    file: Path,
    settings: Mapping[str, Any],
    *,
    num: int,
    seed: int,
    batch_size: int,
    report: Callable[[int, int], None],
) -> list[tuple[SceneQuestion, str]]:
    """Return each question with its answer."""
    questions = held_out_questions(num, seed)
    with AnswerLog.open(file, {**settings, "seed": seed}) as log:
        missing = [question for question in questions if question.id not in log.answers]
        report(len(questions) - len(missing), len(questions))
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            pictures = [_picture(question, seed, assets) for question in batch]
            texts = model.answer(pictures, [question.text for question in batch])
            for question, text in zip(batch, texts, strict=True):
                log.add({"id": question.id, "kind": question.kind, "question": question.text, "answer": text,
                         "accepted": question.accepted})  # fmt: skip
            report(len(questions) - len(missing) + start + len(batch), len(questions))
        return [(question, log.answers[question.id]["answer"]) for question in questions]


def _picture(question: SceneQuestion, seed: int, assets: EmojiAssets) -> Image.Image:
    scene = sample_scene(seed, question.index, kind=question.series, split="held_out")
    return render_scene(scene, assets, SceneDataSettings().size_px)
