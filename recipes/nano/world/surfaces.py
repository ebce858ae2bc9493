"""Painting of patterns that show nothing: gradients, noise, blurs, stripes and patches of colour.

A model that only ever sees things names a thing in any picture. These pictures teach it to say that it cannot tell.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from mgem_agent.recipes.nano.world.scene_parts import INK_COLOURS, Surface

__all__ = ["paint_surface"]

_SIDE = 128  # painted at one size, so that a pattern looks the same at every size


def paint_surface(surface: Surface, seed: int, side_px: int) -> Image.Image:
    """Paint a pattern.

    Args:
        surface: The pattern and its colours.
        seed: Seed of its details.
        side_px: Width and height.

    Returns:
        The picture, RGB.
    """
    rng = np.random.default_rng(seed)
    share = _PATTERNS[surface.pattern](rng)  # (side, side, 1 or 3), how much of the second colour
    first, second = (_varied(INK_COLOURS[colour], rng) for colour in surface.colours)
    pixels = first * (1 - share) + second * share
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if surface.pattern == "noise" and rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 2))))
    return image.resize((side_px, side_px), Image.Resampling.BICUBIC)


def _varied(colour: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    return np.asarray(colour) + rng.uniform(-25, 25, 3)


def _slope(rng: np.random.Generator) -> np.ndarray:
    """Return a plane from 0 to 1 in some direction, (side, side)."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-1, 1, _SIDE)
    plane = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]
    return (plane - plane.min()) / (plane.max() - plane.min())


def _gradient(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.3:  # round
        axis = np.linspace(0, 1, _SIDE)
        x, y = rng.uniform(0.2, 0.8, 2)
        distance = np.hypot(axis[None, :] - x, axis[:, None] - y)
        return (distance / distance.max())[..., None]
    return (_slope(rng) ** rng.uniform(0.6, 1.6))[..., None]


def _noise(rng: np.random.Generator) -> np.ndarray:
    channels = 3 if rng.random() < 0.5 else 1
    return 0.5 + rng.uniform(0.2, 0.8) * rng.standard_normal((_SIDE, _SIDE, channels))


def _soft(rng: np.random.Generator, cells: int, channels: int) -> np.ndarray:
    """Return smooth random spots from 0 to 1, (side, side, channels)."""
    layers = []
    for _ in range(channels):
        coarse = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
        layers.append(np.asarray(coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)))
    return np.stack(layers, -1)


def _blur(rng: np.random.Generator) -> np.ndarray:
    spots = _soft(rng, int(rng.integers(3, 9)), 3 if rng.random() < 0.6 else 1)
    if rng.random() < 0.5:  # finer detail, as in a photograph out of focus
        spots = spots + 0.4 * (_soft(rng, int(rng.integers(10, 24)), 1) - 0.5)
    return 0.5 + rng.uniform(0.9, 1.8) * (spots - 0.5)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    waves = np.sin(2 * np.pi * _slope(rng) * rng.uniform(3, 24) + rng.uniform(0, 6))
    return ((waves > 0) if rng.random() < 0.5 else (waves + 1) / 2).astype(float)[..., None]


def _patches(rng: np.random.Generator) -> np.ndarray:
    cells = int(rng.integers(4, 20))
    coarse = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((_SIDE, _SIDE), Image.Resampling.NEAREST))[..., None]


_PATTERNS = {"gradient": _gradient, "noise": _noise, "blur": _blur, "stripes": _stripes, "patches": _patches}
