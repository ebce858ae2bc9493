"""Training of the autoencoder of the denoiser's pictures.

    python -m mgem_agent.recipes.nano scene_autoencoder FOLDER [key=value …]

diffusers' `AutoencoderTiny` learns to reconstruct square crops of scenes (a network without attention learns as much
from them as from whole scenes). The loss is the absolute difference of pixels and of their gradients, which keeps edges
sharp. Noise on the latents makes the decoder robust to errors of the denoiser, and a penalty keeps every channel near
one standard deviation. Training can start from an autoencoder with more latent channels: its latents are then
projected to their principal components.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from pydantic import Field
from torch import Tensor

from mgem_agent.recipes.nano.drawing.aligned_scenes import aligned_pixels, aligned_scene
from mgem_agent.recipes.nano.drawing.autoencoder import AutoencoderConfig as _Sizes
from mgem_agent.recipes.nano.drawing.autoencoder import cut_piece, detail_loss, make_autoencoder, piece_places
from mgem_agent.recipes.nano.pretraining import Count, Decay, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.train.config import Precision
from mgem_agent.recipes.train.precision import training_dtype

__all__ = ["SceneAutoencoderConfig", "narrowed", "train_scene_autoencoder"]


class SceneAutoencoderConfig(PretrainingConfig):
    """Settings of the recipe `scene_autoencoder`.

    Attributes:
        channels: Channels of every layer, if training starts from random weights.
        latent_channels: Channels of the latents. diffusers' inpainting pipelines of Stable Diffusion need four.
        wider: Folder of an autoencoder with more latent channels to start from.
        piece_px: Side of the crops; a multiple of 8.
        scene_px: Side of the scenes.
        latent_noise: Standard deviation of the noise on the latents.
        latent_std: Target standard deviation of every channel of the latents.
        latent_penalty: Weight of the penalty for missing it.
        precision: `bf16`, `fp32`, or `auto` for what the hardware does fastest.
    """

    num_steps: Count = 2_000
    batch_size: Count = 16
    learning_rate: Rate = 1e-3
    warmup_steps: int = Field(default=50, ge=0)
    ema_decay: Decay = 0.995
    channels: int = Field(default=32, ge=8)
    latent_channels: int = Field(default=4, ge=3)
    wider: str | None = None
    piece_px: int = Field(default=64, ge=16, multiple_of=8)
    scene_px: int = Field(default=128, ge=16)
    latent_noise: float = Field(default=0.03, ge=0)
    latent_std: float = Field(default=0.5, gt=0)
    latent_penalty: float = Field(default=0.3, ge=0)
    precision: Precision = "auto"


@torch.no_grad()
def narrowed(model: Any, scenes: Tensor, latent_channels: int) -> Any:
    """Return an autoencoder with fewer latent channels, which are the principal components of a wider one's.

    Args:
        model: An `AutoencoderTiny` with c channels of latents.
        scenes: (B, 3, H, W) pictures in -1 … 1, whose latents decide the components.
        latent_channels: Channels to keep, fewer than c.
    """
    latents = model.encode(scenes).latents.float()
    spread = latents.transpose(0, 1).flatten(1)
    middle = spread.mean(1, keepdim=True)
    axes, strengths, _ = torch.linalg.svd((spread - middle) / spread.shape[1] ** 0.5, full_matrices=False)
    axes, strengths = axes[:, :latent_channels], strengths[:latent_channels]
    scale = 0.5 / strengths  # every channel of the narrow latents has this standard deviation
    narrow: Any = AutoencoderTiny.from_config({**model.config, "latent_channels": latent_channels})
    weights = model.state_dict()
    last = max((name for name in weights if name.startswith("encoder.") and name.endswith("weight")), key=_layer)
    first = min((name for name in weights if name.startswith("decoder.") and name.endswith("weight")), key=_layer)
    encode, decode = (axes * scale).T, axes / scale
    weights[last] = torch.einsum("nc,cikl->nikl", encode, weights[last])
    bias = last.removesuffix("weight") + "bias"
    weights[bias] = encode @ (weights[bias] - middle[:, 0])
    start = weights[first]
    weights[first] = torch.einsum("ocij,cn->onij", start, decode)
    bias = first.removesuffix("weight") + "bias"
    weights[bias] = weights[bias] + (start.sum((2, 3)) @ middle)[:, 0]
    narrow.load_state_dict(weights)
    return narrow


def _layer(name: str) -> int:
    return int(name.split(".")[2])


def train_scene_autoencoder(folder: str | Path, config: SceneAutoencoderConfig, assets: EmojiAssets) -> Path:
    """Train the autoencoder, resuming from the folder's checkpoint, and write it for diffusers.

    Returns:
        The folder that `AutoencoderTiny.from_pretrained` reads.
    """
    folder = Path(folder)
    if config.wider is not None:
        wide: Any = AutoencoderTiny.from_pretrained(config.wider, dtype=torch.float32)
        model = narrowed(wide, _scenes(-64, 64, config, assets), config.latent_channels)
    else:
        model = make_autoencoder(
            _Sizes(seed=config.seed, channels=config.channels, latent_channels=config.latent_channels)
        )
    model.to(memory_format=torch.channels_last)
    run = PretrainingRun(folder, model, config)
    is_bf16 = training_dtype(config.precision) == torch.bfloat16
    for step in run.steps():
        pieces = _pieces(step, config, assets).to(run.device)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=is_bf16):
            latents = model.encode(pieces).latents.float()
            noise = torch.randn(latents.shape, generator=run.generator(step)).to(run.device)
            drawn = model.decode(latents + config.latent_noise * noise).sample.float()
        wrong = detail_loss(drawn, pieces)
        spread = latents.std((0, 2, 3))
        far = (spread - config.latent_std).square().mean()
        run.update(wrong + config.latent_penalty * far, detail=wrong.item(), latent_std=spread.mean().item())
    exported = folder / "autoencoder"
    with run.averaged_weights(), torch.no_grad():
        held = _scenes(-128, 64, config, assets)
        latents = model.encode(held).latents
        model.register_to_config(scaling_factor=1 / float(latents.std()))
        model.save_pretrained(exported)
        _compare(held[:8], model.decode(latents[:8]).sample, folder / "seen_and_drawn.png")
    return exported


def _scenes(first: int, num: int, config: SceneAutoencoderConfig, assets: EmojiAssets) -> Tensor:
    """Return (num, 3, H, H) varied scenes; those before 0 are of another series than the training's."""
    seed = config.seed + (first < 0)
    chosen = [aligned_scene(seed, abs(first) + number)[0] for number in range(num)]
    return aligned_pixels(chosen, assets, config.scene_px)


def _pieces(step: int, config: SceneAutoencoderConfig, assets: EmojiAssets) -> Tensor:
    """Return (B, 3, h, h) crops of a step, two of each scene."""
    chance = np.random.default_rng((config.seed, step))
    num = -(-config.batch_size // 2)
    pieces = [
        cut_piece(scene, place, config.piece_px)
        for scene in _scenes(step * num, num, config, assets)
        for place in piece_places(scene, config.piece_px, 4, chance)
    ]
    return torch.stack(pieces[: config.batch_size]).contiguous(memory_format=torch.channels_last)


def _compare(real: Tensor, drawn: Tensor, file: Path) -> None:
    """Write a picture of scenes, with their reconstructions below them."""
    rows = [torch.cat(list(pictures), -1) for pictures in (real, drawn.clamp(-1, 1))]
    sheet = ((torch.cat(rows, -2) + 1) * 127.5).round().byte()
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(file)
