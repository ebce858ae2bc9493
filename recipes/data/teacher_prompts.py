"""Prompts for the teacher model, and parsing of its answers (after Mini-Gemini, Figure 7).

The prompts are data files; an undefined name in one is an error. Each prompt has other random example captions and
queries, so that the answers vary.
"""

from __future__ import annotations

import functools
import importlib.resources
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jinja2

from mgem_agent.chat_models.lenient_json import find_object
from mgem_agent.chat_models.thoughts import text_without_thoughts

__all__ = ["RejectedAnswerError", "TeacherKind", "TeacherSource", "read_answer", "teacher_prompt"]

TeacherKind = Literal["recaption", "in_context"]

_NUM_STYLES, _NUM_QUERIES = 5, 3  # as in the paper
_ASKED_WORDS: dict[TeacherKind, int] = {"recaption": 30, "in_context": 40}
_MOST_WORDS: dict[TeacherKind, int] = {"recaption": 45, "in_context": 80}  # longer answers are rejected
_MOST_QUERY_WORDS = 40
_MARKUP = re.compile(r"</?h>|<GEN>|<image>", re.IGNORECASE)


class RejectedAnswerError(ValueError):
    """An answer that cannot become a record.

    Args:
        reason: A short category, for counting.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class TeacherSource:
    """The source of a record.

    Args:
        id: Unique id.
        description: Description of a picture, for `recaption`.
        rounds: Questions and answers of a conversation, for `in_context`.
    """

    id: str
    description: str = ""
    rounds: tuple[tuple[str, str], ...] = ()


@functools.cache
def _file(name: str) -> str:
    return (importlib.resources.files("mgem_agent.recipes.data") / "prompts" / name).read_text(encoding="utf-8")


@functools.cache
def _template(kind: TeacherKind) -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # plain text, not HTML
    return environment.from_string(_file(f"teacher_{kind}.jinja"))


def teacher_prompt(source: TeacherSource, kind: TeacherKind, seed: int = 0) -> str:
    """Return the prompt for the teacher.

    Args:
        source: The source.
        kind: Kind of the record.
        seed: Seed of the examples, together with the source's id.
    """
    rng = random.Random(f"{seed}/{kind}/{source.id}")
    return _template(kind).render(
        styles=rng.sample(_file("style_captions.txt").splitlines(), _NUM_STYLES),
        queries=rng.sample(_file("queries.txt").splitlines(), _NUM_QUERIES),
        description=source.description,
        rounds=source.rounds,
        max_words=_ASKED_WORDS[kind],
    )


def read_answer(text: str, source: TeacherSource, kind: TeacherKind) -> list[dict[str, Any]]:
    """Return the turns of a record.

    Args:
        text: The teacher's answer.
        source: The source.
        kind: Kind of the record.

    Raises:
        RejectedAnswerError: If the answer is not valid.
    """
    answer = _read_object(text, "caption" if kind == "recaption" else "captions")
    if kind == "recaption":
        query = _words_of(answer.get("query"), "query", _MOST_QUERY_WORDS)
        caption = _words_of(answer.get("caption"), "caption", _MOST_WORDS[kind])
        return _turn(query, "", caption)
    captions = answer.get("captions")
    if not isinstance(captions, list) or len(captions) != len(source.rounds):
        raise RejectedAnswerError("not one caption a round")
    turns: list[dict[str, Any]] = []
    for (question, said), entry in zip(source.rounds, captions, strict=True):
        is_empty = isinstance(entry, str) and not entry.strip()
        caption = "" if is_empty else _words_of(entry, "caption", _MOST_WORDS[kind])
        turns += _turn(question, said, caption)
    if not any("draw" in turn for turn in turns):
        raise RejectedAnswerError("no caption at all")
    return turns


def _read_object(text: str, key: str) -> Mapping[str, Any]:
    answer = find_object(text_without_thoughts(text), key)
    if answer is None:
        raise RejectedAnswerError("not JSON")
    return answer


def _words_of(value: Any, name: str, most: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RejectedAnswerError(f"no {name}")
    words = " ".join(value.split())
    if _MARKUP.search(words):
        raise RejectedAnswerError(f"markup in the {name}")
    if len(words.split()) > most:
        raise RejectedAnswerError(f"{name} too long")
    return words


def _turn(question: str, said: str, caption: str) -> list[dict[str, Any]]:
    answer = f"{said}\n<h> {caption} </h>".strip() if caption else said
    return [
        {"from": "human", "value": question, **({"draw": True} if caption else {})},
        {"from": "gpt", "value": answer},
    ]
