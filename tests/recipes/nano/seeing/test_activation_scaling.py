"""Mining and the projector in the scale of what they see."""

import pytest
import torch

from mgem_agent.core_model.mining import PatchInfoMining
from mgem_agent.recipes.nano.seeing.activation_scaling import (
    fold_norms,
    learning_rate_factors,
    start_in_scale,
    unfold_norms,
)
from mgem_agent.recipes.nano.seeing.encoder_features import encode_images
from mgem_agent.recipes.nano.world.scene import sample_scene
from mgem_agent.recipes.nano.world.scene_rendering import render_scene
from mgem_agent.recipes.train.config import ModelConfig
from mgem_agent.recipes.train.model_setup import load_model


@pytest.fixture
def trunk_and_seen(encoder_parts, drawn_assets):
    """A model with untrained mining, and what its encoders see of four scenes."""
    source = ModelConfig(**encoder_parts, prompt_template="chatml", high_res_image_size=128)
    model, processor = load_model(source, torch.float32)
    pictures = [render_scene(sample_scene(0, index), drawn_assets, size_px=64) for index in range(4)]
    with torch.no_grad():
        return model.model, encode_images(model.model, processor.image_processor(pictures, return_tensors="pt"))


def test_mining_and_projector_start_in_the_scale_of_what_they_see_and_of_words(trunk_and_seen):
    trunk, seen = trunk_and_seen
    table = 3 + 0.1 * torch.randn(50, 32, generator=torch.Generator().manual_seed(0))
    start_in_scale(trunk, seen, table)
    with torch.no_grad():
        tokens = seen.mined(trunk)
        rows = trunk.multi_modal_projector(tokens).flatten(0, 1)
    mined = (tokens - seen.low).flatten(0, 1).std(0)
    torch.testing.assert_close(mined, seen.low.flatten(0, 1).std(0), rtol=0.05, atol=1e-3)
    torch.testing.assert_close(rows.mean(0), table.mean(0), rtol=0, atol=1e-3)
    assert (rows - rows.mean(0)).square().mean().sqrt().item() == pytest.approx(0.1, rel=0.1)


def test_folding_changes_the_weights_and_not_what_they_compute():
    torch.manual_seed(0)
    mining = PatchInfoMining(query_dim=8, candidate_dim=6).double()
    for norm in (mining.query_norm, mining.key_norm, mining.value_norm):
        torch.nn.init.normal_(norm.weight, std=30)
        torch.nn.init.normal_(norm.bias, std=30)
    tokens = torch.randn(1, 16, 8).double()
    maps = [torch.randn(1, 2, 16, 16).double(), torch.randn(1, 4, 8, 8).double()]
    before = mining(tokens, maps)
    fold_norms(mining)
    assert mining.value_norm.weight.eq(1).all() and mining.key_norm.bias.eq(0).all()
    torch.testing.assert_close(mining(tokens, maps), before, rtol=1e-4, atol=1e-3)


def test_unfolding_standardises_each_channel_and_changes_nothing_else(trunk_and_seen):
    trunk, seen = trunk_and_seen
    start_in_scale(trunk, seen, torch.randn(50, 32, generator=torch.Generator().manual_seed(0)))
    trunk.double()
    seen = type(seen)(seen.low.double(), [each.double() for each in seen.high])
    fold_norms(trunk.mining)
    before = seen.mined(trunk)
    widths = trunk.mining.value_proj.weight.norm(dim=0)
    unfold_norms(trunk, seen)
    torch.testing.assert_close(seen.mined(trunk), before, rtol=1e-4, atol=1e-4)
    assert not trunk.mining.value_norm.weight.eq(1).all()
    again = trunk.mining.value_proj.weight.norm(dim=0)
    assert again.max() / again.min() < 0.5 * widths.max() / widths.min()


def test_layers_that_start_larger_learn_in_larger_steps():
    layer, norm = torch.nn.Linear(300, 50), torch.nn.LayerNorm(50)
    with torch.no_grad():
        layer.weight *= 20
    factors = learning_rate_factors(torch.nn.Sequential(layer, norm))
    assert factors[layer.weight] == factors[layer.bias] == pytest.approx(20, rel=0.05)
    assert factors[norm.weight] == factors[norm.bias] == pytest.approx(1)
