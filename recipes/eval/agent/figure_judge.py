"""The judge of a figure: a model that answers GenEval 2's questions about a picture. It is not the judge in the loop.

Where a model gives probabilities, a score is soft: our own models, and servers of OpenAI's protocol with `logprobs`.
Our own models of nano's size do not follow "Answer in one word", so they get the bare question, and their probabilities
are those among the possible answers. Any other model answers in one word, which is right (1) or wrong (0), as in TIFA.
`vqascore:MODEL` is VQAScore: the probability that the picture shows the whole prompt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage

from mgem_agent.chat_models.chat_model import GenProtocolModel
from mgem_agent.chat_models.thoughts import text_without_thoughts
from mgem_agent.errors import InputError
from mgem_agent.reasoners import make_reasoner
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt
from mgem_agent.recipes.eval.agent.vqascore import VqaScoreJudge
from mgem_agent.scoring.picture_judge import picture_block

__all__ = [
    "ChatJudge",
    "FigureJudge",
    "accepted_answers",
    "check_other_judge",
    "make_figure_judge",
]

VQASCORE = "vqascore:"
_NUMBERS = tuple("zero one two three four five six seven eight nine ten".split())
_TOP_LOGPROBS = 20
_SMALL = 1_000_000_000
"""Models with fewer parameters are small: nano has 140 million, the smallest released Mini-Gemini over 2 billion."""


class FigureJudge(Protocol):
    """Scores a picture for a prompt."""

    kind: Literal["soft", "hard", "vqascore"]
    """`soft`: probabilities; `hard`: right or wrong; `vqascore`: one probability for the whole prompt."""

    def score(self, picture: Path, prompt: EvalPrompt) -> list[float]:
        """Return the score of each question, from 0 to 1; of one question for `vqascore`."""
        ...


def make_figure_judge(name: str, python: Path | None = None) -> FigureJudge:
    """Return a judge.

    Args:
        name: Name of a chat model that takes pictures, as for `make_reasoner`, or `vqascore:MODEL`.
        python: For VQAScore, the interpreter of an environment with `t2v_metrics`.

    Raises:
        InputError: If there is no such model, or no such environment.
        MissingDependencyError: If a package is missing.
    """
    if name.startswith(VQASCORE):
        return VqaScoreJudge(name.removeprefix(VQASCORE), python)
    if python is not None:
        raise InputError(f"--judge-python is for a judge vqascore:MODEL, and the judge is {name!r}. Leave it out.")
    return ChatJudge(make_reasoner(name, tool_calling="native"))


def accepted_answers(question: str, answer: str) -> tuple[str, ...]:
    """Return the words that count as the right answer, in small letters.

    Args:
        question: The question.
        answer: The answer in the data.
    """
    if not question.lower().startswith("how many"):
        return (answer.strip().lower(),)
    word = answer.strip().lower()
    return (word, str(_NUMBERS.index(word))) if word in _NUMBERS else (word,)


class ChatJudge:
    """A chat model as a judge.

    Args:
        model: The model.
    """

    def __init__(self, model: BaseChatModel) -> None:
        self._model = model
        self.kind: Literal["soft", "hard", "vqascore"] = "soft"

    def score(self, picture: Path, prompt: EvalPrompt) -> list[float]:
        """Return the probability of the right answer to each question.

        Args:
            picture: File of the picture.
            prompt: The prompt with its questions.

        Raises:
            MgemError: If the model fails. Errors of a provider's package are passed on.
        """
        block = picture_block(picture)
        return [
            self._answered(block, question, accepted_answers(question, right)) for question, right in prompt.vqa_list
        ]

    @cached_property
    def _is_small(self) -> bool:
        """Whether the model is too small to follow instructions."""
        if not isinstance(self._model, GenProtocolModel):
            return False
        weights = getattr(self._model.text_engine(self._model.default_model_name()), "model", None)
        num_parameters = getattr(weights, "num_parameters", None)
        return self._model.needs_grammar() or (num_parameters is not None and num_parameters() < _SMALL)

    def _answered(self, block: Mapping[str, Any], question: str, right: Sequence[str]) -> float:
        is_small = self._is_small
        text = question if is_small else f"{question} Answer in one word."
        message = HumanMessage([dict(block), {"type": "text", "text": text}])
        if isinstance(self._model, GenProtocolModel):
            choices = _choices(right)
            found = self._model.choice_probabilities([message], choices)
            if found is not None:
                known = sum(found) if is_small else 1.0
                return min(1.0, sum(found[choices.index(word)] for word in right) / known) if known else 0.0
        options = _logprob_options(self._model)
        answer = self._model.invoke([message], **options)
        found_logprobs = _first_token(answer)
        if found_logprobs is not None:
            words = {token.strip().lower(): 0.0 for token in found_logprobs}
            for token, logprob in found_logprobs.items():
                words[token.strip().lower()] += math.exp(logprob)
            return min(1.0, sum(words.get(word, 0.0) for word in right))
        self.kind = "hard"
        said = re.findall(r"[a-z0-9]+", text_without_thoughts(str(answer.text)).lower())
        return float(bool(said) and said[0] in right)


def _choices(right: Sequence[str]) -> list[str]:
    """Return the right answers with the others that a question may have, which may begin with the same token."""
    others = [*_NUMBERS, *map(str, range(10))] if right[0] in _NUMBERS else ["yes", "no"]
    return list(dict.fromkeys([*right, *others]))


def _logprob_options(model: BaseChatModel) -> dict[str, Any]:
    """Return the options that ask for probabilities, for a model that has the field."""
    options: dict[str, Any] = {"draw": "never"} if isinstance(model, GenProtocolModel) else {}
    if "top_logprobs" in type(model).model_fields:
        options |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
    return options


def _first_token(answer: AIMessage) -> dict[str, float] | None:
    """Return the likely first tokens of an answer with their logarithms of probability; None if not told."""
    told = (answer.response_metadata.get("logprobs") or {}).get("content") or []
    if not told:
        return None
    likely = told[0].get("top_logprobs") or [told[0]]
    return {each["token"]: float(each["logprob"]) for each in likely}


def check_other_judge(judge: str, reasoner: str, *, is_allowed: bool) -> None:
    """Refuse a judge that also judges in the loop.

    Args:
        judge: Name of the judge of the figure.
        reasoner: Name of the reasoner, which judges in the loop.
        is_allowed: Whether the user wants it all the same.

    Raises:
        InputError: If both are one model.
    """
    if judge == reasoner and not is_allowed:
        raise InputError(
            f"The judge {judge!r} is also the judge in the loop, which would favour looking. Name another model with "
            "--judge, or add --same-judge; the report then says so."
        )
