"""Finding the things in a picture of nano's world: their boxes, whatever they are.

The encoder of the generator's autoencoder says for every position whether it belongs to a thing, and where in that
thing's box it is (`layout_latents`). Every connected region of positions near the middle of a box is one thing. This
counts what is in the pixels of any picture in this style, drawn or composed, and does not read the caption.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from mgem_agent.nano.drawing import DIFFUSION_WEIGHTS
from mgem_agent.recipes.nano.drawing.layout_latents import NUM_LAYOUT_CHANNELS

__all__ = ["Box", "ThingFinder", "boxes_of"]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of the picture's sides."""

_PICTURE_PX = 128
_MIDDLE = 0.5
"""Largest cosine of a position in the middle of a box; 1 is its left or top edge, -1 the other."""

_LEAST_POSITIONS = 4
_LEAST_SHARE = 0.3
"""A region smaller than this share of the largest is noise."""

Grid = np.ndarray[Any, np.dtype[np.bool_]]


class ThingFinder:
    """Finds the boxes of things.

    Args:
        folder: Folder of a pipeline whose autoencoder finds layouts; nano's own by default.
    """

    def __init__(self, folder: Path = DIFFUSION_WEIGHTS) -> None:
        self._folder = folder

    @cached_property
    def _autoencoder(self) -> Any:
        from diffusers import AutoencoderTiny

        loaded: Any = AutoencoderTiny.from_pretrained(self._folder, subfolder="vae", torch_dtype=torch.float32)
        return loaded.eval()

    @torch.no_grad()
    def find(self, picture: Image.Image) -> list[Box]:
        """Return the boxes of the things, from left to right.

        Args:
            picture: A picture in nano's style.
        """
        square = picture.convert("RGB").resize((_PICTURE_PX, _PICTURE_PX), Image.Resampling.BICUBIC)
        pixels = transforms.pil_to_tensor(square).float()[None] / 127.5 - 1
        latents = self._autoencoder.encode(pixels).latents[0] * self._autoencoder.config.scaling_factor
        return boxes_of(latents[-NUM_LAYOUT_CHANNELS:].numpy())


def boxes_of(layout: np.ndarray[Any, Any]) -> list[Box]:
    """Return the boxes of the things of a layout, from left to right.

    Args:
        layout: (6, h, h) as `layout_latents` makes it.
    """
    side = layout.shape[-1]
    covered: Grid = layout[4] > 0
    middle: Grid = covered & (abs(layout[0]) < _MIDDLE) & (abs(layout[2]) < _MIDDLE)
    regions = sorted(_regions(middle), key=len, reverse=True)
    least = max(_LEAST_POSITIONS, _LEAST_SHARE * len(regions[0])) if regions else 0
    centres = np.array([np.mean(region, axis=0) for region in regions if len(region) >= least])
    if not len(centres):
        return []
    places = np.argwhere(covered)
    owners = ((places[:, None, :] - centres[None]) ** 2).sum(-1).argmin(1)
    found = []
    for number in range(len(centres)):
        own = places[owners == number]
        (top, left), (bottom, right) = own.min(0), own.max(0) + 1
        found.append((left / side, top / side, right / side, bottom / side))
    return sorted(found)


def _regions(grid: Grid) -> Iterator[list[tuple[int, int]]]:
    """Yield the connected regions of a grid, each as its positions (row, column)."""
    left = {(int(row), int(column)) for row, column in np.argwhere(grid)}
    while left:
        found, ahead = [], [left.pop()]
        while ahead:
            row, column = ahead.pop()
            found.append((row, column))
            near = {(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)} & left
            left -= near
            ahead += near
        yield found
