"""The layers of a posed scene as pixels: its background, and each of its things alone.

Where a layer is transparent it has a colour outside the range of pictures. So a network sees the coverage without a
fourth channel. The empty layer has this colour everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mgem_agent.recipes.nano.drawing.caption_encoder import fact_sizes
from mgem_agent.recipes.nano.world.backdrops import paint_backdrop
from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS, background_named
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene_layouts import POSES, Pose, backdrop_seed
from mgem_agent.recipes.nano.world.scene_parts import Scene, SceneObject
from mgem_agent.recipes.nano.world.scene_rendering import draw_thing

__all__ = ["SceneLayers"]

_NOTHING = (2.0, 2.0, -2.0)
"""Red, green and blue of transparent pixels; pictures have values from -1 to 1."""


class SceneLayers:
    """The layers of all posed scenes, one for each fact, drawn when first needed.

    Args:
        assets: The pictures of things.
        size_px: Width and height H of the layers.
    """

    def __init__(self, assets: EmojiAssets, size_px: int) -> None:
        self._assets = assets
        self._size_px = size_px
        self._drawn: dict[int, Tensor] = {}
        backgrounds: list[tuple[Pose | None, str]] = [(None, each.name) for each in BACKGROUNDS]
        self._looks = [*backgrounds, *((pose, concept.name) for pose in POSES for concept in load_concepts())]
        self._first = np.cumsum([0, *fact_sizes()[:-1]]).tolist()
        self.nothing = torch.tensor(_NOTHING).view(3, 1, 1).expand(3, size_px, size_px)
        """(3, H, H), the empty layer."""

    def __len__(self) -> int:
        """Return the number of facts, and of layers without the empty one."""
        return len(self._looks)

    def layer(self, fact: int) -> Tensor:
        """Return (3, H, H) the layer of a fact, from -1 to 1 where it is opaque.

        Args:
            fact: Its index: backgrounds first, then things alone, on the left and on the right.
        """
        if fact not in self._drawn:
            pose, name = self._looks[fact]
            self._drawn[fact] = self._background(name) if pose is None else self._thing(SceneObject(name, *POSES[pose]))
        return self._drawn[fact]

    def facts(self, slots: Sequence[int]) -> list[int]:
        """Return the indices of a scene's facts.

        Args:
            slots: Its index for each kind of fact, from `scene_slots`.
        """
        sizes = zip(slots, fact_sizes(), self._first, strict=True)
        return [first + number for number, size, first in sizes if number < size]

    def picture(self, scene: Scene) -> Tensor:
        """Return (3, H, H) a posed scene with all its layers, from -1 to 1; there are shadows if there is ground.

        Without ground, things have the same position, so that each thing has one look.
        """
        image = paint_backdrop(scene.background, scene.seed, self._size_px)
        has_shadow = background_named(scene.background).has_ground
        for thing in scene.objects:
            draw_thing(image, thing, self._assets, stands=True, has_shadow=has_shadow)
        return _pixels(image) / 127.5 - 1

    def _background(self, name: str) -> Tensor:
        return _pixels(paint_backdrop(name, backdrop_seed(name), self._size_px)) / 127.5 - 1

    def _thing(self, thing: SceneObject) -> Tensor:
        """Return a thing and its shadow; rendering on black and on white gives its coverage."""
        seen = []
        for grey in (0, 255):
            image = Image.new("RGB", (self._size_px, self._size_px), (grey, grey, grey))
            draw_thing(image, thing, self._assets, stands=True, has_shadow=True)
            seen.append(_pixels(image) / 255)
        black, white = seen
        shines_through = (white - black).mean(0)
        return 2 * black - (1 - shines_through) + shines_through * self.nothing


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).astype(np.float32)).permute(2, 0, 1)
