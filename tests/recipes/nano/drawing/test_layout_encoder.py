"""The encoder that finds the layout of a picture."""

import json
from typing import Any

import torch
from diffusers import AutoencoderTiny

from mgem_agent.recipes.nano.drawing.autoencoder import AutoencoderConfig, make_autoencoder
from mgem_agent.recipes.nano.drawing.layout_encoder import LayoutEncoderConfig, train_layout_encoder, with_more_blocks


def test_more_blocks_change_nothing_at_first():
    old = make_autoencoder(AutoencoderConfig(channels=8, latent_channels=3)).eval()
    deep = with_more_blocks(old, 2).eval()
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(deep.encode(pixels).latents, old.encode(pixels).latents)
    assert len(deep.encoder.layers) == len(old.encoder.layers) + 2


def test_it_learns_layouts_and_keeps_the_decoder(tmp_path, drawn_assets):
    torch.manual_seed(0)
    old = make_autoencoder(AutoencoderConfig(channels=8, latent_channels=3))
    old.save_pretrained(tmp_path / "old")
    config = LayoutEncoderConfig(
        autoencoder=str(tmp_path / "old"), num_steps=25, batch_size=4, warmup_steps=1, more_blocks=1, image_px=32,
        log_every=5, ema_decay=0.5,
    )  # fmt: skip
    folder = train_layout_encoder(tmp_path / "run", config, drawn_assets)
    model: Any = AutoencoderTiny.from_pretrained(folder)
    assert model.config.latent_channels == 3 + 6
    pixels = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        latents = model.encode(pixels).latents
        torch.testing.assert_close(model.decode(latents).sample, old.decode(latents[:, :3]).sample)
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    figures = [json.loads(line)["layout"] for line in lines]
    assert figures[-1] < figures[0]
