"""Judge a picture against its caption with any chat model that accepts pictures.

The verdict is by questions: see `mgem_agent.scoring`. A picture matches its caption if no question is answered no; its
score is the share of yes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models import BaseChatModel

from mgem_agent.chat_models.reasoner_errors import own_error
from mgem_agent.chat_models.reasoner_facts import facts_of
from mgem_agent.errors import InputError, ReasonerPicturesError, ToolError
from mgem_agent.scoring.picture_judge import PictureJudge, picture_block
from mgem_agent.scoring.picture_score import PictureScore

__all__ = ["Verdict", "check_sees", "look_at_image", "verdict_of"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reasoner's verdict on a picture.

    Attributes:
        follows: Whether the picture matches its caption; None if the answer could not be read.
        score: How well it matches, from 0 to 1, or None.
        problem: What is wrong with the picture; empty if nothing.
        caption: A better caption for a redraw; empty to keep the caption.
        answer: The reasoner's full answer; empty from one that gives probabilities.
        answers: The questions, each with the probability of yes.
    """

    follows: bool | None = None
    score: float | None = None
    problem: str = ""
    caption: str = ""
    answer: str = field(default="", repr=False)
    answers: tuple[tuple[str, float | None], ...] = field(default=(), repr=False)


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
        >>> reasoner = ScriptedReasoner(script=['{"answers": ["yes", "no"], "problem": "There is no hat."}'])
        >>> look_at_image(reasoner, Image.open("fox.png"), "a fox and a hat")  # doctest: +SKIP
        Verdict(follows=False, score=0.5, problem='There is no hat.', caption='')
    """
    check_sees(reasoner)
    if not caption.strip():
        raise InputError("The caption is empty. Say what the picture should show.")
    block = picture_block(image)
    try:
        return verdict_of(PictureJudge(reasoner).score(block, caption))
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


def verdict_of(score: PictureScore) -> Verdict:
    """Return a score as a verdict.

    Args:
        score: The score of a picture.
    """
    answers = tuple((answer.question, answer.yes) for answer in score.answers)
    return Verdict(score.follows, score.score, score.what_is_wrong, score.caption, score.said, answers)


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
