"""The scenes that the denoiser learns from: things of a few sizes, at positions on the grid of the latents.

A thing of one size then has the same latents wherever it is, so that the denoiser can copy them from its tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image, ImageChops
from torch import Tensor

from mgem_agent.recipes.nano.world.backdrops import paint_backdrop
from mgem_agent.recipes.nano.world.backgrounds import background_named
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import Scene, SceneObject, sample_scene
from mgem_agent.recipes.nano.world.scene_captions import caption, things_of
from mgem_agent.recipes.nano.world.scene_rendering import draw_thing

__all__ = ["SIZES", "aligned_pixels", "aligned_scene", "aligned_scenes", "as_pixels", "draw_aligned", "thing_cover"]

SIZES = (40, 48, 56, 64, 80, 96)
"""Longer sides of things, in 128ths of the picture's side."""

_GRID = 32
"""Latents along the side of a picture."""
_BARE_GROUNDS = ("meadow", "plain blue")
_BARE_SHARE = 0.5
"""Share of the scenes on these grounds whose caption does not name the ground."""
_SEEN = 16
"""Least difference of a pixel's value from the background where there is a thing."""
_LOWEST_SKY = 0.62
"""Things whose lower edge is above this fraction of the picture float and cast no shadow."""


def aligned_scene(seed: int, index: int) -> tuple[Scene, str]:
    """Return a scene and its caption. Things are not mirrored, and stand on the lower edge of their box."""
    scene = sample_scene(seed, index, kind="varied")
    scene = replace(scene, objects=tuple(map(_aligned, scene.objects)))
    chance = random.Random(seed * 1_000_003 + index)
    if scene.background in _BARE_GROUNDS and chance.random() < _BARE_SHARE:
        return scene, things_of(scene, chance)
    return scene, caption(scene, chance)


def aligned_scenes(seed: int, first: int, num: int) -> list[tuple[Scene, str]]:
    """Return scenes that follow each other in a series, and their captions.

    Args:
        seed: Seed of the series.
        first: Index of the first scene.
        num: Number of scenes.
    """
    return [aligned_scene(seed, index) for index in range(first, first + num)]


def _aligned(thing: SceneObject) -> SceneObject:
    size = min(SIZES, key=lambda side: abs(side / 128 - thing.size)) / 128
    left, top = (_on_grid(middle - size / 2, 1 - size) for middle in (thing.x, thing.y + (thing.size - size) / 2))
    return SceneObject(thing.concept, left + size / 2, top + size / 2, size)


def _on_grid(value: float, highest: float) -> float:
    return round(min(max(value, 0), highest) * _GRID) / _GRID


def draw_aligned(scene: Scene, assets: EmojiAssets, size_px: int) -> Image.Image:
    """Draw a scene, RGB. Wide things are at the lower edge of their box, also where they float."""
    image = paint_backdrop(scene.background, scene.seed, size_px)
    has_ground = background_named(scene.background).has_ground
    for thing in scene.objects:
        has_shadow = has_ground and thing.y + thing.size / 2 > _LOWEST_SKY
        draw_thing(image, thing, assets, stands=True, has_shadow=has_shadow)
    return image


def aligned_pixels(scenes: Sequence[Scene], assets: EmojiAssets, size_px: int) -> Tensor:
    """Return (B, 3, H, H) B drawn scenes, from -1 to 1, channels last; H is `size_px`."""
    return as_pixels([draw_aligned(scene, assets, size_px) for scene in scenes])


def as_pixels(pictures: Sequence[Image.Image]) -> Tensor:
    """Return (B, 3, H, H) pictures of one size, from -1 to 1, channels last."""
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
    return (pixels / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def thing_cover(scene: Scene, picture: Image.Image) -> Image.Image:
    """Return where a scene's picture differs from its background: 255 there, 0 elsewhere."""
    empty = paint_backdrop(scene.background, scene.seed, picture.width)
    different = ImageChops.difference(picture, empty).convert("L")
    return different.point([255 * (value > _SEEN) for value in range(256)])
