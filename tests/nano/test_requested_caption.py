"""Descriptions in requests for a picture: all of them, or nothing."""

from __future__ import annotations

import pytest

from mgem_agent.nano.requested_caption import read_description

READ = {
    "Draw a cat wearing a crown in the snow": "a cat wearing a crown in the snow",
    "Please draw me a red fox, please!": "a red fox",
    "Hey nano, could you draw two dogs on a beach for me?": "two dogs on a beach",
    "Can you paint me a dragon at night?": "a dragon at night",
    "A picture of a lighthouse by the sea.": "a lighthouse by the sea",
    "I'd like a small picture of an owl in a forest": "an owl in a forest",
    "Show me a picture of three red apples": "three red apples",
    "Show me a rocket": "a rocket",
    "Draw mountains at night": "mountains at night",
    "draw a snowman without a hat": "a snowman without a hat",
    "Draw a mouse with its golden key, in a castle": "a mouse with its golden key, in a castle",
    "Draw me a picture of a Fox": "a Fox",
    "Draw the sea at night": "the sea at night",
    "create an image showing a robot and a cat": "a robot and a cat",
    "Draw a boy who plays with a red ball": "a boy who plays with a red ball",
}
LEFT = (
    "Draw it again.",
    "Draw the same fox in blue",
    "Draw him in the snow",
    "Draw a dog, but don't draw a collar",
    "Draw a fox. It should be in the snow.",
    "Draw a fox and tell me a joke about it",
    "Draw a fox and then write a poem",
    "Draw me something nice",
    "Draw what you like",
    "Draw two pictures: a fox and a dog",
    "Draw another one",
    "Draw a scene of the story",
    "Draw the dog from before",
    "Draw your favourite animal",
    "What is a fox?",
    "Tell me about a fox.",
    "Zeichne einen Fuchs",
    "Draw a Fuchs im gr\u00fcnen Wald",
    "and now in blue",
    "Draw",
    "",
    "Draw a " + "very " * 30 + "small fox",
)


@pytest.mark.parametrize("text", READ)
def test_a_complete_description_is_read(text: str) -> None:
    assert read_description(text) == READ[text]


@pytest.mark.parametrize("text", LEFT)
def test_everything_else_is_left_to_the_model(text: str) -> None:
    assert read_description(text) == ""


def test_the_sea_may_refer_to_what_was_said_before() -> None:
    assert read_description("Draw the sea at night", is_first=False) == ""
    assert read_description("Draw a fox by the sea", is_first=False) == "a fox by the sea"
