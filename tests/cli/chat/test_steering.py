from __future__ import annotations

from pathlib import Path

from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli.chat.steering import SteeredGenerator
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import ImageRequest, ImageResult, draw
from mgem_agent.tools.capabilities import Capabilities


def results(generator: SteeredGenerator, *prompts: str) -> list[ImageResult]:
    events = draw(generator, [ImageRequest(prompt=prompt) for prompt in prompts])
    return [event for event in events if isinstance(event, ImageResult)]


def test_a_style_is_added_once(tmp_path: Path) -> None:
    generator = SteeredGenerator(FlatColourGenerator(size=(32, 32)), ArtifactStore(tmp_path))
    generator.style = "in Ink"
    drawn = results(generator, "a fox.", "a hen, in ink")
    assert [result.executed.prompt for result in drawn] == ["a fox, in Ink", "a hen, in ink"]
    assert [result.request.prompt for result in drawn] == ["a fox.", "a hen, in ink"], "what was asked stays"
    assert generator.name == "flat"


def test_pictures_are_kept_to_by_whole_names(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    picture = store.put_picture(Image.new("RGB", (32, 32), "red"), origin="test").id
    generator = SteeredGenerator(FlatColourGenerator(size=(32, 32)), store)
    generator.references["Tim"] = picture
    drawn = results(generator, "tim, asleep", "a timber house")
    assert [result.executed.references for result in drawn] == [(picture,), ()]


def test_what_the_generator_cannot_keep_to_is_reported(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    picture = store.put_picture(Image.new("RGB", (32, 32), "red"), origin="test").id
    able = Capabilities(tasks=frozenset({"text_to_image"}))
    generator = SteeredGenerator(FlatColourGenerator(size=(32, 32), capabilities=able), store)
    generator.references["Tim"] = picture
    [result] = results(generator, "Tim")
    assert [notice.message for notice in result.notices] == [
        "Generator 'flat' takes 0 reference picture(s), so 'Tim' was left out."
    ]
