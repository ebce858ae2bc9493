"""Stopping a drawing and not the turn, and drawing what a person asks for without the reasoner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolMessage

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.decision import Decision
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools.image_request import ImageRequest


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., MgemAgent]:
    def make_agent(*script: Any, delay_s: float = 0.0, **options: Any) -> MgemAgent:
        generator = FlatColourGenerator(size=(32, 32), num_steps=50, delay_s=delay_s)
        store = ArtifactStore(tmp_path)
        return MgemAgent(
            ScriptedReasoner(script=list(script)), generator, store=store, sessions=Sessions.in_memory(), **options
        )

    return make_agent


def stopped(agent: MgemAgent, events: Any, stop: Callable[[], bool]) -> tuple[list[Any], bool]:
    """All events, where `stop` is called at the first step of a drawing; and what that returned."""
    found, said = [], None
    for event in events:
        found.append(event)
        if event.kind == "progress" and said is None:
            said = stop()
    assert said is not None
    return found, said


def test_a_stopped_drawing_is_a_failed_call_of_a_turn_that_goes_on(make: Any) -> None:
    agent = make("Here: <h> a fox </h>", "I was stopped.", delay_s=5, answer_tools=True)
    events, was_drawing = stopped(agent, agent.stream("Draw."), agent.cancel_drawing)
    turn = events[-1].turn
    assert was_drawing
    assert [event.error for event in events if event.kind == "failed"] == ["GenerationCancelledError"]
    assert (turn.outcome, turn.text, turn.pictures) == ("answered", "Here:\n\nI was stopped.", ())
    assert turn.failures[0].message == "The request was cancelled."
    told = [message for message in agent.messages() if isinstance(message, ToolMessage)]
    assert told[0].content == "Not drawn: The request was cancelled."


def test_a_drawing_is_stopped_once(make: Any) -> None:
    agent = make("<h> a fox </h>", delay_s=5)
    assert not agent.cancel_drawing()
    _, again = stopped(agent, agent.stream("Draw."), lambda: agent.cancel_drawing() and agent.cancel_drawing())
    assert again is False
    assert not agent.cancel_drawing()


def test_stopping_the_turn_stops_its_drawing(make: Any) -> None:
    agent = make("<h> a fox </h>", delay_s=5)
    events, _ = stopped(agent, agent.stream("Draw."), agent.cancel)
    assert events[-1].turn.outcome == "cancelled"


def test_first_the_drawing_then_the_turn(make: Any) -> None:
    agent = make("<h> a fox </h>", "<h> another </h>", delay_s=5, answer_tools=True)
    num_drawings, is_first = 0, False
    stops = iter([agent.cancel_drawing, agent.cancel])
    for event in agent.stream("Draw."):
        if event.kind == "caption":
            num_drawings += 1
            is_first = True
        if event.kind == "progress" and is_first:
            is_first = False
            assert next(stops)()
    turn = agent.turns()[0]
    assert (num_drawings, turn.outcome, len(turn.failures)) == (2, "cancelled", 2)


def test_a_stop_between_two_looks_at_the_turn_is_not_missed(make: Any) -> None:
    agent = make("<h> a fox </h>", delay_s=5)
    events = agent.stream("Draw.")
    threading.Timer(0.2, agent.cancel).start()
    assert list(events)[-1].turn.outcome == "cancelled"


def test_a_person_draws_without_the_reasoner(make: Any) -> None:
    agent = make("It is red.", defaults={"width": 48}, look=1, confirm=True)
    events = list(agent.stream_drawing([ImageRequest(prompt="a fox", seed=3)], "/gen a fox"))
    turn = events[-1].turn
    assert (turn.outcome, turn.text, len(turn.pictures)) == ("answered", "", 1)
    assert agent.store.get(turn.pictures[0].artifact_id).width == 48
    assert agent.invoke("What colour is it?").text == "It is red."
    said = [message.type for message in agent.messages()]
    assert said == ["human", "ai", "tool", "human", "ai"]
    assert agent.sessions.list()[0].title == "/gen a fox"
    agent.undo()
    agent.undo()
    assert agent.turns() == []


def test_a_persons_drawing_is_resumed(make: Any) -> None:
    agent = make(delay_s=0.4)
    events = agent.stream_drawing([ImageRequest(prompt="a fox"), ImageRequest(prompt="a hen")])
    for event in events:
        if event.kind == "picture":
            break
    events.close()
    again = list(agent.stream_resume())
    assert [event.stored_before for event in again if event.kind == "picture"] == [True, False]
    assert [picture.prompt for picture in again[-1].turn.pictures] == ["a fox", "a hen"]


def test_too_much_or_nothing_to_draw(make: Any) -> None:
    agent = make(max_pictures=1)
    with pytest.raises(InputError, match=r"^2 pictures cannot be drawn in one turn\. Request 1 to 1\.$"):
        list(agent.stream_drawing([ImageRequest(prompt="a fox")] * 2))
    with pytest.raises(InputError, match=r"^0 pictures cannot be drawn"):
        list(agent.stream_drawing([]))
    assert agent.sessions.list() == []


def test_what_waits_for_a_person(make: Any) -> None:
    agent = make("<h> a fox </h>", confirm=True)
    assert agent.waiting() is None
    agent.invoke("Draw.")
    waiting = agent.waiting()
    assert [caption.prompt for caption in waiting.captions] == ["a fox"]
    agent.resume(decision=Decision(kind="refuse"))
    assert agent.waiting() is None
