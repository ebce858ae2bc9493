"""A stored picture is found by the call that it was drawn for, or by an equal request with its seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mgem_agent.artifacts.drawn_call import call_key, is_drawn_for
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

FOX = ImageRequest(prompt="a fox")
SEEDED = ImageRequest(prompt="a fox", seed=7)


def drawn(request: ImageRequest, call: str | None = None) -> ImageResult:
    [result] = [each for each in draw(FlatColourGenerator(size=(16, 16)), [request]) if isinstance(each, ImageResult)]
    return replace(result, call=call)


def test_a_key_depends_on_everything_that_is_asked() -> None:
    keys = {
        call_key("t", "0.0", FOX),
        call_key("u", "0.0", FOX),
        call_key("t", "0.1", FOX),
        call_key("t", "0.0", SEEDED),
    }
    assert len(keys) == 4 and call_key("t", "0.0", FOX) in keys


def test_a_picture_answers_its_call_and_equal_requests_with_a_seed(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    bare, seeded = store.put(drawn(FOX, "key")), store.put(drawn(SEEDED))
    assert is_drawn_for(bare, "key", FOX, generator="flat")
    assert not is_drawn_for(bare, "another", FOX, generator="flat")
    assert not is_drawn_for(bare, "another", SEEDED, generator="flat")
    assert not is_drawn_for(bare, "key", FOX, generator="other")
    assert is_drawn_for(seeded, "any", SEEDED, generator="flat")
    assert not is_drawn_for(store.put_picture(store.open(bare.id), origin="a file"), "key", FOX, generator="flat")


def test_the_store_finds_pictures_by_their_calls(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.put(drawn(FOX, "first"))
    again = store.put(drawn(FOX, "second"))  # the same picture, drawn for another call
    assert store.get(again.id).call == "second" and len(store.list()) == 1
    asked = {"second": FOX, "third": FOX, "fourth": SEEDED}
    assert store.find_drawn(asked, generator="flat") == {"second": again}
    seeded = store.put(drawn(SEEDED))
    assert store.find_drawn(asked, generator="flat") == {"second": again, "fourth": seeded}
    store.path(again.id).unlink()
    assert store.find_drawn({"second": FOX}, generator="flat") == {}
