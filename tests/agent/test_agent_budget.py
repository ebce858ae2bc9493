"""A turn and a session keep to their budgets, and know what they have cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import AgentNotice, DrawingFailed
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import BudgetExceededError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools import Budget, Budgets, Meter
from mgem_agent.tools.budget import Cost

TWO = "<h> a fox </h> <h> a hen </h>"
NO = json.dumps({"answers": ["no"]})


@pytest.fixture
def sessions() -> Sessions:
    return Sessions.in_memory()


@pytest.fixture
def make(tmp_path: Any, sessions: Sessions) -> Callable[..., MgemAgent]:
    def made(*script: Any, generator: Any = None, **options: Any) -> MgemAgent:
        store = ArtifactStore(tmp_path / "images")
        flat = generator or FlatColourGenerator(size=(16, 16), num_steps=1)
        return MgemAgent(ScriptedReasoner(script=script), flat, store=store, sessions=sessions, session="s", **options)

    return made


def test_pictures_past_the_budget_are_not_drawn(make: Any) -> None:
    events = list(make(TWO, budget="1picture").stream("Draw."))
    turn = events[-1].turn
    assert [picture.prompt for picture in turn.pictures] == ["a fox"] and turn.outcome == "budget"
    [failed] = [event for event in events if isinstance(event, DrawingFailed)]
    assert failed.error == "BudgetExceededError"
    assert turn.failures[0].message.startswith("The budget of this turn is 1 picture. Spent: 1 picture.")


def test_what_a_turn_has_cost_is_in_its_record(make: Any, sessions: Sessions) -> None:
    prices = {"flat": {"picture": 0.04}, "scripted": {"output_tokens": 1_000_000.0}}
    agent = make(TWO, "Well.", prices=prices)
    turn = agent.invoke("Draw.")
    num_output = turn.cost.tokens - len("Draw.".split())
    assert turn.cost.pictures == 2 and turn.cost.usd == pytest.approx(0.08 + num_output)
    assert num_output >= len(TWO.split()) and turn.cost.seconds > 0
    assert agent.store.get(turn.pictures[0].artifact_id).cost_usd == 0.04
    assert agent.turns()[0].cost == turn.cost
    agent.invoke("And?")
    total = Cost.read(sessions.summary("s").cost)
    assert (total.pictures, total.usd) == (2, pytest.approx(turn.cost.usd + 1))


def test_a_session_keeps_to_its_budget_over_turns(make: Any, sessions: Sessions) -> None:
    agent = make("<h> a fox </h>", "<h> a hen </h>", budget=Budgets(session=Budget(pictures=1)))
    assert len(agent.invoke("Draw.").pictures) == 1
    agent.undo()
    assert agent.invoke("Again.").outcome == "budget"
    assert Cost.read(sessions.summary("s").cost).pictures == 1
    sessions.fork("s", "other")
    assert sessions.summary("other").cost == {}


def test_an_answer_past_the_budget_is_not_requested(make: Any, sessions: Sessions) -> None:
    agent = make("Never said.", budget="2tokens")
    with pytest.raises(
        BudgetExceededError, match=r"^The budget of this turn is 2 tokens\. Spent: 0 tokens\. Asked for: "
    ):
        agent.invoke("A question that has a few more words than that.")
    assert sessions.summary("s").num_turns == 0 and sessions.open_turn("s") is None
    with pytest.raises(BudgetExceededError, match=r"\(an answer of 'scripted'\)"):
        agent.invoke("Once more, please.")


def test_a_look_ends_at_the_budget_with_the_best_picture(make: Any) -> None:
    events = list(make("<h> a fox </h>", NO, look="retry-5", budget="1picture").stream("Draw."))
    turn = events[-1].turn
    assert len(turn.pictures) == 1 and turn.outcome == "answered" and not turn.failures
    [notice] = turn.notices
    assert notice.startswith("The picture was not drawn again. The budget of this turn is 1 picture.")
    assert AgentNotice(notice) in events


def test_a_judge_that_would_pass_the_budget_is_not_asked(make: Any) -> None:
    agent = make("<h> a fox </h>", look="retry", budget="700tokens")
    turn = agent.invoke("Go.")
    assert len(turn.pictures) == 1 and turn.pictures[0].score is None
    assert turn.notices[0].startswith("The picture could not be judged. The budget of this turn is 700 tokens.")


def test_time_ends_a_drawing_and_keeps_the_turn(make: Any) -> None:
    slow = FlatColourGenerator(size=(16, 16), num_steps=50, delay_s=30.0)
    turn = make("<h> a fox </h>", generator=slow, budget="0.3s").invoke("Draw.")
    assert turn.outcome == "budget" and not turn.pictures


def test_an_outer_meter_counts_the_turn(make: Any) -> None:
    book = Meter(Budgets.parse("1picture", "book"))
    turn = make(TWO, meter=book).invoke("Draw.")
    assert book.spent.pictures == 1
    assert turn.failures[0].message.startswith("The budget of this book is 1 picture.")


def test_a_refused_turn_of_requests_says_so(make: Any) -> None:
    agent = make(budget="1picture")
    from mgem_agent.tools import ImageRequest

    events = list(agent.stream_drawing([ImageRequest(prompt="a"), ImageRequest(prompt="b")]))
    assert events[-1].turn.outcome == "budget" and len(events[-1].turn.pictures) == 1
