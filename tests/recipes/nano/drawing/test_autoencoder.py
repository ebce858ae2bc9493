"""The autoencoder's recipe: what it learns from, what it learns, and what it leaves behind."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from mgem_agent.recipes.nano.drawing.aligned_scenes import aligned_pixels, aligned_scene
from mgem_agent.recipes.nano.drawing.autoencoder import (
    AutoencoderConfig,
    detail_loss,
    make_autoencoder,
    narrowed,
    scene_pieces,
    train_autoencoder,
)

TINY = {"channels": 8, "encoder_blocks": (1, 1, 1, 1), "decoder_blocks": (1, 1, 1, 1), "batch_size": 4}


def config(**changes) -> AutoencoderConfig:
    return AutoencoderConfig(**TINY | {"piece_px": 32, "scene_px": 64, "num_steps": 4, "warmup_steps": 1} | changes)


def test_the_loss_counts_pixels_their_gradients_and_mean_colours():
    real = torch.zeros(1, 3, 16, 16)
    assert detail_loss(real, real) == 0
    assert detail_loss(real + 1, real) == 1 + 1  # all edges right
    striped = real.clone()
    striped[..., ::2], striped[..., 1::2] = 1, -1
    assert detail_loss(striped, real) == pytest.approx(1 + 2 + 0)  # the mean colours are right


def test_pieces_are_of_the_step_and_in_range(drawn_assets):
    first, again, other = (scene_pieces(step, config(), drawn_assets) for step in (3, 3, 4))
    assert first.shape == (4, 3, 32, 32)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= -1 and first.max() <= 1 and first.std() > 0.05


def test_every_halving_of_the_sides_is_a_level_of_blocks():
    latents = make_autoencoder(config()).encode(torch.zeros(1, 3, 64, 64)).latents
    assert latents.shape == (1, 4, 8, 8)


def test_it_begins_as_a_blur_with_the_right_colours():
    model = make_autoencoder(AutoencoderConfig())
    halves = torch.tensor([0.9, -0.5, 0.1]).view(1, 3, 1, 1).repeat(1, 1, 64, 64)
    halves[..., 32:] = torch.tensor([-0.8, 0.7, 0.3]).view(3, 1, 1)
    with torch.no_grad():
        latents = model.encode(halves).latents
        drawn = model.decode(latents).sample
    torch.testing.assert_close(latents[:, :3, 1:-1, 2], halves[:, :, 4:-4:4, 8])
    within = (..., slice(16, 48), slice(16, 20))  # away from the edges
    torch.testing.assert_close(drawn[within], halves[within], rtol=0.05, atol=0.03)


def test_what_is_trained_is_read_by_diffusers(tmp_path, drawn_assets):
    folder = train_autoencoder(tmp_path, config(), drawn_assets)
    model: Any = AutoencoderTiny.from_pretrained(folder)
    with torch.no_grad():
        latents = model.encode(scene_pieces(99, config(), drawn_assets)).latents
    assert float(latents.std()) * model.config.scaling_factor == pytest.approx(1, rel=0.5)
    with Image.open(tmp_path / "seen_and_drawn.png") as picture:
        assert picture.size == (8 * 64, 2 * 64)


def test_it_learns(drawn_assets):
    torch.manual_seed(0)
    model = make_autoencoder(config())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    pieces = scene_pieces(0, config(), drawn_assets)
    losses = []
    for _ in range(40):
        loss = detail_loss(model.decode(model.encode(pieces).latents).sample, pieces)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.7 * losses[0]


def test_a_narrower_autoencoder_keeps_what_the_principal_components_hold(drawn_assets) -> None:
    torch.manual_seed(0)
    wide = make_autoencoder(AutoencoderConfig(channels=8, latent_channels=6)).eval()
    scenes = aligned_pixels([aligned_scene(0, index)[0] for index in range(4)], drawn_assets, 64)
    narrow = narrowed(wide, scenes, 5)
    assert narrow.config.latent_channels == 5
    latents = narrow.encode(scenes).latents
    spread = latents.std((0, 2, 3))
    torch.testing.assert_close(spread, torch.full((5,), 0.5), atol=0.02, rtol=0)
    whole, kept = wide.decode(wide.encode(scenes).latents).sample, narrow.decode(latents).sample
    fewer = narrowed(wide, scenes, 3)
    least = fewer.decode(fewer.encode(scenes).latents).sample
    inner = (slice(None), slice(None), slice(8, -8), slice(8, -8))  # padding sees the latents' mean
    errors = [(drawn - whole)[inner].square().mean() for drawn in (kept, least)]
    assert errors[0] < errors[1]


def test_it_leaves_a_folder_for_diffusers(tmp_path, drawn_assets) -> None:
    make_autoencoder(AutoencoderConfig(channels=8, latent_channels=6)).save_pretrained(tmp_path / "wide")
    config = AutoencoderConfig(
        wider=str(tmp_path / "wide"), num_steps=2, batch_size=4, warmup_steps=1, piece_px=32, scene_px=64
    )
    folder = train_autoencoder(tmp_path / "run", config, drawn_assets)
    model: Any = AutoencoderTiny.from_pretrained(folder)
    assert model.config.latent_channels == 4
    assert model.config.scaling_factor > 0
    assert (tmp_path / "run" / "seen_and_drawn.png").is_file()
