"""Judge a picture against its caption with any chat model that accepts pictures.

This package's own chat models are asked whether the picture shows the caption. The verdict is the probability of "yes"
against "no" as the next token, because small models do not write valid JSON. Other models are asked for a verdict as
JSON. Thinking is removed, common mistakes in JSON are accepted, and an unreadable answer counts as no verdict. The
score is requested from 0 to 10, because models use such a scale more reliably than fractions.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage

from mgem_agent.agent.reasoning import speaks_protocol
from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.lenient_json import find_object, read_bool
from mgem_agent.chat_models.reasoner_errors import own_error
from mgem_agent.chat_models.reasoner_facts import facts_of
from mgem_agent.chat_models.thoughts import text_without_thoughts
from mgem_agent.core_model.image_loading import load_image
from mgem_agent.errors import InputError, ReasonerPicturesError, ToolError

__all__ = [
    "Verdict",
    "check_sees",
    "look_at_image",
    "look_question",
    "parse_verdict",
    "verdict_by_probability",
    "yes_no_question",
]

MAX_SCORE = 10
QUESTION = """This picture was drawn from the caption below. Does it show what the caption says?

Caption: {caption}

Answer with JSON alone: {{"follows": true or false, "score": 0 to 10, "problem": "what is wrong, or nothing", \
"caption": "a caption that would fix it, or nothing"}}"""
YES_NO_QUESTION = "Is there {caption} in the picture?"
"""As nano was taught. Of 30 captions of 10 pictures that it drew, a third of them the pictures' own, nano
judges 28 right. With "Does the picture show ...? Answer yes or no." it says yes to all."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reasoner's verdict on a picture.

    Attributes:
        follows: Whether the picture matches its caption; None if the answer could not be read.
        score: How well it matches, from 0 to 1, or None.
        problem: What is wrong with the picture; empty if nothing.
        caption: A better caption for a redraw; empty to keep the caption.
        answer: The reasoner's full answer.
    """

    follows: bool | None = None
    score: float | None = None
    problem: str = ""
    caption: str = ""
    answer: str = field(default="", repr=False)


def look_at_image(reasoner: BaseChatModel, image: Any, caption: str) -> Verdict:
    """Let a reasoner judge a picture against its caption.

    Args:
        reasoner: Any chat model that accepts pictures.
        image: Anything that `load_image` reads: a path, bytes, a data URL, a PIL image, an array.
        caption: What the picture should show.

    Returns:
        The verdict; `follows` is None if the answer contains none.

    Raises:
        InputError: If the caption is empty, or the reasoner is known to take no pictures.
        ImageError: If `image` is not a picture.
        ReasonerError: If the reasoner's server fails, or rejects the picture.
        ToolError: If the reasoner fails in another way.

    Examples:
        >>> from mgem_agent.testing import ScriptedReasoner
        >>> reasoner = ScriptedReasoner(script=['{"follows": false, "score": 3, "problem": "There is no hat."}'])
        >>> look_at_image(reasoner, Image.open("fox.png"), "a fox in a hat")  # doctest: +SKIP
        Verdict(follows=False, score=0.3, problem='There is no hat.', caption='')
    """
    check_sees(reasoner)
    if not caption.strip():
        raise InputError("The caption is empty. Say what the picture should show.")
    encoded = io.BytesIO()
    load_image(image).save(encoded, "PNG")
    data = base64.b64encode(encoded.getvalue()).decode("ascii")
    picture = {"type": "image", "mime_type": "image/png", "base64": data}
    question = look_question(picture, caption)
    options: dict[str, Any] = {"draw": "never"} if speaks_protocol(reasoner) else {}
    try:
        if isinstance(reasoner, GenProtocolModel):
            probability = reasoner.probability_of_yes([yes_no_question(picture, caption)])
            if probability is not None:
                return verdict_by_probability(probability)
        answer = reasoner.invoke([question], **options)
    except Exception as error:  # each provider has its own errors
        own = own_error(error, reasoner)
        if isinstance(own, ReasonerPicturesError):
            facts_of(reasoner).sees = own.max_pictures > 0
        if own is error:
            raise
        if own is not None:
            raise own from error
        raise ToolError(
            f"The reasoner {type(reasoner).__name__!r} failed to look at the picture ({type(error).__name__}: "
            f"{error}). Give a reasoner that takes pictures and is available."
        ) from error
    return parse_verdict(str(answer.text))


def verdict_by_probability(probability: float) -> Verdict:
    """Return the verdict of a reasoner that was asked `yes_no_question`.

    Args:
        probability: That of yes against no, from 0 to 1.

    Example:
        >>> verdict_by_probability(0.25).problem
        'asked whether the picture shows it, the reasoner says yes with a probability of 0.25'
    """
    answer = f"yes with a probability of {probability:.2f}"
    follows = probability >= 0.5
    problem = "" if follows else f"asked whether the picture shows it, the reasoner says {answer}"
    return Verdict(follows, probability, problem, "", answer)


def yes_no_question(picture: dict[str, Any], caption: str) -> HumanMessage:
    """Return the question whose answer `verdict_by_probability` reads.

    Args:
        picture: As for `look_question`.
        caption: What it should show.
    """
    said = caption.strip().rstrip(".")
    return HumanMessage(content=[picture, {"type": "text", "text": YES_NO_QUESTION.format(caption=said)}])


def check_sees(reasoner: BaseChatModel) -> None:
    """Check that a reasoner may accept pictures.

    Raises:
        InputError: If its profile says that it does not, or it has rejected a picture before.
    """
    if facts_of(reasoner).sees is False:
        raise InputError(
            f"Judging pictures needs a reasoner that takes pictures, and {type(reasoner).__name__!r} takes none. "
            "Give another reasoner, such as ChatMiniGemini."
        )


def look_question(picture: dict[str, Any], caption: str) -> HumanMessage:
    """Return the question about a picture.

    Args:
        picture: An image block, with pixels or with the id of a stored picture.
        caption: What the picture should show.
    """
    return HumanMessage(content=[picture, {"type": "text", "text": QUESTION.format(caption=caption.strip())}])


def parse_verdict(answer: str) -> Verdict:
    """Read the verdict from an answer.

    Args:
        answer: The reasoner's answer.

    Examples:
        >>> parse_verdict('{"follows": false, "score": 3, "problem": "no hat"}')
        Verdict(follows=False, score=0.3, problem='no hat', caption='')
        >>> parse_verdict("It is nice.").follows is None
        True
    """
    said = find_object(text_without_thoughts(answer), "follows") or {}
    follows = read_bool(said.get("follows"))
    if follows is None:
        return Verdict(answer=answer)
    score, problem, caption = (said.get(name) for name in ("score", "problem", "caption"))
    return Verdict(follows, _fraction(score), _words(problem), _words(caption), answer)


def _fraction(score: Any) -> float | None:
    if isinstance(score, str):
        try:
            score = float(score.partition("/")[0])
        except ValueError:
            return None
    if isinstance(score, bool) or not isinstance(score, (int, float)) or math.isnan(score):
        return None
    return min(max(score / MAX_SCORE, 0.0), 1.0)


def _words(value: Any) -> str:
    """Return a text value; "nothing" and "none" count as empty."""
    words = value.strip() if isinstance(value, str) else ""
    return "" if words.lower().rstrip(".") in ("nothing", "none") else words
