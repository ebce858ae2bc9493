"""The autoencoder's recipe: what it learns from, what it learns, and what it leaves behind."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from mgem_agent.recipes.nano.drawing.autoencoder import (
    AutoencoderConfig,
    added_latents,
    detail_loss,
    make_autoencoder,
    scene_pieces,
    train_autoencoder,
)
from mgem_agent.recipes.nano.drawing.scene_layers import SceneLayers

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
    layers = SceneLayers(drawn_assets, 64)
    first, again, other = (scene_pieces(step, config(), drawn_assets, layers) for step in (3, 3, 4))
    assert first.scenes.shape == (4, 3, 32, 32)
    assert first.scenes.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(first.scenes, again.scenes, rtol=0, atol=0)
    torch.testing.assert_close(first.layers, again.layers, rtol=0, atol=0)
    assert not torch.equal(first.scenes, other.scenes)
    assert first.scenes.min() >= -1 and first.scenes.max() <= 1 and first.scenes.std() > 0.05


def test_every_fourth_scene_is_one_layer_and_the_others_have_one_for_each_part(drawn_assets):
    layers = SceneLayers(drawn_assets, 64)
    pieces = scene_pieces(0, config(batch_size=48), drawn_assets, layers)
    numbers = pieces.owners.bincount().tolist()
    assert len(numbers) == 48 and {numbers[row] for row in (0, 1, 8, 9)} == {1}
    assert {numbers[row] for row in range(48) if row % 8 > 1} == {2, 3}
    torch.testing.assert_close(pieces.layers[:2], pieces.scenes[:2], rtol=0, atol=0)
    odd = scene_pieces(0, config(batch_size=3), drawn_assets, layers)
    assert len(odd.scenes) == 3 and odd.owners.max() == 2 and len(odd.owners) == len(odd.layers)


def test_latents_of_layers_add_up(drawn_assets):
    model = make_autoencoder(config())
    pieces = scene_pieces(0, config(batch_size=8), drawn_assets, SceneLayers(drawn_assets, 64))
    with torch.no_grad():
        encoded = model.encode(pieces.layers).latents
        nothing = model.encode(pieces.nothing[None]).latents[0]
        added = added_latents(model, pieces)
        half = added_latents(model, pieces, torch.full((len(pieces.layers),), 0.5))
    for row in range(8):
        of_row = encoded[pieces.owners == row]
        torch.testing.assert_close(added[row], of_row.sum(0) - (len(of_row) - 1) * nothing, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(half, (added + nothing) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(added[0], encoded[0], rtol=1e-4, atol=1e-4)  # a whole scene is its own layer


def test_every_halving_of_the_sides_is_a_level_of_blocks():
    latents = make_autoencoder(config()).encode(torch.zeros(1, 3, 64, 64)).latents
    assert latents.shape == (1, 6, 8, 8)


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
        latents = added_latents(model, scene_pieces(99, config(), drawn_assets, SceneLayers(drawn_assets, 64)))
    assert float(latents.std()) * model.config.scaling_factor == pytest.approx(1, rel=0.5)
    with Image.open(tmp_path / "seen_and_drawn.png") as picture:
        assert picture.size == (8 * 64, 2 * 64)


def test_it_learns(drawn_assets):
    torch.manual_seed(0)
    model = make_autoencoder(config())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    pieces = scene_pieces(0, config(), drawn_assets, SceneLayers(drawn_assets, 64))
    losses = []
    for _ in range(40):
        loss = detail_loss(model.decode(added_latents(model, pieces)).sample, pieces.scenes)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.7 * losses[0]
