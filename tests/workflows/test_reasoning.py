"""The reasoning rows of Figures 6 and 10: words that think, and then pictures of what follows from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.workflows import reasoning


def parts_of(request: TextRequest, kind: str) -> list[Any]:
    """Parts of one kind in the last message of what was asked."""
    content = request.dialogue[-1]["content"]
    return [part for part in content if part.get("type") == kind] if not isinstance(content, str) else []


def test_figure_10_row_4_the_analysed_painting_with_a_dog_in_it(agent_of: Callable[..., MgemAgent]) -> None:
    seen = []

    def analyse(request: TextRequest) -> str:
        seen.extend(parts_of(request, "image"))
        return (
            "A penguin lies on a bed beneath a lamp, with popcorn. "
            "<h> a dog lies on a bed beneath a lamp, with popcorn, comic strip </h>"
        )

    painting = Image.new("RGB", (40, 30), "navy")
    agent = agent_of(analyse)
    turn = reasoning.run(agent, "Describe the image and change the character to a dog.", [painting])
    assert len(seen) == 1
    assert turn.text == "A penguin lies on a bed beneath a lamp, with popcorn."
    assert [picture.prompt for picture in turn.pictures] == [
        "a dog lies on a bed beneath a lamp, with popcorn, comic strip"
    ]


def test_figure_10_row_6_deep_learning_for_a_primary_student(agent_of: Callable[..., MgemAgent]) -> None:
    agent = agent_of(
        "Imagine you have a big box of toys. <h> a box full of toys, flat illustration </h> The computer looks at "
        "many pictures of toys. <h> a friendly robot that looks at pictures of toys </h> Then it picks out yours. "
        "<h> a robot hand that holds a toy car </h>"
    )
    turn = reasoning.run(agent, "Give me an example to understand deep learning to a primary student.")
    assert turn.text.startswith("Imagine you have a big box of toys.")
    assert [picture.prompt for picture in turn.pictures] == [
        "a box full of toys, flat illustration",
        "a friendly robot that looks at pictures of toys",
        "a robot hand that holds a toy car",
    ]
