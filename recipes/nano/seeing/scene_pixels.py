"""Scenes as a batch of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene_parts import Scene
from mgem_agent.recipes.nano.world.scene_rendering import render_scene

__all__ = ["scene_pixels"]


def scene_pixels(scenes: Sequence[Scene], assets: EmojiAssets, size_px: int) -> Tensor:
    """Draw scenes.

    Args:
        scenes: B scenes.
        assets: The pictures of their things.
        size_px: Width and height H of the pictures.

    Returns:
        (B, 3, H, H) from -1 to 1, channels last.
    """
    pictures = np.stack([np.asarray(render_scene(scene, assets, size_px=size_px)) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
