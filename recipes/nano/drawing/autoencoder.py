"""Training of the autoencoder of nano's generator.

    python -m mgem_agent.recipes.nano autoencoder FOLDER [key=value …]

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
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from mgem_agent.recipes.nano.drawing.aligned_scenes import aligned_pixels, aligned_scenes
from mgem_agent.recipes.nano.pretraining import Count, Decay, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.train.config import Precision
from mgem_agent.recipes.train.precision import bf16_where_fast

__all__ = [
    "AutoencoderConfig",
    "cut_piece",
    "detail_loss",
    "make_autoencoder",
    "narrowed",
    "piece_places",
    "scene_pieces",
    "train_autoencoder",
]


class AutoencoderConfig(PretrainingConfig):
    """Settings of the recipe `autoencoder`.

    Attributes:
        channels: Channels of every layer, if training starts from random weights, as with the next three.
        latent_channels: Channels of the latents. diffusers' inpainting pipelines of Stable Diffusion need four.
        encoder_blocks: Residual blocks at each resolution of the encoder, finest first. Every entry after the first
            halves the resolution: three give latents four times smaller than the picture. Eight times smaller ones stay
            blurred for a long time.
        decoder_blocks: Residual blocks at each resolution of the decoder, coarsest first.
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
    encoder_blocks: tuple[int, ...] = Field(default=(0, 2, 3), min_length=2, max_length=4)
    decoder_blocks: tuple[int, ...] = Field(default=(5, 4, 2), min_length=2, max_length=4)
    wider: str | None = None
    piece_px: int = Field(default=64, ge=16, multiple_of=8)
    scene_px: int = Field(default=128, ge=16)
    latent_noise: float = Field(default=0.03, ge=0)
    latent_std: float = Field(default=0.5, gt=0)
    latent_penalty: float = Field(default=0.3, ge=0)
    precision: Precision = "auto"


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
    """Initialise the weights so that three latents are the mean colour, which the decoder draws as a blur.

    Otherwise this network without normalisation learns brightness long before colour. Six channels carry the three
    colours and their negatives from layer to layer, because the activation cuts off negative values.
    """
    signs = torch.tensor([[1.0], [-1.0]])
    pairs = torch.kron(signs, torch.eye(3))  # (6, 3): from colours to channels
    halves = torch.zeros(3, 3)
    halves[1:, 1:] = 0.25  # kernel of a convolution with stride 2
    smooth = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
    middle = torch.zeros(3, 3)
    middle[1, 1] = 1

    def carry(conv: nn.Conv2d, matrix: Tensor, kernel: Tensor, shift: float = 0.0) -> None:
        rows, columns = matrix.shape
        conv.weight[:rows] = 0
        conv.weight[:rows, :columns] = matrix[:, :, None, None] * kernel
        if conv.bias is not None:
            conv.bias[:rows] = shift

    is_cut = False  # whether negative values of the channels have been cut off
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

    Without the last term, mean colours (of squares of 8 px) are learned last.

    Args:
        drawn: (B, 3, H, W) in -1 … 1.
        real: The same shape.
    """
    wrong = drawn - real
    across, down = wrong.diff(dim=-1).abs().mean(), wrong.diff(dim=-2).abs().mean()
    return wrong.abs().mean() + across + down + F.avg_pool2d(wrong, 8).abs().mean()


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


def piece_places(
    scene: Tensor, piece_px: int, grid_px: int, chance: np.random.Generator
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the top left corners of two crops of a scene: the more detailed of two, and a random one.

    Args:
        scene: (3, H, H) pixels.
        piece_px: Side of a crop.
        grid_px: Both coordinates are multiples of it; the side of a latent in pixels.
        chance: Random generator.
    """
    num = (scene.shape[-1] - piece_px) // grid_px + 1
    first, second, any_ = ((grid_px * chance.integers(0, num, size=2)).tolist() for _ in range(3))

    def detail(place: tuple[int, int]) -> float:
        return cut_piece(scene, place, piece_px).diff(dim=-2).abs().mean().item()

    return max(first, second, key=detail), any_


def cut_piece(pixels: Tensor, place: tuple[int, int], side: int) -> Tensor:
    """Return the crop (…, side, side) of pixels or latents at a top left corner."""
    top, left = place
    return pixels[..., top : top + side, left : left + side]


def train_autoencoder(folder: str | Path, config: AutoencoderConfig, assets: EmojiAssets) -> Path:
    """Train the autoencoder, resuming from the folder's checkpoint, and write it for diffusers.

    Returns:
        The folder that `AutoencoderTiny.from_pretrained` reads.
    """
    folder = Path(folder)
    if config.wider is not None:
        wide: Any = AutoencoderTiny.from_pretrained(config.wider, dtype=torch.float32)
        model = narrowed(wide, _scenes(-64, 64, config, assets), config.latent_channels)
    else:
        model = make_autoencoder(config)
    model.to(memory_format=torch.channels_last)
    run = PretrainingRun(folder, model, config)
    for step in run.steps():
        pieces = scene_pieces(step, config, assets).to(run.device)
        with bf16_where_fast(run.device, config.precision):
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


def _scenes(first: int, num: int, config: AutoencoderConfig, assets: EmojiAssets) -> Tensor:
    """Return (num, 3, H, H) varied scenes; those before 0 are of another series than the training's."""
    seed = config.seed + (first < 0)
    chosen = [scene for scene, _ in aligned_scenes(seed, abs(first), num)]
    return aligned_pixels(chosen, assets, config.scene_px)


def scene_pieces(step: int, config: AutoencoderConfig, assets: EmojiAssets) -> Tensor:
    """Return (B, 3, h, h) crops of a step, two of each scene."""
    chance = np.random.default_rng((config.seed, step))
    num = -(-config.batch_size // 2)
    pieces = [
        cut_piece(scene, place, config.piece_px)
        for scene in _scenes(step * num, num, config, assets)
        for place in piece_places(scene, config.piece_px, 2 ** (len(config.encoder_blocks) - 1), chance)
    ]
    return torch.stack(pieces[: config.batch_size]).contiguous(memory_format=torch.channels_last)


def _compare(real: Tensor, drawn: Tensor, file: Path) -> None:
    """Write a picture of scenes, with their reconstructions below them."""
    rows = [torch.cat(list(pictures), -1) for pictures in (real, drawn.clamp(-1, 1))]
    sheet = ((torch.cat(rows, -2) + 1) * 127.5).round().byte()
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(file)
