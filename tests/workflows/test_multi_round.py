"""Figure 10, row 5: the mouse that gets richer over rounds, loses it all, and opens a cheese shop."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.agent.events import TurnFinished
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.errors import InputError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.workflows import multi_round

ROUNDS = {
    "Generate a mouse that is rich.": "a luxurious mouse with a golden crown, holding a golden key",
    "Make it richer!": "a majestic mouse with a golden crown and key, on a white pedestal",
    "Make it much richer, it has a big treasure": "a majestic mouse with a golden crown, before a treasure chest",
    "Now it is robbed and has nothing.": "a humble mouse with a tattered crown, before a broken treasure chest",
    "Eventually, it perked up and opened a cheese shop.": "a cheerful mouse with a crown, behind a cheese counter",
}


def test_figure_10_row_5_the_mouse_that_gets_richer(agent_of: Callable[..., MgemAgent]) -> None:
    num_pictures = []

    def caption(request: TextRequest) -> str:
        said = [message["content"] for message in request.dialogue]
        num_pictures.append(str(said).count("'type': 'image'"))
        return f"<h> {next(text for asked, text in ROUNDS.items() if asked in str(said[-1]))} </h>"

    agent = agent_of(*[caption] * len(ROUNDS), defaults={"seed": 5})
    turns = multi_round.run(agent, list(ROUNDS))
    assert [turn.pictures[0].prompt for turn in turns] == list(ROUNDS.values())
    assert num_pictures == [0, 1, 2, 3, 4]  # each round sees the pictures before it
    recipes = [agent.store.get(turn.pictures[0].artifact_id).recipe for turn in turns]
    assert {recipe.request.seed for recipe in recipes if recipe} == {5}


def test_by_edit_each_picture_is_made_from_the_last(agent_of: Callable[..., MgemAgent]) -> None:
    agent = agent_of("<h> a rich mouse </h>")
    turns = multi_round.run(agent, ["Generate a mouse.", "Make it richer!", "Rob it."], building="edit")
    ids = [turn.pictures[0].artifact_id for turn in turns]
    assert [agent.store.get(name).parents for name in ids] == [(), (ids[0],), (ids[1],)]
    assert turns[2].pictures[0].prompt == "Rob it."


def test_a_round_that_was_cancelled_is_the_last(agent_of: Callable[..., MgemAgent]) -> None:
    agent = agent_of("<h> a mouse </h>", "<h> a king </h>", generator=FlatColourGenerator(size=(16, 16), delay_s=0.05))
    events = []
    for event in multi_round.stream(agent, ["a mouse", "a king"]):
        events.append(event)
        if event.kind == "caption":
            agent.cancel()
    [end] = [event for event in events if isinstance(event, TurnFinished)]
    assert end.turn.outcome == "cancelled"


def test_no_rounds(agent_of: Callable[..., MgemAgent]) -> None:
    with pytest.raises(InputError, match=r"^instructions is empty\. Give one instruction for each round\.$"):
        multi_round.run(agent_of(), [])
