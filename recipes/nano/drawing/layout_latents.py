"""Latents that say where the parts of a thing are, besides those that say what they look like.

Six more channels describe each position: whether it belongs to a thing, to which one in the order of the caption, and
where it is in that thing's box, as cosines of the horizontal and the vertical position. The denoiser draws them with
the looks. They are smooth, so they are decided first, and the cell of the caption to copy is then a function of one
position, instead of the whole picture. The decoder ignores them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image, ImageFilter
from torch import Tensor

from mgem_agent.recipes.nano.drawing.cell_tokenizer import CellGrid, cell_tokenizer
from mgem_agent.recipes.nano.drawing.vocabulary import nano_vocabulary
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import Scene, SceneObject
from mgem_agent.recipes.nano.world.sprites import Sprites

__all__ = [
    "NUM_LAYOUT_CHANNELS",
    "SceneLayouts",
    "caption_order",
    "encode_looks",
    "layout_latents",
    "with_layout_channels",
]

NUM_LAYOUT_CHANNELS = 6
"""Cosines of once and twice the horizontal angle, the same of the vertical one, the coverage, the order."""

_COVERED = 4
"""Least opacity, of 255, that belongs to a thing."""


class SceneLayouts:
    """The layouts of scenes with their captions.

    Args:
        assets: The pictures of things.
    """

    def __init__(self, assets: EmojiAssets) -> None:
        vocabulary = nano_vocabulary()
        self._assets, self._grid = assets, CellGrid()
        self._tokenizer = cell_tokenizer(vocabulary, self._grid)
        self._names = [thing.name for thing in vocabulary.things]

    def tokens(self, pairs: Sequence[tuple[Scene, str]]) -> list[list[int]]:
        """Return the tokens of each caption, padded to the same length.

        Args:
            pairs: Scenes with their captions.
        """
        encoded: Any = self._tokenizer([words for _, words in pairs], padding="max_length", truncation=True)
        found: list[list[int]] = encoded["input_ids"]
        return found

    def of(self, pairs: Sequence[tuple[Scene, str]], tokens: Sequence[Sequence[int]], side: int) -> Tensor:
        """Return (B, 6, h, h) the layouts of B scenes; h is `side`.

        Args:
            pairs: Scenes with their captions.
            tokens: The tokens of the captions, from `tokens`.
            side: Latents along the side of a picture.
        """
        orders = [
            caption_order(scene, row, self._grid, self._names) for (scene, _), row in zip(pairs, tokens, strict=True)
        ]
        found = [
            torch.from_numpy(layout_latents(scene, order, self._assets, side))
            for (scene, _), order in zip(pairs, orders, strict=True)
        ]
        return torch.stack(found)


def caption_order(scene: Scene, tokens: Sequence[int], grid: CellGrid, names: Sequence[str]) -> dict[str, float]:
    """Return the place of each concept of a scene in its caption, from -1 for the first to 1 for the last.

    A concept that is alone in its scene is at 0.

    Args:
        scene: The scene.
        tokens: The tokens of its caption.
        grid: The grid of the tokenizer.
        names: Names of all things, in the order of the vocabulary.
    """
    concepts = {thing.concept for thing in scene.objects}
    places = {token: place for place, token in reversed(list(enumerate(tokens)))}
    first = {each: places.get(grid.first_token(names.index(each), len(names)), len(tokens)) for each in concepts}
    ordered = sorted(concepts, key=lambda each: first[each])
    if len(ordered) == 1:
        return {ordered[0]: 0.0}
    return {each: -1 + 2 * number / (len(ordered) - 1) for number, each in enumerate(ordered)}


def layout_latents(
    scene: Scene, order: dict[str, float], assets: EmojiAssets, side: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return (6, h, h) where the things of a scene are; h is `side`.

    Args:
        scene: A scene of aligned things, the front one last.
        order: The value of each concept for the last channel, from `caption_order`.
        assets: The pictures of things.
        side: Latents along the side of the picture.
    """
    layout = np.zeros((NUM_LAYOUT_CHANNELS, side, side), np.float32)
    layout[4] = -1
    for thing in scene.objects:
        _add(layout, thing, order[thing.concept], assets)
    return layout


def _add(layout: np.ndarray[Any, np.dtype[np.float32]], thing: SceneObject, order: float, assets: EmojiAssets) -> None:
    side = layout.shape[-1]
    middles = (np.arange(side) + 0.5) / side
    across = (middles - thing.x) / thing.size + 0.5
    down = (middles - thing.y) / thing.size + 0.5
    is_in = (abs(across - 0.5) < 0.5)[None, :] & (abs(down - 0.5) < 0.5)[:, None]
    is_in &= _silhouette(thing, assets, side)
    for first, axis in ((0, across[None, :]), (2, down[:, None])):
        for turns in (1, 2):
            channel = first + turns - 1
            layout[channel] = np.where(is_in, np.cos(math.pi * turns * axis), layout[channel])
    layout[4][is_in] = 1
    layout[5][is_in] = order


def _silhouette(thing: SceneObject, assets: EmojiAssets, side: int) -> np.ndarray[Any, Any]:
    """Return (h, h) whether a thing is at or next to each position."""
    fine = 4 * side
    sprite = Sprites.of(assets).scaled(thing.concept, max(2, round(thing.size * fine)), thing.is_mirrored)
    cover = Image.new("L", (fine, fine))
    bottom = round((thing.y + thing.size / 2) * fine)
    cover.paste(sprite.getchannel("A"), (round(thing.x * fine - sprite.width / 2), bottom - sprite.height))
    small = cover.resize((side, side), Image.Resampling.BOX).point([255 * (value >= _COVERED) for value in range(256)])
    return np.asarray(small.filter(ImageFilter.MaxFilter(3))) > 0


def encode_looks(autoencoder: Any, pixels: Tensor) -> Tensor:
    """Return (B, c, h, h) the latents of B pictures without those of the layout.

    Args:
        autoencoder: An `AutoencoderTiny` with c + 6 channels of latents.
        pixels: (B, 3, H, H) the pictures, from -1 to 1.
    """
    latents: Tensor = autoencoder.encode(pixels).latents
    return latents[:, :-NUM_LAYOUT_CHANNELS]


@torch.no_grad()
def with_layout_channels(autoencoder: Any) -> Any:
    """Return an autoencoder with the channels of a layout; its encoder sets them to 0, its decoder ignores them.

    Args:
        autoencoder: An `AutoencoderTiny` with c channels of latents.
    """
    old = autoencoder.config.latent_channels
    wide: Any = AutoencoderTiny.from_config({**autoencoder.config, "latent_channels": old + NUM_LAYOUT_CHANNELS})
    weights = autoencoder.state_dict()
    for name, value in wide.state_dict().items():
        if value.shape != weights[name].shape:
            padded = torch.zeros_like(value)
            padded[tuple(slice(size) for size in weights[name].shape)] = weights[name]
            weights[name] = padded
    wide.load_state_dict(weights)
    return wide.requires_grad_(False).eval()
