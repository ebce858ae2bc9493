"""Training of an encoder that finds the layout of a picture, besides its looks.

    python -m mgem_agent.recipes.nano layout_encoder FOLDER autoencoder=FOLDER [key=value …]

The denoiser draws a layout with the looks (`layout_latents`). To change a picture that exists, its layout is needed
too. So more blocks are added to the encoder, which see the whole picture, and it learns the layouts of drawn scenes;
the latents of the looks do not change. The result is an `AutoencoderTiny` with six more channels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from pydantic import Field

from mgem_agent.recipes.nano.drawing.aligned_scenes import aligned_pixels, aligned_scenes
from mgem_agent.recipes.nano.drawing.layout_latents import NUM_LAYOUT_CHANNELS, SceneLayouts, with_layout_channels
from mgem_agent.recipes.nano.pretraining import Count, Decay, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.train.config import Precision
from mgem_agent.recipes.train.precision import bf16_where_fast

__all__ = ["LayoutEncoderConfig", "train_layout_encoder", "with_more_blocks"]


class LayoutEncoderConfig(PretrainingConfig):
    """Settings of the recipe `layout_encoder`.

    Attributes:
        autoencoder: Folder of the trained autoencoder.
        more_blocks: Blocks to add to the encoder, at its coarsest resolution.
        looks_weight: Weight of the loss of the looks.
        image_px: Side of the scenes.
        precision: `bf16`, `fp32`, or `auto` for what the hardware does fastest.
    """

    num_steps: Count = 1_500
    batch_size: Count = 16
    learning_rate: Rate = 2e-3
    warmup_steps: int = Field(default=50, ge=0)
    ema_decay: Decay = 0.99
    autoencoder: str
    more_blocks: int = Field(default=8, ge=0)
    looks_weight: float = Field(default=4.0, ge=0)
    image_px: int = Field(default=128, ge=16, multiple_of=8)
    precision: Precision = "auto"


@torch.no_grad()
def with_more_blocks(autoencoder: Any, more: int) -> Any:
    """Return an autoencoder whose encoder has more blocks at its coarsest resolution, which change nothing at first.

    Args:
        autoencoder: An `AutoencoderTiny`.
        more: Number of blocks to add.
    """
    blocks = list(autoencoder.config.num_encoder_blocks)
    deep: Any = AutoencoderTiny.from_config(
        {**autoencoder.config, "num_encoder_blocks": (*blocks[:-1], blocks[-1] + more)}
    )
    last = sum(blocks) + len(blocks)  # the convolution behind all blocks
    weights = deep.state_dict()
    for name, value in autoencoder.state_dict().items():
        weights[re.sub(rf"^encoder\.layers\.{last}\.", f"encoder.layers.{last + more}.", name)] = value
    for number in range(last, last + more):
        weights[f"encoder.layers.{number}.conv.4.weight"].zero_()
        weights[f"encoder.layers.{number}.conv.4.bias"].zero_()
    deep.load_state_dict(weights)
    return deep


def train_layout_encoder(folder: str | Path, config: LayoutEncoderConfig, assets: EmojiAssets) -> Path:
    """Train the encoder, resuming from the folder's checkpoint, and write the autoencoder for diffusers.

    Returns:
        The folder that `AutoencoderTiny.from_pretrained` reads.
    """
    folder = Path(folder)
    teacher: Any = AutoencoderTiny.from_pretrained(config.autoencoder, dtype=torch.float32)
    teacher.requires_grad_(False).eval().to(memory_format=torch.channels_last)
    model = with_more_blocks(with_layout_channels(teacher), config.more_blocks).to(memory_format=torch.channels_last)
    encoder = model.encoder.requires_grad_(True)
    run = PretrainingRun(folder, encoder, config)
    for part in (teacher, model):
        part.to(run.device)
    layouts = SceneLayouts(assets)
    scale = teacher.config.scaling_factor
    for step in run.steps():
        pairs = aligned_scenes(config.seed + 1, step * config.batch_size, config.batch_size)
        scenes = aligned_pixels([scene for scene, _ in pairs], assets, config.image_px).to(run.device)
        with bf16_where_fast(run.device, config.precision):
            with torch.no_grad():
                looks = teacher.encode(scenes).latents.float() * scale
            found = model.encode(scenes).latents.float() * scale
        layout = layouts.of(pairs, layouts.tokens(pairs), looks.shape[-1]).to(run.device)
        wrong_looks = (found[:, :-NUM_LAYOUT_CHANNELS] - looks).square().mean()
        wrong_layout = (found[:, -NUM_LAYOUT_CHANNELS:] - layout).square().mean()
        run.update(
            wrong_layout + config.looks_weight * wrong_looks, looks=wrong_looks.item(), layout=wrong_layout.item()
        )
    with run.averaged_weights():
        model.save_pretrained(folder / "autoencoder")
    return folder / "autoencoder"
