"""Simple instruction re-caption: the reasoner's caption is drawn, not the instruction."""

from __future__ import annotations

from collections.abc import Callable

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import CaptionReady, TurnFinished
from mgem_agent.workflows import recaption

OAK = "a lone oak on a green hill at dusk, long shadows, golden light, oil painting"


def test_simple_instruction_recaption_portray_a_lone_oak(agent_of: Callable[..., MgemAgent]) -> None:
    agent = agent_of(f"<h> {OAK} </h>")
    turn = recaption.run(agent, "Portray a lone oak")
    assert [picture.prompt for picture in turn.pictures] == [OAK]
    assert str(agent.messages()[0].text).startswith("Portray a lone oak\n")


def test_its_events_are_the_agents(agent_of: Callable[..., MgemAgent]) -> None:
    events = list(recaption.stream(agent_of(f"<h> {OAK} </h>"), "Portray a lone oak"))
    assert [event.prompt for event in events if isinstance(event, CaptionReady)] == [OAK]
    assert isinstance(events[-1], TurnFinished)
