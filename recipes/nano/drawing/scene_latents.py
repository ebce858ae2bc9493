"""Shards of encoded scenes, from which the denoiser learns.

    python -m mgem_agent.recipes.nano scene_latents FOLDER autoencoder=FOLDER [key=value …]

A shard has the latents of scenes, the tokens of their captions, and where their things are. Shards are written in the
background while the denoiser trains; when the folder is full, the oldest are replaced, so that scenes are always new.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image, ImageChops
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.drawing.cell_tokenizer import CellGrid, cell_tokenizer
from mgem_agent.recipes.nano.drawing.vocabulary import nano_vocabulary
from mgem_agent.recipes.nano.world.backdrops import paint_backdrop
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import Scene, sample_scene
from mgem_agent.recipes.nano.world.scene_captions import caption, things_of
from mgem_agent.recipes.nano.world.scene_rendering import render_scene

__all__ = ["SceneLatents", "SceneLatentsConfig", "scene_of", "write_scene_latents"]

_BARE_GROUNDS = ("meadow", "plain blue")
_BARE_SHARE = 0.5
"""Share of the scenes on these grounds whose caption does not name the ground."""
_SEEN = 16
"""Least difference of a pixel's value from the background where there is a thing."""


class SceneLatentsConfig(BaseModel):
    """Settings of the recipe `scene_latents`.

    Attributes:
        autoencoder: Folder of the trained autoencoder.
        num_shards: Total number of shards. An interrupted run continues with the next one.
        kept_shards: Shards to keep.
        shard_size: Scenes in a shard.
        image_px: Side of the scenes.
        seed: Seed of the scenes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    autoencoder: str
    num_shards: int = Field(default=200, ge=1)
    kept_shards: int = Field(default=60, ge=1)
    shard_size: int = Field(default=1024, ge=1)
    image_px: int = Field(default=128, ge=16)
    seed: int = Field(default=0, ge=0)


def scene_of(seed: int, index: int) -> tuple[Scene, str]:
    """Return a scene that the denoiser learns from, and its caption. Things are not mirrored."""
    scene = sample_scene(seed, index, kind="varied")
    scene = replace(scene, objects=tuple(replace(thing, is_mirrored=False) for thing in scene.objects))
    chance = random.Random(seed * 1_000_003 + index)
    if scene.background in _BARE_GROUNDS and chance.random() < _BARE_SHARE:
        return scene, things_of(scene, chance)
    return scene, caption(scene, chance)


def write_scene_latents(folder: str | Path, config: SceneLatentsConfig, assets: EmojiAssets) -> Path:
    """Write shards and return their folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder: Any = AutoencoderTiny.from_pretrained(config.autoencoder, dtype=torch.float32).eval()
    autoencoder.to(memory_format=torch.channels_last)
    tokenizer = cell_tokenizer(nano_vocabulary(), CellGrid())
    done = [int(file.stem) for file in folder.glob("*.npz")]
    for number in range(max(done, default=-1) + 1, config.num_shards):
        first = number * config.shard_size
        pairs = [scene_of(config.seed, index) for index in range(first, first + config.shard_size)]
        parts = [_encoded([scene for scene, _ in pairs[start : start + 64]], autoencoder, assets, config.image_px)
                 for start in range(0, len(pairs), 64)]  # fmt: skip
        captions = tokenizer([words for _, words in pairs], padding="max_length", truncation=True)["input_ids"]
        part = folder / f"{number}.part"
        with part.open("wb") as file:
            np.savez(
                file,
                latents=np.concatenate([latents for latents, _ in parts]),
                covered=np.concatenate([covered for _, covered in parts]),
                captions=np.asarray(captions, np.int16),
                numbers=np.asarray([len({thing.concept for thing in scene.objects}) for scene, _ in pairs], np.int8),
            )
        os.replace(part, folder / f"{number}.npz")
        (folder / f"{number - config.kept_shards}.npz").unlink(missing_ok=True)
    return folder


@torch.no_grad()
def _encoded(
    scenes: list[Scene], autoencoder: Any, assets: EmojiAssets, size_px: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return (B, c, h, h) scaled latents of scenes, and (B, h, h) how far their things cover them, from 0 to 255."""
    drawn = [_with_cover(scene, assets, size_px) for scene in scenes]
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture, _ in drawn]))
    pixels = (pixels.permute(0, 3, 1, 2) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        latents = autoencoder.encode(pixels).latents.float() * autoencoder.config.scaling_factor
    side = latents.shape[-1]
    covers = np.stack([np.asarray(cover.resize((side, side), Image.Resampling.BOX)) for _, cover in drawn])
    return latents.half().contiguous().numpy(), covers


def _with_cover(scene: Scene, assets: EmojiAssets, size_px: int) -> tuple[Image.Image, Image.Image]:
    """Return the picture of a scene, and where it differs from its background."""
    empty = paint_backdrop(scene.background, scene.seed, size_px)
    picture = render_scene(scene, assets, size_px)
    wrong = ImageChops.difference(picture, empty).convert("L").point([255 * (value > _SEEN) for value in range(256)])
    return picture, wrong


class SceneLatents:
    """Batches from a folder of shards, which may change while it is read.

    Args:
        folder: The folder.
        kept: Shards to hold in memory.
    """

    def __init__(self, folder: str | Path, kept: int = 60) -> None:
        self._folder = Path(folder)
        self._kept = kept
        self._shards: dict[int, dict[str, np.ndarray[Any, Any]]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read new shards.

        Raises:
            InputError: If there is none.
        """
        there = sorted(int(file.stem) for file in self._folder.glob("*.npz"))[-self._kept :]
        for number in set(self._shards) - set(there):
            del self._shards[number]
        for number in there:
            if number not in self._shards:
                with np.load(self._folder / f"{number}.npz") as shard:
                    self._shards[number] = {name: shard[name] for name in shard.files}
        if not self._shards:
            raise InputError(f"There are no scenes in {str(self._folder)!r}. Write them with the recipe scene_latents.")

    def batch(self, chance: np.random.Generator, num: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B, c, h, h) latents, (B, h, h) coverage from 0 to 1, and (B, L) tokens of random scenes."""
        numbers = list(self._shards)
        picked = []
        for which in chance.integers(len(numbers), size=num):
            shard = self._shards[numbers[which]]
            row = int(chance.integers(len(shard["latents"])))
            picked.append((shard["latents"][row], shard["covered"][row], shard["captions"][row]))
        latents, covered, captions = (np.stack(part) for part in zip(*picked, strict=True))
        return (
            torch.from_numpy(latents.astype(np.float32)),
            torch.from_numpy(covered.astype(np.float32) / 255),
            torch.from_numpy(captions.astype(np.int64)),
        )
