"""Drawing one picture at a time."""

from __future__ import annotations

from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, ImageResult, draw
from mgem_agent.tools.one_by_one import OneByOne
from mgem_agent.tools.spending import costs_money


def test_the_next_picture_is_not_begun_before_it_is_asked_for() -> None:
    generator = FlatColourGenerator(size=(32, 32))
    events = draw(OneByOne(generator), [ImageRequest(prompt=name, seed=1) for name in ("a", "b")])
    first = next(event for event in events if isinstance(event, ImageResult))
    assert (first.request.prompt, generator.num_batches) == ("a", 1)
    assert [event.request.prompt for event in events if isinstance(event, ImageResult)] == ["b"]


def test_the_pictures_and_the_name_are_those_of_the_other_generator() -> None:
    generator = FlatColourGenerator(size=(32, 32))
    one, both = OneByOne(generator), [ImageRequest(prompt=name, seed=1) for name in ("a", "b")]
    drawn = [event.image for event in draw(one, both) if isinstance(event, ImageResult)]
    together = [event.image for event in draw(generator, both) if isinstance(event, ImageResult)]
    assert drawn == together and one.name == "flat" and not costs_money(one)
    one.unload()
