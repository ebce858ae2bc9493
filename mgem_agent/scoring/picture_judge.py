"""Ask a chat model that sees whether a picture follows its caption, question by question.

- **The questions** are made from the caption by rule, or by the model if the rules cannot read the caption and the
  model can write.
- **The answers** are probabilities of yes where the model gives them, as this package's own models do: one question at
  a time, because small models do not write valid JSON. Other models answer all questions in one request, as JSON.
- **Thinking is removed**, common mistakes in JSON are accepted, and an unreadable answer counts as none.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, get_args

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.lenient_json import find_object, read_bool
from mgem_agent.chat_models.thoughts import text_without_thoughts
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError
from mgem_agent.prompts import render_prompt
from mgem_agent.scoring.caption_atoms import MAX_ATOMS, AtomKind, CaptionAtom, read_atoms
from mgem_agent.scoring.picture_score import AtomAnswer, PictureScore
from mgem_agent.tools.vocabulary import Vocabulary

__all__ = ["JudgeModel", "PictureJudge", "can_write", "picture_block", "read_answers", "read_questions"]

_NOTHING = ("nothing", "none", "null", "n/a")


class JudgeModel(Protocol):
    """The model of a judge."""

    @property
    def can_write(self) -> bool:
        """Whether it writes JSON and captions well enough; nano does not."""
        ...

    def ask(self, message: HumanMessage) -> str:
        """Return the model's answer to a message."""
        ...

    def probability_of_yes(self, message: HumanMessage) -> float | None:
        """Return how likely the model answers yes; None if it gives no probabilities."""
        ...


class _ChatModel:
    """A chat model as the model of a judge."""

    def __init__(self, reasoner: BaseChatModel) -> None:
        self._reasoner = reasoner
        # A model of the `<GEN>` protocol must not draw while it judges.
        self._options: dict[str, Any] = {"draw": "never"} if "draw" in type(reasoner).model_fields else {}

    @property
    def can_write(self) -> bool:
        """Whether it writes JSON and captions well enough."""
        return can_write(self._reasoner)

    def ask(self, message: HumanMessage) -> str:
        """Return the model's answer to a message."""
        return str(self._reasoner.invoke([message], **self._options).text)

    def probability_of_yes(self, message: HumanMessage) -> float | None:
        """Return how likely the model answers yes."""
        return self._reasoner.probability_of_yes([message]) if isinstance(self._reasoner, GenProtocolModel) else None


def can_write(reasoner: BaseChatModel) -> bool:
    """Whether a chat model writes JSON and captions well enough to make questions; a small one needs grammars."""
    return not (isinstance(reasoner, GenProtocolModel) and reasoner.needs_grammar())


class PictureJudge:
    """Scores pictures with one chat model.

    Args:
        model: Any chat model that accepts pictures, or another `JudgeModel`.
        vocabulary: Words that the rules know, such as those of the generator's capabilities.

    Examples:
        >>> from PIL import Image
        >>> from mgem_agent.testing import ScriptedReasoner
        >>> judge = PictureJudge(ScriptedReasoner(script=['{"answers": ["yes", "no"], "problem": "no hat"}']))
        >>> score = judge.score(Image.new("RGB", (64, 64)), "a fox and a hat")
        >>> score.score, score.what_is_wrong
        (0.5, 'no hat')
    """

    def __init__(self, model: BaseChatModel | JudgeModel, *, vocabulary: Vocabulary | None = None) -> None:
        self._model: JudgeModel = _ChatModel(model) if isinstance(model, BaseChatModel) else model
        self._vocabulary = vocabulary

    def atoms(self, caption: str) -> tuple[CaptionAtom, ...]:
        """Return the questions for a caption; at least one.

        Args:
            caption: The caption.

        Raises:
            InputError: If the caption is empty.
            MgemError: If the model is asked for the questions and fails.
        """
        if not caption.strip():
            raise InputError("The caption is empty. Say what the picture should show.")
        reading = read_atoms(caption, self._vocabulary)
        if not reading.is_complete and self._model.can_write:
            written = read_questions(self._model.ask(HumanMessage(render_prompt("questions", caption=caption.strip()))))
            if written:
                return written
        whole = caption.strip().rstrip(".") or caption.strip()
        return reading.atoms or (CaptionAtom(f"Is there {whole} in the picture?", "other", whole),)

    def score(self, image: Any, caption: str, atoms: Sequence[CaptionAtom] | None = None) -> PictureScore:
        """Score a picture.

        Args:
            image: An image block, or anything that `load_image` reads: a path, bytes, a data URL, a PIL image.
            caption: What the picture should show.
            atoms: The questions; by default those of `atoms(caption)`.

        Raises:
            InputError: If the caption is empty and no questions are given.
            ImageError: If it is not a picture.
            MgemError: If the model fails. Errors of a provider's package are passed on.
        """
        block = image if isinstance(image, Mapping) else picture_block(image)
        asked = tuple(self.atoms(caption) if atoms is None else atoms)[:MAX_ATOMS]
        if not asked:
            raise InputError("There are no questions to ask about the picture. Give at least one.")
        answers: dict[str, float | None] = {}
        for atom in asked:
            needed = [yes for question in atom.needs if (yes := answers.get(question)) is not None]
            if needed and min(needed) < 0.5:  # a thing that is not there has no colour
                answers[atom.question] = min(needed)
                continue
            answers[atom.question] = self._model.probability_of_yes(_message(block, atom.question))
            if not any(yes is not None for yes in answers.values()):
                return self._asked_at_once(block, caption, asked)
        return _score(asked, answers)

    def better_caption(self, caption: str, score: PictureScore) -> str:
        """Return a caption that states what a picture lacks first.

        Args:
            caption: The caption that was drawn.
            score: The score of the picture.
        """
        if score.caption:
            return score.caption
        if not score.failed:
            return caption
        if self._model.can_write:
            questions = [answer.question for answer in score.failed]
            prompt = render_prompt("revise_caption", caption=caption, questions=questions)
            said = text_without_thoughts(self._model.ask(HumanMessage(prompt))).strip().strip('"').split("\n")[0]
            if said and said.lower().rstrip(".") not in _NOTHING:
                return said
        return _emphasized(caption, score)

    def _asked_at_once(self, block: Mapping[str, Any], caption: str, atoms: Sequence[CaptionAtom]) -> PictureScore:
        questions = [atom.question for atom in atoms]
        prompt = render_prompt("judge", caption=caption.strip() or "none", questions=questions)
        return read_answers(self._model.ask(_message(block, prompt)), atoms)


