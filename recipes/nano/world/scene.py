"""Sampling of scenes, before they are drawn.

Scene `index` of a `seed` is always the same and independent of other scenes, so any process can make any scene. A
layout is chosen first and then sampled until it fits the split, so both splits have the same mixture of layouts.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.world.holdout_split import belongs_to_split
from mgem_agent.recipes.nano.world.scene_layouts import (
    ANY_LAYOUTS,
    ASKED_LAYOUTS,
    CHART_LAYOUTS,
    DRAWABLE_LAYOUTS,
    LAYOUTS,
    PAGE_LAYOUTS,
    POSED_LAYOUTS,
    SEVERAL_LAYOUTS,
    UNCLEAR_LAYOUTS,
    VARIED_LAYOUTS,
    posed,
)
from mgem_agent.recipes.nano.world.scene_parts import (
    Chart,
    ChartPart,
    Scene,
    SceneObject,
    SceneShape,
    SceneText,
    Split,
    Surface,
)

__all__ = [
    "Chart",
    "ChartPart",
    "Scene",
    "SceneKind",
    "SceneObject",
    "SceneShape",
    "SceneText",
    "Split",
    "Surface",
    "sample_scene",
]

SceneKind = Literal["any", "drawable", "several", "page", "posed", "varied", "asked", "chart", "unclear"]

_SPLIT_KEYS = {"train": 1, "held_out": 2}
_KIND_KEYS = {
    "any": 1, "drawable": 2, "page": 3, "posed": 4, "several": 5, "varied": 6, "asked": 7, "unclear": 8, "chart": 9,
}  # fmt: skip
_LAYOUTS = {
    "any": ANY_LAYOUTS,
    "drawable": DRAWABLE_LAYOUTS,
    "several": SEVERAL_LAYOUTS,
    "page": PAGE_LAYOUTS,
    "posed": POSED_LAYOUTS,
    "varied": VARIED_LAYOUTS,
    "asked": ASKED_LAYOUTS,
    "chart": CHART_LAYOUTS,
    "unclear": UNCLEAR_LAYOUTS,
}
_MAX_TRIES = 10_000


def sample_scene(seed: int, index: int, *, kind: SceneKind = "any", split: Split = "train") -> Scene:
    """Return a scene.

    Args:
        seed: Seed of a series of scenes, from 0.
        index: Index in the series, from 0.
        kind: "drawable": one or two large things on a background. "posed": the same at one size and position, on a
            background with fixed details; this is the generator's world. "any": also several things, counts, printed
            words, shapes and charts. "several": a few different things. "page": only printed words, many of them.
            "varied": like "drawable", also two or three of one thing. "asked": like "any", with more numbers,
            places and charts. "chart": only charts. "unclear": patterns that show nothing.
        split: "train" or "held_out". The same seed and index give different scenes, and no held-out scene has the
            composition of a training scene.

    Raises:
        InputError: If an argument is not valid.
    """
    if seed < 0 or index < 0 or split not in _SPLIT_KEYS or kind not in _KIND_KEYS:
        raise InputError(
            f"There is no scene {index!r} of seed {seed!r}, kind {kind!r}, split {split!r}. Seed and index are 0 or "
            "more, the kind is 'any', 'drawable', 'several', 'page', 'posed', 'varied', 'asked', 'chart' or 'unclear', "
            "the split 'train' or 'held_out'."
        )
    rng = np.random.default_rng([seed, index, _SPLIT_KEYS[split], _KIND_KEYS[kind]])
    layout = _choose(rng, _LAYOUTS[kind])
    for _ in range(_MAX_TRIES):
        scene = LAYOUTS[layout](rng, layout, split)
        if belongs_to_split(scene):
            return posed(scene) if kind == "posed" else scene
    raise RuntimeError(f"no scene of layout {layout!r} belongs to {split!r}")  # one in twelve pairs does


def _choose(rng: np.random.Generator, weights: dict[str, float]) -> str:
    mark = rng.random() * sum(weights.values())
    for name, weight in weights.items():
        mark -= weight
        if mark < 0:
            return name
    return next(iter(weights))
