"""Tests of what is known about a model's thinking tags."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk

from mgem_agent.agent.streamed_answer import read_answer
from mgem_agent.chat_models import thought_tags
from mgem_agent.chat_models.thought_tags import holds_answer, learn_tag
from mgem_agent.testing import ScriptedReasoner


class Served(ScriptedReasoner):
    """A reasoner at an address of its own."""

    endpoint: str = "http://127.0.0.1:9/v1"
    model: str = "plain-7b"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thought_tags, "_known", {})


def read(reasoner: Any, *pieces: str | AIMessageChunk) -> list[str]:
    """What is shown before each piece has been followed by the next, and at the end."""
    shown: list[str] = []
    counts: list[int] = []

    def chunks() -> Iterator[AIMessageChunk]:
        for piece in pieces:
            yield piece if isinstance(piece, AIMessageChunk) else AIMessageChunk(piece)
            counts.append(len(shown))

    read_answer(chunks(), reasoner, cancel=threading.Event(), emit=shown.append, shows_pictures=False)
    return ["".join(shown[:number]) for number in [*counts, len(shown)]]


def test_the_first_answer_is_held_back_and_the_second_is_not() -> None:
    reasoner = Served(script=[])
    assert read(reasoner, "A ", "fox.") == ["", "", "A fox."]
    assert read(reasoner, "A ", "hen.") == ["A ", "A hen.", "A hen."]
    assert read(Served(script=[]), "A ", "hen.") == ["A ", "A hen.", "A hen."]  # the same model, made again
    assert holds_answer(Served(script=[], model="other-7b"))


def test_a_thought_without_an_opening_tag_is_never_shown() -> None:
    reasoner = Served(script=[])
    for answer in ("A fox.", "A hen."):
        assert read(reasoner, "Hm. ", "What?</thi", "nk>", answer)[-1] == answer
    assert holds_answer(Served(script=[]))


def test_reasoning_in_a_field_of_its_own_ends_the_wait() -> None:
    reasoning = AIMessageChunk("", additional_kwargs={"reasoning_content": "Hm."})
    assert read(Served(script=[]), reasoning, "A ", "fox.") == ["", "A ", "A fox.", "A fox."]


def test_a_model_without_an_address_is_not_held_back_unless_it_thinks_by_name() -> None:
    assert not holds_answer(ScriptedReasoner(script=[]))
    assert holds_answer(ScriptedReasoner(script=[]), "qwq-32b")
    known = ScriptedReasoner(script=[])
    learn_tag(known, is_bare=True)
    learn_tag(known, is_bare=False)
    assert holds_answer(known)
