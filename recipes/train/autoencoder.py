"""Pre-training of the autoencoder in whose latents the small generator draws.

    python -m mgem_agent.recipes.train.autoencoder FOLDER [key=value …]

diffusers' `AutoencoderTiny` learns to give back what it saw: absolute difference of the pixels and of their gradients,
which keeps edges sharp. It sees square pieces of scenes, since a network without attention learns as much from a piece;
one of each scene is the more detailed of two, since most of a scene is empty sky. Its latents are noised while it
learns, so that the decoder bears the errors of the generator, and each channel is kept near one standard deviation, so
that none drowns the others.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from mgem_agent.recipes.data.emoji import EmojiAssets
from mgem_agent.recipes.data.scene import sample_scene
from mgem_agent.recipes.train.pretraining import PretrainingConfig, PretrainingRun, run_recipe
from mgem_agent.recipes.train.scene_pixels import scene_pixels

__all__ = ["AutoencoderConfig", "detail_loss", "make_autoencoder", "scene_pieces", "train_autoencoder"]


class AutoencoderConfig(PretrainingConfig):
    """How the autoencoder is trained.

    Attributes:
        channels: Of every layer.
        latent_channels: Of the latents; three or more.
        encoder_blocks: Residual blocks at each resolution of the encoder, finest first. All but the first halve the
            sides: three make latents four times smaller than pictures. Eight times smaller ones stay blurred for long.
        decoder_blocks: Of the decoder, coarsest first.
        piece_px: Side of the pieces that it sees; a multiple of 8.
        scene_px: Side of the scenes that they are cut from.
        latent_noise: Standard deviation of the noise on the latents.
        latent_std: Standard deviation that every channel of the latents is kept near.
        latent_penalty: Weight of how far they are from it.
    """

    num_steps: int = 20_000
    batch_size: int = 4
    learning_rate: float = 1e-3
    ema_decay: float = 0.998
    channels: int = Field(default=32, ge=8)
    latent_channels: int = Field(default=4, ge=3)
    encoder_blocks: tuple[int, ...] = Field(default=(0, 2, 3), min_length=2, max_length=4)
    decoder_blocks: tuple[int, ...] = Field(default=(3, 2, 1), min_length=2, max_length=4)
    piece_px: int = Field(default=64, ge=16, multiple_of=8)
    scene_px: int = Field(default=128, ge=16)
    latent_noise: float = Field(default=0.03, ge=0)
    latent_std: float = Field(default=0.5, gt=0)
    latent_penalty: float = Field(default=0.3, ge=0)


def make_autoencoder(config: AutoencoderConfig) -> Any:
    """Return the untrained `AutoencoderTiny`."""
    width = (config.channels,) * len(config.encoder_blocks)
    torch.manual_seed(config.seed)
    model = AutoencoderTiny(
        encoder_block_out_channels=width,
        decoder_block_out_channels=width,
        num_encoder_blocks=config.encoder_blocks,
        num_decoder_blocks=config.decoder_blocks,
        latent_channels=config.latent_channels,
    )
    _start_as_blur(model)
    return model


@torch.no_grad()
def _start_as_blur(model: Any) -> None:
    """Let three latents be the mean colour of their pixels, painted smoothly, before anything is learned.

    Without that, this network without normalisation learns light and dark long before it learns colours. Six channels
    carry the three colours from layer to layer, each and its negative, since what is below zero is cut off.
    """
    signs = torch.tensor([[1.0], [-1.0]])
    pairs = torch.kron(signs, torch.eye(3))  # (6, 3): from colours to channels
    halves = torch.zeros(3, 3)
    halves[1:, 1:] = 0.25  # of a convolution that halves the sides
    smooth = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
    middle = torch.zeros(3, 3)
    middle[1, 1] = 1

    def carry(conv: nn.Conv2d, matrix: Tensor, kernel: Tensor, shift: float = 0.0) -> None:
        rows, columns = matrix.shape
        conv.weight[:rows] = 0
        conv.weight[:rows, :columns] = matrix[:, :, None, None] * kernel
        if conv.bias is not None:
            conv.bias[:rows] = shift

    is_cut = False  # whether the channels have lost what is below zero
    for layer in model.encoder.layers:
        if hasattr(layer, "conv"):
            carry(layer.conv[-1], torch.zeros(6, 6), middle)
            is_cut = True
        elif layer.in_channels == 3:
            carry(layer, 2 * pairs, middle)
            layer.bias[:6] = -signs.repeat_interleave(3)
        else:
            joined = pairs.T if is_cut else pairs.T / 2
            is_last = layer.stride == (1, 1)
            carry(layer, joined if is_last else pairs @ joined, middle if is_last else halves)
            is_cut = False
    for layer in model.decoder.layers:
        if hasattr(layer, "conv"):
            carry(layer.conv[-1], torch.zeros(6, 6), middle)
        elif isinstance(layer, nn.Conv2d) and layer.out_channels == 3:
            carry(layer, pairs.T / 2, middle, 0.5)
        elif isinstance(layer, nn.Conv2d):
            is_first = layer is model.decoder.layers[0]
            carry(layer, pairs if is_first else pairs @ pairs.T, middle if is_first else smooth)


def detail_loss(drawn: Tensor, real: Tensor) -> Tensor:
    """Return the mean absolute difference of pixels, of their horizontal and vertical gradients, and of mean colours.

    The mean colours of squares of 8 px are what is learned last without being asked for.

    Args:
        drawn: (B, 3, H, W) in -1 … 1.
        real: The same shape.
    """
    wrong = drawn - real
    across, down = wrong.diff(dim=-1).abs().mean(), wrong.diff(dim=-2).abs().mean()
    return wrong.abs().mean() + across + down + F.avg_pool2d(wrong, 8).abs().mean()


def scene_pieces(step: int, config: AutoencoderConfig, assets: EmojiAssets) -> Tensor:
    """Return the pieces that a step learns from, two of each scene.

    Returns:
        (B, 3, h, h) in -1 … 1, channels last.
    """
    chance = np.random.default_rng((config.seed, step))
    first, num_scenes = step * config.batch_size, -(-config.batch_size // 2)
    scenes = [
        sample_scene(config.seed, first + row, kind="drawable" if chance.random() < 0.8 else "any")
        for row in range(num_scenes)
    ]
    pieces: list[Tensor] = []
    for pixels in scene_pixels(scenes, assets, config.scene_px):
        some = [_piece(pixels, config.piece_px, chance) for _ in range(3)]
        pieces += [max(some[:2], key=lambda piece: piece.diff(dim=-2).abs().mean().item()), some[2]]
    return torch.stack(pieces[: config.batch_size]).contiguous(memory_format=torch.channels_last)


def _piece(pixels: Tensor, side: int, chance: np.random.Generator) -> Tensor:
    """Return a random piece (3, side, side) of a picture (3, H, H)."""
    y, x = chance.integers(0, pixels.shape[-1] - side + 1, size=2)
    return pixels[:, y : y + side, x : x + side]


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
        spread = latents.std((0, 2, 3))
        far = (spread - config.latent_std).square().mean()
        run.update(wrong + config.latent_penalty * far, detail=wrong.item(), latent_std=spread.mean().item())
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
    real = scene_pixels(scenes, assets, config.scene_px)
    drawn = model.decode(model.encode(real).latents).sample.clamp(-1, 1)
    rows = [torch.cat(list(pictures), -1) for pictures in (real, drawn)]
    sheet = ((torch.cat(rows, -2) + 1) * 127.5).round().byte()
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(file)


if __name__ == "__main__":
    run_recipe(
        sys.argv[1:], AutoencoderConfig, lambda folder, config: train_autoencoder(folder, config, EmojiAssets.open())
    )
