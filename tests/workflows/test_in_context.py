"""The in-context rows: what is drawn follows from the conversation and from pictures that were given."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.workflows import in_context


def test_figure_6_two_skeins_of_yarn_and_something_cute(agent_of: Callable[..., MgemAgent]) -> None:
    known: list[str] = []

    def second(request: TextRequest) -> str:
        known.append(str([message["content"] for message in request.dialogue]))
        return "A knitted cat toy! <h> a cute knitted cat of pink and blue yarn </h>"

    agent = agent_of("A two-tone scarf.", second)
    yarn = Image.new("RGB", (30, 30), "pink")
    agent.invoke("Show me one idea of what I could make with this.", [yarn], session="yarn", draw="never")
    turn = in_context.run(agent, "Can you give me more? I want something cute and special.", session="yarn")
    assert [picture.prompt for picture in turn.pictures] == ["a cute knitted cat of pink and blue yarn"]
    assert "'type': 'image'" in known[0] and "A two-tone scarf." in known[0]


def test_pictures_may_be_given_with_the_instruction(agent_of: Callable[..., MgemAgent]) -> None:
    agent = agent_of("Similar: <h> an orange mood board </h>")
    events = list(in_context.stream(agent, "Generate a similar image.", [Image.new("RGB", (9, 9))], session="board"))
    assert events[-1].kind == "finished"
    assert len(agent.store.list()) == 2
