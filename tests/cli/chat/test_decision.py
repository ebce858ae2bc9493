from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mgem_agent.agent.decision import Decision
from mgem_agent.agent.events import CaptionReady, ConfirmationNeeded
from mgem_agent.cli.chat.decision import ask_decision

WAITING = ConfirmationNeeded(
    "s", (CaptionReady("call_0", {"prompt": "a fox"}), CaptionReady("call_1", {"prompt": "a hen"}))
)


@pytest.fixture
def decided() -> Callable[..., tuple[Decision | None, list[str]]]:
    def decide(*answers: Any) -> tuple[Decision | None, list[str]]:
        left = list(answers)
        told: list[str] = []
        decision = ask_decision(WAITING, lambda question, text: left.pop(0), told.append)
        assert left == []
        return decision, told

    return decide


def test_words_for_decisions(decided: Any) -> None:
    assert decided("y") == (Decision(kind="approve"), [])
    assert decided("No too red ") == (Decision(kind="refuse", reason="too red"), [])
    assert decided("hm", "yes") == (Decision(kind="approve"), ["Answer y, e or n. After n you may give a reason."])
    decision, told = decided(None)
    assert decision is None
    assert told == ["The caption still waits for confirmation. /resume asks again, /undo drops the turn."]


def test_captions_are_edited_one_by_one(decided: Any) -> None:
    decision, _ = decided("e", "a fox at night", "")
    assert decision == Decision(kind="edit", edits={"call_0": {"prompt": "a fox at night"}}, refused=("call_1",))
    assert decided("e", "a fox", None, "y")[0] == Decision(kind="approve"), "one may think better of it"
