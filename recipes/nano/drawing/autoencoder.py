"""Training of the autoencoder for nano's generator.

    python -m mgem_agent.recipes.nano autoencoder FOLDER [key=value …]

diffusers' `AutoencoderTiny` learns to reconstruct scenes. The loss is the absolute difference of pixels and of their
gradients, which keeps edges sharp. It also learns additive latents: a background and things are encoded as separate
layers, and the sum of their latents (each minus those of an empty layer) is decoded to the whole scene with overlaps
and shadows. So a generator that knows each thing alone can draw any two together. Every fourth crop is of a whole scene
encoded as one layer, so that the autoencoder can encode any picture.

It trains on square crops, because a network without attention learns as much from them. One crop of each scene is the
more detailed of two, because most of a scene is plain. Noise on the latents, and a random strength of each layer, make
the decoder robust to errors of the generator. A penalty keeps every channel near one standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from mgem_agent.recipes.nano.drawing.caption_encoder import scene_slots
from mgem_agent.recipes.nano.drawing.scene_layers import SceneLayers
from mgem_agent.recipes.nano.pretraining import Count, Decay, PretrainingConfig, PretrainingRun, Rate
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import SceneKind, sample_scene
from mgem_agent.recipes.nano.world.scene_rendering import scene_pixels
from mgem_agent.recipes.train.config import Precision
from mgem_agent.recipes.train.precision import training_dtype

__all__ = [
    "AutoencoderConfig",
    "added_latents",
    "cut_piece",
    "detail_loss",
    "make_autoencoder",
    "piece_places",
    "scene_pieces",
    "train_autoencoder",
]

_WHOLE = 4
"""One of so many scenes is encoded as one layer."""


class AutoencoderConfig(PretrainingConfig):
    """Settings of the recipe `autoencoder`.

    Attributes:
        channels: Channels of every layer.
        latent_channels: Channels of the latents; three or more.
        encoder_blocks: Residual blocks at each resolution of the encoder, finest first. Every entry after the first
            halves the resolution: three give latents four times smaller than the picture. Eight times smaller ones stay
            blurred for a long time.
        decoder_blocks: Residual blocks at each resolution of the decoder, coarsest first.
        piece_px: Side of the crops; a multiple of 8.
        scene_px: Side of the scenes.
        latent_noise: Standard deviation of the noise on the latents.
        strength_std: Standard deviation of the strength of a layer, whose mean is 1.
        latent_std: Target standard deviation of every channel of the latents.
        latent_penalty: Weight of the penalty for missing it.
        precision: `bf16`, `fp32`, or `auto` for what the hardware does fastest.
    """

    num_steps: Count = 9_000
    batch_size: Count = 8
    learning_rate: Rate = 1e-3
    ema_decay: Decay = 0.998
    channels: int = Field(default=32, ge=8)
    latent_channels: int = Field(default=6, ge=3)
    encoder_blocks: tuple[int, ...] = Field(default=(0, 2, 3), min_length=2, max_length=4)
    decoder_blocks: tuple[int, ...] = Field(default=(5, 4, 2), min_length=2, max_length=4)
    piece_px: int = Field(default=64, ge=16, multiple_of=8)
    scene_px: int = Field(default=128, ge=16)
    latent_noise: float = Field(default=0.03, ge=0)
    strength_std: float = Field(default=0.04, ge=0)
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


@dataclass(frozen=True)
class LayerPieces:
    """Crops of scenes and of their layers.

    Attributes:
        scenes: (B, 3, h, h) in -1 … 1, channels last.
        layers: (N, 3, h, h) crops of the layers of all scenes, at the same positions.
        owners: (N,) index of the scene of each layer.
        nothing: (3, h, h) a crop of the empty layer.
    """

    scenes: Tensor
    layers: Tensor
    owners: Tensor
    nothing: Tensor

    def to(self, device: torch.device) -> LayerPieces:
        """Return the same on a device."""
        return LayerPieces(*(getattr(self, each.name).to(device) for each in fields(self)))


def added_latents(model: Any, pieces: LayerPieces, strengths: Tensor | None = None) -> Tensor:
    """Return (B, c, h', h') the sum of the latents of each scene's layers, relative to those of the empty layer.

    Args:
        model: The autoencoder.
        pieces: B scenes and their N layers.
        strengths: (N,) factor of each layer; None for 1.
    """
    latents = model.encode(torch.cat([pieces.nothing[None], pieces.layers])).latents.float()
    nothing, added = latents[:1], latents[1:] - latents[:1]
    if strengths is not None:
        added = strengths.view(-1, 1, 1, 1) * added
    return nothing.repeat(len(pieces.scenes), 1, 1, 1).index_add(0, pieces.owners, added)


def scene_pieces(step: int, config: AutoencoderConfig, assets: EmojiAssets, layers: SceneLayers) -> LayerPieces:
    """Return the crops of a step, two of each scene."""
    chance = np.random.default_rng((config.seed, step))
    first, num_scenes = step * config.batch_size, -(-config.batch_size // 2)
    scenes: list[Tensor] = []
    parts: list[Tensor] = []
    owners: list[int] = []
    for number in range(first, first + num_scenes):
        if number % _WHOLE:
            scene = sample_scene(config.seed, number, kind="posed")
            whole, its_layers = layers.picture(scene), [layers.layer(f) for f in layers.facts(scene_slots(scene))]
        else:
            kind: SceneKind = "drawable" if chance.random() < 0.8 else "any"
            whole = scene_pixels([sample_scene(config.seed, number, kind=kind)], assets, config.scene_px)[0]
            its_layers = [whole]
        for place in piece_places(whole, config.piece_px, 2 ** (len(config.encoder_blocks) - 1), chance):
            owners += [len(scenes)] * len(its_layers)
            scenes.append(cut_piece(whole, place, config.piece_px))
            parts += [cut_piece(layer, place, config.piece_px) for layer in its_layers]
    nothing = cut_piece(layers.nothing, (0, 0), config.piece_px)
    num = sum(owner < config.batch_size for owner in owners)
    formats: Any = {"memory_format": torch.channels_last}
    return LayerPieces(
        torch.stack(scenes[: config.batch_size]).contiguous(**formats),
        torch.stack(parts[:num]).contiguous(**formats),
        torch.tensor(owners[:num]),
        nothing,
    )


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
    model = make_autoencoder(config).to(memory_format=torch.channels_last)
    layers = SceneLayers(assets, config.scene_px)
    run = PretrainingRun(folder, model, config)
    is_bf16 = training_dtype(config.precision) == torch.bfloat16
    for step in run.steps():
        pieces = scene_pieces(step, config, assets, layers).to(run.device)
        chance = run.generator(step)
        strengths = 1 + config.strength_std * torch.randn(len(pieces.layers), generator=chance).to(run.device)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=is_bf16):
            latents = added_latents(model, pieces, strengths)
            noise = torch.randn(latents.shape, generator=chance).to(run.device)
            drawn = model.decode(latents + config.latent_noise * noise).sample.float()
        wrong = detail_loss(drawn, pieces.scenes)
        spread = latents.std((0, 2, 3))
        far = (spread - config.latent_std).square().mean()
        run.update(wrong + config.latent_penalty * far, detail=wrong.item(), latent_std=spread.mean().item())
    exported = Path(folder) / "autoencoder"
    with run.averaged_weights():
        model.register_to_config(scaling_factor=1 / _latent_std(model, config, assets, layers))
        model.save_pretrained(exported)
    _compare(model, config, layers, Path(folder) / "seen_and_drawn.png")
    return exported


@torch.no_grad()
def _latent_std(model: Any, config: AutoencoderConfig, assets: EmojiAssets, layers: SceneLayers) -> float:
    """Return the standard deviation of the latents of scenes, the inverse of the scaling factor."""
    steps = range(config.num_steps, config.num_steps + 8)
    latents = [added_latents(model, scene_pieces(step, config, assets, layers)) for step in steps]
    return float(torch.cat(latents).std())


@torch.no_grad()
def _compare(model: Any, config: AutoencoderConfig, layers: SceneLayers, file: Path) -> None:
    """Write a picture of held-out scenes, with their reconstructions from layers below them."""
    scenes = [sample_scene(config.seed, n, kind="posed", split="held_out") for n in range(8)]
    real = torch.stack([layers.picture(scene) for scene in scenes])
    facts = [layers.facts(scene_slots(scene)) for scene in scenes]
    parts = torch.stack([layers.layer(fact) for each in facts for fact in each])
    owners = torch.tensor([number for number, each in enumerate(facts) for _ in each])
    drawn = model.decode(added_latents(model, LayerPieces(real, parts, owners, layers.nothing))).sample.clamp(-1, 1)
    rows = [torch.cat(list(pictures), -1) for pictures in (real, drawn)]
    sheet = ((torch.cat(rows, -2) + 1) * 127.5).round().byte()
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(file)
