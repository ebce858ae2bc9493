"""The first values of the text encoder's table: what each cell of each thing and background looks like.

A row of the table has five parts: the latents of the cell, its coverage by a thing, its position in the grid, whether
it is of a thing or a background, and room for the position in the caption, which the position embeddings fill. Training
changes all of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from mgem_agent.recipes.nano.drawing.cell_tokenizer import RELATIONS, CellGrid
from mgem_agent.recipes.nano.drawing.layout_latents import encode_looks
from mgem_agent.recipes.nano.world.backdrops import paint_backdrop
from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.sprites import Sprites

__all__ = ["cell_looks", "cell_text_encoder", "look_width", "place_looks"]

_LATENTS_A_CELL = 2
"""Latents along the side of a cell of a thing of the largest size."""
_GREY = 160
_PLACE_CODES, _KIND_CODES, _ORDER_CODES = 40, 4, 32
_KIND = 1.5
_NUM_GROUNDS = 16
"""Pictures of a background whose mean is its look."""


def look_width(looks_channels: int) -> int:
    """Return how many values describe the look of a cell."""
    return (looks_channels + 1) * _LATENTS_A_CELL**2


@torch.no_grad()
def cell_looks(autoencoder: Any, assets: EmojiAssets, grid: CellGrid) -> Tensor:
    """Return (things, cells, w) the latents and the coverage of each cell of each thing, near one in size.

    Args:
        autoencoder: An `AutoencoderTiny` that encodes layouts too.
        assets: The pictures of things.
        grid: The grid over each picture.
    """
    shrinks = 2 ** (len(autoencoder.config.encoder_block_out_channels) - 1)
    side = grid.side * _LATENTS_A_CELL * shrinks
    pictures, coverages = [], []
    for concept in assets.concepts:
        sprite = Sprites.of(assets).scaled(concept.name, side, False)
        canvas = Image.new("RGBA", (side, side))
        canvas.paste(sprite, ((side - sprite.width) // 2, side - sprite.height))
        alone = Image.new("RGB", (side, side), (_GREY,) * 3)
        alone.paste(canvas, (0, 0), canvas)
        pictures.append(np.asarray(alone))
        coverages.append(np.asarray(canvas.getchannel("A").resize((side // shrinks,) * 2, Image.Resampling.BOX)))
    pixels = torch.from_numpy(np.stack([*pictures, np.full((side, side, 3), _GREY, np.uint8)]))
    pixels = pixels.permute(0, 3, 1, 2) / 127.5 - 1
    latents = torch.cat([encode_looks(autoencoder, some) for some in pixels.split(32)])
    latents = latents[:-1] - latents[-1]
    coverage = torch.from_numpy(np.stack(coverages)) / 127.5 - 1
    return _cells(torch.cat([latents / latents.std(), coverage[:, None]], 1), grid.side)


@torch.no_grad()
def place_looks(autoencoder: Any, grid: CellGrid, size_px: int) -> Tensor:
    """Return (places, cells, w) the mean latents and the coverage, which is none, of each cell of each background.

    Args:
        autoencoder: An `AutoencoderTiny` that encodes layouts too.
        grid: The grid over each picture.
        size_px: Side of the pictures.
    """
    means = []
    for ground in BACKGROUNDS:
        drawn = [np.asarray(paint_backdrop(ground.name, seed, size_px)) for seed in range(_NUM_GROUNDS)]
        pixels = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2) / 127.5 - 1
        means.append(encode_looks(autoencoder, pixels).mean(0))
    latents = F.adaptive_avg_pool2d(torch.stack(means), grid.place_side * _LATENTS_A_CELL)
    latents = (latents - latents.mean((0, 2, 3), keepdim=True)) / latents.std()
    return _cells(torch.cat([latents, torch.full_like(latents[:, :1], -1)], 1), grid.place_side)


def _cells(looks: Tensor, side: int) -> Tensor:
    """Return (n, cells, w) the cells of (n, c, h, h) looks."""
    cells = looks.unflatten(3, (side, -1)).unflatten(2, (side, -1))  # (n, c, rows, k, columns, k)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


@torch.no_grad()
def cell_text_encoder(looks: Tensor, places: Tensor, grid: CellGrid, num_layers: int, seed: int = 0) -> Any:
    """Return a `CLIPTextModel` whose table holds the looks of cells, and which hardly changes them at first.

    Args:
        looks: (things, cells, w) from `cell_looks`.
        places: (places, cells, w) from `place_looks`.
        grid: The grid over each picture.
        num_layers: Layers of the encoder.
        seed: Seed of the other weights.
    """
    torch.manual_seed(seed)
    num_things, _, width = looks.shape
    hidden = width + _PLACE_CODES + _KIND_CODES + _ORDER_CODES
    num_tokens = grid.first_token(num_things + len(BACKGROUNDS), num_things) + len(RELATIONS)
    encoder: Any = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=num_tokens,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            projection_dim=hidden,
            num_hidden_layers=num_layers,
            num_attention_heads=2,
            max_position_embeddings=grid.max_tokens,
            hidden_act="quick_gelu",
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    for name, parameter in encoder.named_parameters():
        if name.endswith(("out_proj.weight", "fc2.weight")):
            parameter.mul_(0.1)
    embeddings = _embeddings(encoder)
    table = embeddings.token_embedding.weight
    nn.init.normal_(table)
    table[:, -_ORDER_CODES:] = 0
    first = grid.first_token(0, num_things)
    for cells, codes, kind in (
        (looks, _grid_codes(grid.side), _KIND),
        (places, _grid_codes(grid.place_side, are_named=False), -_KIND),
    ):
        last = first + cells.shape[0] * cells.shape[1]
        parts = [cells.flatten(0, 1), codes.repeat(len(cells), 1), torch.full((last - first, _KIND_CODES), kind)]
        table[first:last, :-_ORDER_CODES] = torch.cat(parts, 1)
        first = last
    embeddings.position_embedding.weight.zero_()
    embeddings.position_embedding.weight[:, -_ORDER_CODES:] = _waves(grid.max_tokens, _ORDER_CODES)
    return encoder


def _embeddings(encoder: Any) -> Any:
    return encoder.text_model.embeddings if hasattr(encoder, "text_model") else encoder.embeddings


def _grid_codes(side: int, *, are_named: bool = True) -> Tensor:
    """Return (cells, 40) codes of the row and column of each cell; each also has its own code if `are_named`."""
    middles = (torch.arange(side) + 0.5) / side
    angles = middles[:, None] * math.pi * torch.arange(1, 5)
    waves = torch.cat([angles.cos(), angles.sin()], 1)  # (side, 8)
    rooms = _PLACE_CODES // 2 - waves.shape[1]
    axis = torch.cat([1.5 * waves, 2 * are_named * torch.eye(side, rooms)], 1)
    rows, columns = axis.repeat_interleave(side, 0), axis.repeat(side, 1)
    return torch.cat([rows, columns], 1)


def _waves(num: int, width: int) -> Tensor:
    angles = torch.arange(num)[:, None] / num * math.pi * torch.arange(1, width // 2 + 1)
    return torch.cat([angles.cos(), angles.sin()], 1)
