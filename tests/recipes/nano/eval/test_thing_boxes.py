"""Things are found in layouts, and in pictures by an encoder of layouts."""

from __future__ import annotations

import numpy as np
import pytest

from mgem_agent.recipes.nano.drawing.layout_latents import layout_latents
from mgem_agent.recipes.nano.eval.thing_boxes import ThingFinder, boxes_of
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import Scene, SceneObject


def layout(assets: EmojiAssets, *things: tuple[float, float, float]) -> np.ndarray:
    objects = tuple(SceneObject("fox", *thing) for thing in things)
    return layout_latents(Scene(seed=0, background="meadow", layout="two", objects=objects), {"fox": 0.0}, assets, 32)


@pytest.mark.parametrize(
    "things",
    [
        [(0.5, 0.5, 0.6)],
        [(0.25, 0.6, 0.4), (0.75, 0.6, 0.4)],
        [(0.2, 0.7, 0.3), (0.5, 0.7, 0.3), (0.8, 0.7, 0.3)],
        [(0.5, 0.25, 0.4), (0.5, 0.75, 0.4)],
        [(0.35, 0.5, 0.5), (0.7, 0.5, 0.5)],  # the second covers a part of the first
    ],
)
def test_every_thing_has_a_box(drawn_assets: EmojiAssets, things: list[tuple[float, float, float]]) -> None:
    found = boxes_of(layout(drawn_assets, *things))
    assert len(found) == len(things)
    for box, (x, y, size) in zip(found, things, strict=True):
        assert (box[0] + box[2]) / 2 == pytest.approx(x, abs=0.1)
        assert (box[1] + box[3]) / 2 == pytest.approx(y, abs=0.1)
        assert box[3] - box[1] == pytest.approx(size, abs=0.15)


def test_noise_is_not_a_thing(drawn_assets: EmojiAssets) -> None:
    found = layout(drawn_assets, (0.3, 0.6, 0.4))
    assert len(boxes_of(found)) == 1
    found[4, 2, 30] = 1  # one position whose cosines are 0, as in the middle of a box
    assert len(boxes_of(found)) == 1
    assert boxes_of(np.full((6, 32, 32), -1.0)) == []


@pytest.mark.slow
def test_nanos_encoder_counts_composed_things() -> None:
    from mgem_agent.recipes.nano.drawing.aligned_scenes import aligned_scenes, draw_aligned

    assets = EmojiAssets.open()
    finder = ThingFinder()
    right = [
        len(finder.find(draw_aligned(scene, assets, 128))) == len(scene.objects)
        for scene, _ in aligned_scenes(977, 0, 40)
    ]
    assert sum(right) >= 34
