from __future__ import annotations

import numpy as np
import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.world.backdrops import paint_backdrop
from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS
from mgem_agent.recipes.nano.world.chart_drawing import chart_label_boxes
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.fonts import font_for_capitals
from mgem_agent.recipes.nano.world.scene import sample_scene
from mgem_agent.recipes.nano.world.scene_layouts import LAYOUTS
from mgem_agent.recipes.nano.world.scene_parts import (
    INK_COLOURS,
    SHAPES,
    SURFACES,
    Chart,
    ChartPart,
    Scene,
    SceneObject,
    SceneShape,
    SceneText,
    Surface,
)
from mgem_agent.recipes.nano.world.scene_rendering import render_scene
from mgem_agent.recipes.nano.world.sprites import Sprites


def test_every_layout_is_drawn_the_same_each_time(assets: EmojiAssets) -> None:
    seen = set()
    for index in range(60):
        scene = sample_scene(0, index)
        if scene.layout in seen:
            continue
        seen.add(scene.layout)
        image = render_scene(scene, assets, 64)
        assert (image.mode, image.size) == ("RGB", (64, 64))
        assert image.tobytes() == render_scene(scene, assets, 64).tobytes()
    assert seen <= set(LAYOUTS) and len(seen) >= 8


@pytest.mark.parametrize("name", [background.name for background in BACKGROUNDS])
def test_a_background_is_alike_at_two_sizes_and_fills_the_picture(name: str) -> None:
    for seed in range(4):
        small = np.asarray(paint_backdrop(name, seed, 32), dtype=float)
        large = np.asarray(paint_backdrop(name, seed, 64).reduce(2), dtype=float)
        assert np.abs(small - large).mean() < 12
        assert (small.sum(axis=-1) > 12).all()  # nothing is left unpainted


def test_a_thing_is_where_the_scene_says(assets: EmojiAssets) -> None:
    empty = Scene(0, "plain white")
    scene = Scene(0, "plain white", objects=(SceneObject("fox", 0.25, 0.25, 0.4),))
    changed = np.asarray(render_scene(scene, assets, 64)) != np.asarray(render_scene(empty, assets, 64))
    rows, columns, _ = np.nonzero(changed)
    assert rows.max() < 32 and columns.max() < 32
    assert 24 <= rows.max() - rows.min() + 1 <= 28  # 0.4 of 64


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_its_colour_in_its_middle(shape: str, assets: EmojiAssets) -> None:
    scene = Scene(0, "plain white", shapes=(SceneShape(shape, "blue", 0.5, 0.5, 0.5),))
    assert render_scene(scene, assets, 64).getpixel((32, 34)) == INK_COLOURS["blue"]


def test_a_small_word_has_letters_of_seven_to_nine_pixels() -> None:
    for height in (7.0, 9.0):
        left, top, right, bottom = font_for_capitals(height).getbbox("H")
        assert abs((bottom - top) - height) <= 1


def test_a_word_stays_within_the_picture(assets: EmojiAssets) -> None:
    text = SceneText("welcome", 0.0, 0.5, 0.1, "large", "black", "white")
    image = np.asarray(render_scene(Scene(0, "plain blue", texts=(text,)), assets, 128))
    is_plate = image.min(axis=-1) > 240
    assert is_plate.any() and not is_plate[:, 0].any()


def test_too_small_a_picture_is_refused(assets: EmojiAssets) -> None:
    with pytest.raises(InputError, match="cannot be drawn at 8 px. Give 16 or more"):
        render_scene(Scene(0, "snow"), assets, 8)


def test_scaled_pictures_are_kept(assets: EmojiAssets) -> None:
    sprites = Sprites.of(assets)
    assert sprites is Sprites.of(assets)
    first = sprites.scaled("fox", 20, False)
    assert sprites.scaled("fox", 20, False) is first
    assert max(first.size) == 20


@pytest.mark.parametrize("pattern", SURFACES)
def test_a_pattern_has_its_seed_s_details_and_both_colours(assets: EmojiAssets, pattern) -> None:
    pictures = []
    for seed in range(4):
        scene = Scene(seed, "plain grey", surface=Surface(pattern, ("red", "blue")))
        image = render_scene(scene, assets, 64)
        assert (image.mode, image.size) == ("RGB", (64, 64))
        assert image.tobytes() == render_scene(scene, assets, 64).tobytes()
        pixels = np.asarray(image, dtype=float)
        assert (pixels[..., 0] > pixels[..., 2]).any() and (pixels[..., 2] > pixels[..., 0]).any()
        pictures.append(image.tobytes())
    assert len(set(pictures)) == 4


@pytest.mark.parametrize("kind", ["bar", "pie"])
def test_the_labels_of_a_chart_are_in_their_boxes(assets: EmojiAssets, kind) -> None:
    labels = (("cats", "dogs", "birds"), ("rain", "wind", "snow"))
    charts = [
        Chart(
            kind,
            tuple(ChartPart(label, 3, colour) for label, colour in zip(row, ("red", "blue", "green"), strict=True)),
        )
        for row in labels
    ]
    first, second = (
        np.asarray(render_scene(Scene(0, "plain white", chart=chart), assets, 256), dtype=float) for chart in charts
    )
    changed = np.abs(first - second).sum(-1) > 60
    assert changed.any()
    for box, other in zip(*map(chart_label_boxes, charts), strict=True):
        left, top = (int(256 * min(a, b)) - 1 for a, b in zip(box[:2], other[:2], strict=True))
        right, bottom = (int(256 * max(a, b)) + 2 for a, b in zip(box[2:], other[2:], strict=True))
        assert changed[top:bottom, left:right].any()
        changed[top:bottom, left:right] = False
    assert not changed.any()  # nothing but the labels differs
