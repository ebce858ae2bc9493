"""Scenes whose things are on the grid of the latents, and their captions."""

import numpy as np
import pytest

from mgem_agent.recipes.nano.drawing.aligned_scenes import (
    SIZES,
    aligned_pixels,
    aligned_scene,
    draw_aligned,
    thing_cover,
)

PAIRS = [aligned_scene(0, index) for index in range(60)]


def test_boxes_of_things_are_on_the_grid_and_in_the_picture() -> None:
    for scene, _ in PAIRS:
        for thing in scene.objects:
            assert round(thing.size * 128) in SIZES and not thing.is_mirrored
            edges = np.array([thing.x - thing.size / 2, thing.y - thing.size / 2])
            assert edges * 32 == pytest.approx(np.round(edges * 32))
            assert (edges >= 0).all() and (edges + thing.size <= 1).all()


def test_a_caption_may_leave_out_a_plain_ground() -> None:
    assert any(not {"on", "in", "at", "under"} & set(words.split()) for _, words in PAIRS)


def test_pixels_are_those_of_the_pictures(drawn_assets) -> None:
    scenes = [scene for scene, _ in PAIRS[:2]]
    pixels = aligned_pixels(scenes, drawn_assets, 64)
    assert pixels.shape == (2, 3, 64, 64)
    picture = np.asarray(draw_aligned(scenes[0], drawn_assets, 64))
    assert np.array_equal(((pixels[0] + 1) * 127.5).round().permute(1, 2, 0), picture)


def test_things_are_covered_and_the_ground_is_not(drawn_assets) -> None:
    scene = next(scene for scene, _ in PAIRS if scene.background == "plain pink" and scene.layout == "one")
    cover = np.asarray(thing_cover(scene, draw_aligned(scene, drawn_assets, 128))) / 255
    thing = scene.objects[0]
    left, top, right, bottom = (
        round(128 * edge)
        for edge in (
            thing.x - thing.size / 2,
            thing.y - thing.size / 2,
            thing.x + thing.size / 2,
            thing.y + thing.size / 2,
        )
    )
    inside = cover[top:bottom, left:right]
    assert inside.mean() > 0.3
    assert cover.sum() == inside.sum()
