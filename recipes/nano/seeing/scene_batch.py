"""Training batches of the encoders: scenes of one kind, their captions and their regions."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from mgem_agent.recipes.nano.seeing.encoders_config import EncodersConfig
from mgem_agent.recipes.nano.seeing.scene_regions import RegionBatch, cut_window, region_batch
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.nouns import joined_with_and
from mgem_agent.recipes.nano.world.scene import SceneKind, Split, sample_scene
from mgem_agent.recipes.nano.world.scene_captions import caption, place_of
from mgem_agent.recipes.nano.world.scene_rendering import scene_pixels

__all__ = ["batch_kinds", "cut_out", "scene_batch"]

_KINDS: dict[str, tuple[SceneKind, ...]] = {
    "low": ("drawable", "any"),
    "high": ("page", "any", "page", "page"),  # its task is reading, which takes longest to learn
    "both": ("page", "drawable", "page", "any"),
}


def batch_kinds(config: EncodersConfig) -> tuple[SceneKind, ...]:
    """Return the kinds of scenes in the order of the batches."""
    return _KINDS[config.towers]


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """Pictures and their captions.

    Attributes:
        kind: Kind of the scenes.
        pixels: (B, 3, H, H) normalised like CLIP's, at high resolution.
        captions: B captions.
        regions: Regions of the scenes.
        windows: (B, 4) left, top, right and bottom of the ConvNeXt's window, from 0 to 1.
        window_captions: B captions of the windows.
    """

    kind: SceneKind
    pixels: Tensor
    captions: list[str]
    regions: RegionBatch
    windows: Tensor
    window_captions: list[str]

    def to(self, device: torch.device) -> SceneBatch:
        """Return the batch with its tensors on a device."""
        return replace(
            self,
            pixels=self.pixels.to(device),
            regions=self.regions.to(device),
            windows=self.windows.to(device),
        )


def scene_batch(step: int, config: EncodersConfig, assets: EmojiAssets, *, split: Split = "train") -> SceneBatch:
    """Return the batch of a step, with one kind of scene.

    The ConvNeXt gets mostly pages of printed words, which can only be matched by reading.
    """
    kinds = batch_kinds(config)
    kind = kinds[step % len(kinds)]
    first = step * config.batch_size
    scenes = [sample_scene(config.seed, first + row, kind=kind, split=split) for row in range(config.batch_size)]
    captions = [caption(scene, random.Random(first + row), style="plain") for row, scene in enumerate(scenes)]
    pixels = (scene_pixels(scenes, assets, config.high_res_px) + 1) / 2
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    chance = random.Random(f"{config.seed}/{step}")
    regions = region_batch(scenes, chance)
    windows = torch.tensor(
        [_window(boxes, labels, config, chance) for boxes, labels in zip(regions.boxes, regions.labels, strict=True)]
    )
    window_captions = []
    _, is_inside = cut_window(regions.boxes, windows)
    for row, scene in enumerate(scenes):
        inside = [regions.phrases[label] for label in regions.labels[row][is_inside[row] & (regions.labels[row] >= 0)]]
        seen = joined_with_and(list(dict.fromkeys(inside)))
        window_captions.append(f"{seen} {place_of(scene, chance)}" if seen else captions[row])
    return SceneBatch(kind, (pixels - mean) / std, captions, regions, windows, window_captions)


def _window(boxes: Tensor, labels: Tensor, config: EncodersConfig, chance: random.Random) -> list[float]:
    """Return a window around the smallest region or around any.

    Args:
        boxes: (k, 4) of a picture's regions.
        labels: (k,) -100 where there is no region.
        config: Sizes.
        chance: Random generator.
    """
    side = config.window_px / config.high_res_px
    there = sorted(boxes[labels >= 0].tolist(), key=lambda box: box[3] - box[1])
    box = [0.5] * 4 if not there else there[0] if chance.random() < 0.5 else chance.choice(there)
    corner = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        place = low - (side - (high - low)) * chance.random()
        corner.append(min(max(round(place * config.high_res_px) / config.high_res_px, 0.0), 1 - side))
    return [*corner, corner[0] + side, corner[1] + side]


def cut_out(pixels: Tensor, windows: Tensor) -> Tensor:
    """Return the windows of pictures, (B, 3, w, w) of (B, 3, H, H)."""
    side = pixels.shape[-1]
    edges = (windows * side).round().int().tolist()
    cut = [
        picture[:, top:bottom, left:right] for picture, (left, top, right, bottom) in zip(pixels, edges, strict=True)
    ]
    return torch.stack(cut)
