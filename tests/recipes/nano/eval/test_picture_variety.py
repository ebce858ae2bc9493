"""Variety by seed and positions, for generators that have both, either or neither."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from mgem_agent.recipes.nano.eval import picture_variety
from mgem_agent.recipes.nano.eval.picture_variety import measure_variety
from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.nouns import with_article
from mgem_agent.recipes.nano.world.scene import Scene, SceneObject
from mgem_agent.recipes.nano.world.scene_rendering import render_scene
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult


class Painter(FlatColourGenerator):
    """Draws what a function returns."""

    def __init__(self, paint: Callable[[ImageRequest], Image.Image]) -> None:
        super().__init__(size=(64, 64))
        self._paint = paint

    def generate(self, requests: Sequence[ImageRequest], **options: Any) -> Iterator[GenerationProgress | ImageResult]:
        for event in super().generate(requests, **options):
            yield replace(event, image=self._paint(event.request)) if isinstance(event, ImageResult) else event


class Pixels:
    """Encodes a picture as its own pixels."""

    def features(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        rows = [list(picture.resize((8, 8)).convert("L").tobytes()) for picture in pictures]
        return torch.tensor(rows, dtype=torch.float32)


def placed(prompt: str, assets: EmojiAssets, *, exchanged: bool) -> Image.Image:
    """Return the scene that a caption with a position describes, or the one with both things exchanged."""
    relation, places = next((words, places) for words, places in picture_variety.PLACED_PAIRS if f" {words} " in prompt)
    names = {with_article(concept.name): concept.name for concept in load_concepts()}
    first, rest = prompt.split(f" {relation} ")
    second = max((name for name in names if rest.startswith(name)), key=len)
    ground = next(each.name for each in BACKGROUNDS if rest[len(second) + 1 :] == each.phrases[0])
    things = (names[second], names[first]) if exchanged else (names[first], names[second])
    objects = tuple(SceneObject(name, *place) for name, place in zip(things, places, strict=True))
    return render_scene(Scene(1, ground, objects=objects), assets, 64)


@pytest.mark.parametrize("exchanged", [False, True])
def test_positions_are_compared_with_the_caption(drawn_assets: EmojiAssets, exchanged: bool) -> None:
    def paint(request: ImageRequest) -> Image.Image:
        if any(f" {words} " in request.prompt for words, _ in picture_variety.PLACED_PAIRS):
            return placed(request.prompt, drawn_assets, exchanged=exchanged)
        return Image.new("RGB", (64, 64), (40, 90, 160))

    found = measure_variety(Painter(paint), Pixels(), drawn_assets, num_seeds=2, num_placed=6)
    assert found.placed.num == 6
    assert found.placed.num_right == (0 if exchanged else 6)
    assert found.share == pytest.approx(0, abs=1e-5)


def test_real_scenes_vary(drawn_assets: EmojiAssets) -> None:
    first, again, other = (
        picture_variety.real_scene(("cat", "dog"), "meadow", each, drawn_assets, 32) for each in (1, 1, 2)
    )
    assert first.tobytes() == again.tobytes() != other.tobytes()