def picture_block(image: Any) -> dict[str, Any]:
    """Return an image block with the pixels of a picture.

    Args:
        image: Anything that `load_image` reads.

    Raises:
        ImageError: If it is not a picture.
    """
    encoded = io.BytesIO()
    load_image(image).save(encoded, "PNG")
    return {"type": "image", "mime_type": "image/png", "base64": base64.b64encode(encoded.getvalue()).decode("ascii")}


def read_questions(answer: str) -> tuple[CaptionAtom, ...]:
    """Read the questions that a model has made from a caption; empty if there are none.

    Args:
        answer: The model's answer, a JSON object with `questions`.
    """
    said = find_object(text_without_thoughts(answer), "questions") or {}
    listed = said.get("questions")
    found: dict[str, CaptionAtom] = {}
    for each in listed if isinstance(listed, list) else ():
        given = each if isinstance(each, dict) else {"question": each}
        question, kind = given.get("question"), given.get("kind")
        if isinstance(question, str) and question.strip():
            question = " ".join(question.split())
            known: Sequence[AtomKind] = get_args(AtomKind)
            found.setdefault(question, CaptionAtom(question, next((each for each in known if each == kind), "other")))
    return tuple(found.values())[:MAX_ATOMS]


def read_answers(answer: str, atoms: Sequence[CaptionAtom]) -> PictureScore:
    """Read a model's answers to questions.

    Args:
        answer: The model's answer, a JSON object with `answers`: a list in the order of the questions, or an object by
            their numbers.
        atoms: The questions.
    """
    said = find_object(text_without_thoughts(answer), "answers") or {}
    given = said.get("answers")
    if isinstance(given, dict):
        given = [given.get(str(place)) for place in range(1, len(atoms) + 1)]
    given = given if isinstance(given, list) else []
    found = [read_bool(each) for each in given] if len(given) == len(atoms) else [None] * len(atoms)
    score = _score(
        atoms, {atom.question: None if yes is None else float(yes) for atom, yes in zip(atoms, found, strict=True)}
    )
    words = {"problem": _words(said.get("problem")), "caption": _words(said.get("caption"))}
    said_nothing = {"said": answer if answer.strip() else "(nothing)"}
    return score.model_copy(update=said_nothing | (words if score.score is not None else {}))


def _message(block: Mapping[str, Any], text: str) -> HumanMessage:
    return HumanMessage(content=[dict(block), {"type": "text", "text": text}])


def _score(atoms: Sequence[CaptionAtom], answers: Mapping[str, float | None]) -> PictureScore:
    """Return the score; no answer is more certain than those about the things that its question needs."""
    found = []
    for atom in atoms:
        known = [yes for name in (atom.question, *atom.needs) if (yes := answers.get(name)) is not None]
        yes = min(known) if answers.get(atom.question) is not None else None
        found.append(AtomAnswer(question=atom.question, kind=atom.kind, words=atom.words, yes=yes))
    return PictureScore(answers=tuple(found))


def _words(value: Any) -> str:
    """Return a text value; "nothing" and "none" count as empty."""
    words = value.strip() if isinstance(value, str) else ""
    return "" if words.lower().rstrip(".") in _NOTHING else words


def _emphasized(caption: str, score: PictureScore) -> str:
    """Return a caption that begins with the words of the questions that failed."""
    missing = list(dict.fromkeys(answer.words for answer in score.failed if answer.words))
    if not missing or caption.lower().startswith(missing[0].lower()):
        return caption
    return f"{', '.join(missing)}. {caption}"
