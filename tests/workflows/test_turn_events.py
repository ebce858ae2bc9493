"""The end of a stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.errors import InputError
from mgem_agent.workflows.turn_events import last_turn


def test_the_last_event_has_the_turn(agent_of: Callable[..., MgemAgent]) -> None:
    assert last_turn(agent_of("Hello.").stream("Hi")).text == "Hello."


def test_a_decision_is_not_made_for_a_person(agent_of: Callable[..., MgemAgent]) -> None:
    agent = agent_of("<h> a fox </h>", confirm=True)
    with pytest.raises(InputError, match=r"^The agent waits for a person's decision\. Call agent\.resume"):
        last_turn(agent.stream("A fox."))
