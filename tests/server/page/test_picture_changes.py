"""Requests for new versions of a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError, UnsupportedRequestError
from mgem_agent.server.page.picture_changes import edit_of, redraw_of, variations_of
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.tools.image_request import ImageRequest

ABLE = FlatColourGenerator.CAPABILITIES
SEEDS_ONLY = Capabilities(seed=True)


@pytest.fixture
def fox(tmp_path: Path) -> Artifact:
    *_, result = FlatColourGenerator(size=(16, 16)).generate([ImageRequest(prompt="a fox", seed=5)])
    return ArtifactStore(tmp_path).put(result)


@pytest.fixture
def photo(tmp_path: Path) -> Artifact:
    return ArtifactStore(tmp_path).put_picture(Image.new("RGB", (8, 8)), origin="cat.png")


def test_a_redraw_is_the_same_request_unless_something_changes(fox: Artifact) -> None:
    assert fox.recipe is not None
    same = redraw_of(fox, seed=None, new_seed=False)
    assert same.requests == (fox.recipe.request,) and same.is_redraw and same.title == "Drawn again"
    assert redraw_of(fox, seed=9, new_seed=False).requests[0].seed == 9
    assert redraw_of(fox, seed=None, new_seed=True).requests[0].seed != 5
    other = redraw_of(fox, seed=None, new_seed=False, prompt=" a cat ")
    assert other.requests[0].prompt == "a cat" and not other.is_redraw
    with pytest.raises(InputError, match="less than"):
        redraw_of(fox, seed=2**63, new_seed=False)


def test_variations_start_from_the_picture_or_use_other_seeds(fox: Artifact, photo: Artifact) -> None:
    found = variations_of(fox, ABLE, number=3, strength=0.4).requests
    assert {request.image for request in found} == {fox.id} and len({request.seed for request in found}) == 3
    assert {request.strength for request in found} == {0.4}
    by_seed = variations_of(fox, SEEDS_ONLY, number=2, strength=None)
    assert [request.task for request in by_seed.requests] == ["text_to_image"] * 2 and by_seed.notices
    assert variations_of(photo, ABLE, number=1, strength=None).requests[0].prompt == "cat.png"
    with pytest.raises(InputError, match="neither starts from a picture nor uses seeds"):
        variations_of(fox, Capabilities(), number=1, strength=None)
    with pytest.raises(InputError, match="Give 1 to 8"):
        variations_of(fox, ABLE, number=9, strength=None)


@pytest.mark.parametrize(
    ("fields", "task"), [({}, "edit"), ({"strength": 0.5}, "image_to_image"), ({"mask": "img-0123"}, "inpaint")]
)
def test_the_fields_choose_the_way_of_an_edit(fox: Artifact, fields: dict[str, Any], task: str) -> None:
    assert edit_of(fox, ABLE, generator="flat", instruction="make it night", **fields).requests[0].task == task


def test_another_way_is_used_only_if_it_is_allowed(fox: Artifact) -> None:
    change = edit_of(fox, SEEDS_ONLY, generator="flat", instruction="at night", any_way=True)
    assert change.requests[0].prompt == "a fox. at night" and "'redraw' was used" in change.notices[0]
    with pytest.raises(UnsupportedRequestError):
        edit_of(fox, SEEDS_ONLY, generator="flat", instruction="at night")
    with pytest.raises(InputError, match="The instruction is empty"):
        edit_of(fox, ABLE, generator="flat", instruction=" ")
    with pytest.raises(InputError, match="This edit is not possible"):
        edit_of(fox, ABLE, generator="flat", instruction="x", strength=2)


def test_an_imported_picture_cannot_be_redrawn(photo: Artifact) -> None:
    with pytest.raises(InputError, match="was not drawn by mgem"):
        redraw_of(photo, seed=None, new_seed=False)
