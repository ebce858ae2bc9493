"""Pre-training of the autoencoder in whose latents the small generator draws.

    python -m mgem_agent.recipes.train.autoencoder FOLDER [key=value …]

diffusers' `AutoencoderTiny` learns to give back what it saw: absolute difference of the pixels and of their gradients,
which keeps edges sharp. It sees square pieces of scenes, the more detailed of two each time, since a network without
attention learns as much from a piece and most of a scene is empty sky. Its latents are noised while it learns, so that
the decoder bears the errors of the generator, and kept near a standard deviation of one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from pydantic import Field
from torch import Tensor

from mgem_agent.recipes.data.emoji import EmojiAssets
from mgem_agent.recipes.data.scene import sample_scene
from mgem_agent.recipes.data.scene_rendering import render_scene
from mgem_agent.recipes.train.pretraining import PretrainingConfig, PretrainingRun, run_recipe

__all__ = ["AutoencoderConfig", "detail_loss", "make_autoencoder", "scene_pieces", "train_autoencoder"]


class AutoencoderConfig(PretrainingConfig):
    """How the autoencoder is trained.

    Attributes:
        channels: Of every layer.
        latent_channels: Of the latents; 4 blur what is smaller than 8 px.
        encoder_blocks: Residual blocks at each resolution of the encoder, finest first.
        decoder_blocks: Of the decoder, coarsest first.
        piece_px: Side of the pieces that it sees; a multiple of 8.
        scene_px: Side of the scenes that they are cut from.
        latent_noise: Standard deviation of the noise on the latents.
        latent_penalty: Weight of the mean square of the latents.
    """

    num_steps: int = 20_000
    batch_size: int = 16
    learning_rate: float = 1e-3
    ema_decay: float = 0.995
    channels: int = Field(default=32, ge=4)
    latent_channels: int = Field(default=8, ge=1)
    encoder_blocks: tuple[int, int, int, int] = (1, 2, 3, 3)
    decoder_blocks: tuple[int, int, int, int] = (3, 3, 2, 1)
    piece_px: int = Field(default=64, ge=16, multiple_of=8)
    scene_px: int = Field(default=128, ge=16)
    latent_noise: float = Field(default=0.1, ge=0)
    latent_penalty: float = Field(default=1e-3, ge=0)


def make_autoencoder(config: AutoencoderConfig) -> Any:
    """Return the untrained `AutoencoderTiny`, whose latents are eight times smaller than pictures."""
    width = (config.channels,) * 4
    torch.manual_seed(config.seed)
    return AutoencoderTiny(
        encoder_block_out_channels=width,
        decoder_block_out_channels=width,
        num_encoder_blocks=config.encoder_blocks,
        num_decoder_blocks=config.decoder_blocks,
        latent_channels=config.latent_channels,
    )


def detail_loss(drawn: Tensor, real: Tensor) -> Tensor:
    """Return the mean absolute difference of pixels and of their horizontal and vertical gradients.

    Args:
        drawn: (B, 3, H, W) in -1 … 1.
        real: The same shape.
    """
    wrong = drawn - real
    across, down = wrong.diff(dim=-1).abs().mean(), wrong.diff(dim=-2).abs().mean()
    return wrong.abs().mean() + across + down


def scene_pieces(step: int, config: AutoencoderConfig, assets: EmojiAssets) -> Tensor:
    """Return the pieces that a step learns from, two of each scene.

    Returns:
        (B, 3, h, h) in -1 … 1, channels last.
    """
    chance = np.random.default_rng((config.seed, step))
    pieces: list[np.ndarray[Any, Any]] = []
    scene_index = step * config.batch_size
    while len(pieces) < config.batch_size:
        scene = sample_scene(config.seed, scene_index, kind="drawable" if chance.random() < 0.8 else "any")
        pixels = np.asarray(render_scene(scene, assets, size_px=config.scene_px), dtype=np.float32)
        pieces += [_detailed_piece(pixels, config.piece_px, chance) for _ in range(2)]
        scene_index += 1
    batch = torch.from_numpy(np.stack(pieces[: config.batch_size])).permute(0, 3, 1, 2)
    return (batch / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _detailed_piece(pixels: np.ndarray[Any, Any], side: int, chance: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return the more detailed of two pieces of a picture (H, W, 3)."""
    corners = chance.integers(0, pixels.shape[0] - side + 1, size=(2, 2))
    pieces = [pixels[y : y + side, x : x + side] for y, x in corners]
    return max(pieces, key=lambda piece: float(np.abs(np.diff(piece, axis=0)).mean()))


def train_autoencoder(folder: str | Path, config: AutoencoderConfig, assets: EmojiAssets) -> Path:
    """Train the autoencoder, from where the folder's last checkpoint stands, and write it for diffusers.

    Returns:
        The folder that `AutoencoderTiny.from_pretrained` reads.
    """
    model = make_autoencoder(config).to(memory_format=torch.channels_last)
    run = PretrainingRun(folder, model, config)
    for step in run.steps():
        pieces = scene_pieces(step, config, assets).to(run.device)
        latents = model.encode(pieces).latents
        noise = torch.randn(latents.shape, generator=run.generator(step)).to(run.device)
        wrong = detail_loss(model.decode(latents + config.latent_noise * noise).sample, pieces)
        size = latents.square().mean()
        run.update(wrong + config.latent_penalty * size, detail=wrong.item(), latent_std=size.sqrt().item())
    exported = Path(folder) / "autoencoder"
    with run.averaged_weights():
        model.register_to_config(scaling_factor=1 / _latent_std(model, config, assets))
        model.save_pretrained(exported)
    _compare(model, config, assets, Path(folder) / "seen_and_drawn.png")
    return exported


@torch.no_grad()
def _latent_std(model: Any, config: AutoencoderConfig, assets: EmojiAssets) -> float:
    """Return the standard deviation of the latents of scenes, by which the generator's latents are divided."""
    latents = [model.encode(scene_pieces(config.num_steps + n, config, assets)).latents for n in range(8)]
    return float(torch.cat(latents).std())


@torch.no_grad()
def _compare(model: Any, config: AutoencoderConfig, assets: EmojiAssets, file: Path) -> None:
    """Write held-out scenes above what the model makes of them."""
    scenes = [sample_scene(config.seed, n, kind="drawable", split="held_out") for n in range(8)]
    real = np.stack([np.asarray(render_scene(scene, assets, size_px=config.scene_px)) for scene in scenes])
    seen = torch.from_numpy(real).permute(0, 3, 1, 2) / 127.5 - 1
    drawn = model.decode(model.encode(seen).latents).sample.clamp(-1, 1)
    again = ((drawn + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    Image.fromarray(np.concatenate([np.concatenate(list(real), 1), np.concatenate(list(again), 1)], 0)).save(file)


if __name__ == "__main__":
    run_recipe(
        sys.argv[1:], AutoencoderConfig, lambda folder, config: train_autoencoder(folder, config, EmojiAssets.open())
    )
