"""Shards of encoded scenes, from which the denoiser learns.

    python -m mgem_agent.recipes.nano scene_latents FOLDER autoencoder=FOLDER [key=value …]

A shard has the latents of scenes and their layouts, the tokens of their captions, and where their things are. Shards
are written in the background while the denoiser trains; when the folder is full, the oldest are replaced, so that
scenes are always new.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mgem_agent.errors import InputError
from mgem_agent.recipes.nano.drawing.aligned_scenes import aligned_scenes, as_pixels, draw_aligned, thing_cover
from mgem_agent.recipes.nano.drawing.layout_latents import SceneLayouts, encode_looks
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import Scene
from mgem_agent.recipes.train.precision import bf16_where_fast

__all__ = ["SceneLatents", "SceneLatentsConfig", "write_scene_latents"]


class SceneLatentsConfig(BaseModel):
    """Settings of the recipe `scene_latents`.

    Attributes:
        autoencoder: Folder of the autoencoder that the recipe `layout_encoder` wrote.
        num_shards: Total number of shards. An interrupted run continues with the next one.
        kept_shards: Shards to keep.
        shard_size: Scenes in a shard.
        image_px: Side of the scenes.
        seed: Seed of the scenes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    autoencoder: str
    num_shards: int = Field(default=200, ge=1)
    kept_shards: int = Field(default=120, ge=1)
    shard_size: int = Field(default=1024, ge=1)
    image_px: int = Field(default=128, ge=16)
    seed: int = Field(default=0, ge=0)


def write_scene_latents(folder: str | Path, config: SceneLatentsConfig, assets: EmojiAssets) -> Path:
    """Write shards and return their folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder: Any = AutoencoderTiny.from_pretrained(config.autoencoder, dtype=torch.float32).eval()
    autoencoder.to(memory_format=torch.channels_last)
    layouts = SceneLayouts(assets)
    done = [int(file.stem) for file in folder.glob("*.npz")]
    for number in range(max(done, default=-1) + 1, config.num_shards):
        pairs = aligned_scenes(config.seed, number * config.shard_size, config.shard_size)
        captions = layouts.tokens(pairs)
        parts = [_encoded([scene for scene, _ in pairs[start : start + 64]], autoencoder, assets, config.image_px)
                 for start in range(0, len(pairs), 64)]  # fmt: skip
        part = folder / f"{number}.part"
        with part.open("wb") as file:
            np.savez(
                file,
                latents=np.concatenate([latents for latents, _ in parts]),
                layouts=layouts.of(pairs, captions, parts[0][0].shape[-1]).half().numpy(),
                covered=np.concatenate([covered for _, covered in parts]),
                captions=np.asarray(captions, np.int32),
                sizes=np.asarray([_size(scene) for scene, _ in pairs], np.float16),
            )
        os.replace(part, folder / f"{number}.npz")
        (folder / f"{number - config.kept_shards}.npz").unlink(missing_ok=True)
    return folder


def _size(scene: Scene) -> float:
    """Return the size of a scene's thing, or 0 if it has several."""
    return scene.objects[0].size if len(scene.objects) == 1 else 0.0


@torch.no_grad()
def _encoded(
    scenes: list[Scene], autoencoder: Any, assets: EmojiAssets, size_px: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return (B, c, h, h) scaled latents of scenes, and (B, h, h) how far their things cover them, from 0 to 255."""
    drawn = [draw_aligned(scene, assets, size_px) for scene in scenes]
    pixels = as_pixels(drawn)
    with bf16_where_fast("cpu"):
        latents = encode_looks(autoencoder, pixels).float() * autoencoder.config.scaling_factor
    side = latents.shape[-1]
    covers = [thing_cover(scene, picture).resize((side, side), Image.Resampling.BOX)
              for scene, picture in zip(scenes, drawn, strict=True)]  # fmt: skip
    return latents.half().contiguous().numpy(), np.stack([np.asarray(cover) for cover in covers])


class SceneLatents:
    """Batches from a folder of shards, which may change while it is read.

    Args:
        folder: The folder.
        kept: Shards to hold in memory.
    """

    def __init__(self, folder: str | Path, kept: int = 120) -> None:
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

    def batch(self, chance: np.random.Generator, num: int, least_size: float = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B, c + 6, h, h) latents with layouts, (B, h, h) coverage from 0 to 1, and (B, L) tokens.

        Args:
            chance: Random generator.
            num: Number of scenes.
            least_size: Least size of the thing; above 0, there is one thing in each scene.
        """
        numbers = list(self._shards)
        picked = []
        for which in chance.integers(len(numbers), size=num):
            shard = self._shards[numbers[which]]
            rows = np.flatnonzero(shard["sizes"] >= least_size)
            row = int(rows[chance.integers(len(rows))])
            latents = np.concatenate([shard["latents"][row], shard["layouts"][row]])
            picked.append((latents, shard["covered"][row], shard["captions"][row]))
        latents, covered, captions = (np.stack(part) for part in zip(*picked, strict=True))
        return (
            torch.from_numpy(latents.astype(np.float32)),
            torch.from_numpy(covered.astype(np.float32) / 255),
            torch.from_numpy(captions.astype(np.int64)),
        )
