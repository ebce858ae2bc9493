"""The autoencoder of the denoiser's pictures: from random weights, or from one with more latent channels."""

from typing import Any

import torch
from diffusers import AutoencoderTiny

from mgem_agent.recipes.nano.drawing.aligned_scenes import aligned_pixels, aligned_scene
from mgem_agent.recipes.nano.drawing.autoencoder import AutoencoderConfig, make_autoencoder
from mgem_agent.recipes.nano.drawing.scene_autoencoder import (
    SceneAutoencoderConfig,
    narrowed,
    train_scene_autoencoder,
)


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
    config = SceneAutoencoderConfig(
        wider=str(tmp_path / "wide"), num_steps=2, batch_size=4, warmup_steps=1, piece_px=32, scene_px=64
    )
    folder = train_scene_autoencoder(tmp_path / "run", config, drawn_assets)
    model: Any = AutoencoderTiny.from_pretrained(folder)
    assert model.config.latent_channels == 4
    assert model.config.scaling_factor > 0
    assert (tmp_path / "run" / "seen_and_drawn.png").is_file()
