"""Draws the figure of patch info mining, with the weights of nano: `python docs/mining_figure.py`.

A word is printed in small letters. One low-resolution token is marked, then its window in the high-resolution picture,
and the attention of that token over the pixels of its window (equation 1 of the paper).
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiModel
from mgem_agent.core_model.image_processing import MiniGeminiImageProcessor
from mgem_agent.core_model.low_res_encoder import low_res_features
from mgem_agent.nano.vision_language import VLM_WEIGHTS
from mgem_agent.testing.textbook_mining import TextbookPatchInfoMining, concatenate_stage_maps

__all__ = ["attention_of_a_token", "draw_figure", "load_vision", "printed_word"]

PANEL_PX, MARGIN_PX, CAPTION_PX = 384, 24, 32
RED = (214, 39, 40)


def printed_word(size_px: int) -> Image.Image:
    """A word in small letters on a plain ground."""
    image = Image.new("RGB", (size_px, size_px), (246, 240, 226))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((40, 104, size_px - 40, 184), radius=12, fill=(52, 101, 164))
    draw.text((size_px / 2, 144), "mining", anchor="mm", font=ImageFont.load_default(26), fill=(255, 255, 255))
    return image


def load_vision() -> MiniGeminiModel:
    """Nano's encoders, mining and projector, without its language model."""
    values = json.loads((VLM_WEIGHTS / "config.json").read_text(encoding="utf-8"))
    values["text_config"] |= {"num_hidden_layers": 1, "vocab_size": 8}
    model = MiniGeminiModel(MiniGeminiConfig(**values)).eval()
    weights = load_file(VLM_WEIGHTS / "model.safetensors")
    own = model.state_dict()
    fitting = {name.removeprefix("model."): value.float() for name, value in weights.items()}
    missing = {name for name in own if not name.startswith("language_model.")} - set(fitting)
    if missing:
        raise ValueError(f"The weights in {VLM_WEIGHTS} lack {sorted(missing)}.")
    model.load_state_dict({name: fitting.get(name, own[name]) for name in own})
    return model


@torch.no_grad()
def attention_of_a_token(model: MiniGeminiModel, image: Image.Image, row: int, column: int) -> torch.Tensor:
    """Attention of one token over its window, (M, M), summing to 1."""
    config = model.config
    pixels = MiniGeminiImageProcessor.from_model_config(config)(image, return_tensors="pt")
    query = low_res_features(model.vision_tower, pixels["pixel_values"], config.vision_feature_layer)  # (1, n, c)
    maps = model.high_res_vision_tower(pixels["high_res_pixel_values"])
    mining = TextbookPatchInfoMining(model.mining.query_dim, model.mining.candidate_dim)
    mining.load_state_dict(model.mining.state_dict())
    merged = concatenate_stage_maps(maps)[0]  # (channels, h, w)
    side = config.geometry.window_size
    window = (
        merged[:, row * side : (row + 1) * side, column * side : (column + 1) * side].flatten(1).T
    )  # (M², channels)
    grid = merged.shape[-1] // side
    probe = mining.query_proj(mining.query_norm(query[0, row * grid + column]))
    logits = mining.key_proj(mining.key_norm(window)) @ probe / math.sqrt(mining.query_proj.out_features)
    return logits.softmax(0).view(side, side)


def draw_figure(row: int = 4, column: int = 3) -> Image.Image:
    """The three panels side by side."""
    model = load_vision()
    geometry = model.config.geometry
    fine = printed_word(geometry.high_res_size)
    grid = geometry.high_res_size // 4 // geometry.window_size
    attention = attention_of_a_token(model, fine, row, column)
    cell = geometry.high_res_size // grid
    box = (column * cell, row * cell, (column + 1) * cell, (row + 1) * cell)
    panels = [
        _with_grid(fine.resize((geometry.low_res_size,) * 2, Image.Resampling.BICUBIC), grid, (row, column)),
        fine.crop(box).resize((PANEL_PX,) * 2, Image.Resampling.NEAREST),
        _over(fine.crop(box), attention),
    ]
    captions = ["low resolution: one token is one cell", "its window in high resolution", "where the token looks"]
    width = 3 * PANEL_PX + 4 * MARGIN_PX
    figure = Image.new("RGB", (width, PANEL_PX + 2 * MARGIN_PX + CAPTION_PX), "white")
    draw = ImageDraw.Draw(figure)
    for number, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        left = MARGIN_PX + number * (PANEL_PX + MARGIN_PX)
        figure.paste(panel, (left, MARGIN_PX))
        place = (left + PANEL_PX / 2, PANEL_PX + MARGIN_PX + CAPTION_PX / 2 + 6)
        draw.text(place, caption, anchor="mm", font=ImageFont.load_default(20), fill="black")
    return figure


def _with_grid(image: Image.Image, grid: int, marked: tuple[int, int]) -> Image.Image:
    panel = image.resize((PANEL_PX,) * 2, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(panel)
    step = PANEL_PX / grid
    for line in range(1, grid):
        draw.line((line * step, 0, line * step, PANEL_PX), fill=(150, 150, 150))
        draw.line((0, line * step, PANEL_PX, line * step), fill=(150, 150, 150))
    top, left = marked[0] * step, marked[1] * step
    draw.rectangle((left, top, left + step, top + step), outline=RED, width=4)
    return panel


def _over(window: Image.Image, attention: torch.Tensor) -> Image.Image:
    """The window in grey, each pixel of the map coloured by its attention."""
    strength = attention / attention.max()
    heat = Image.fromarray((strength * 200).byte().numpy(), "L").resize((PANEL_PX,) * 2, Image.Resampling.NEAREST)
    grey = window.convert("L").convert("RGB").resize((PANEL_PX,) * 2, Image.Resampling.NEAREST)
    return Image.composite(Image.new("RGB", grey.size, RED), grey, heat)


if __name__ == "__main__":
    target = Path(__file__).parent / "assets" / "mining.png"
    draw_figure().save(target, optimize=True)
    print(target)
