"""The recipe writes a Stable Diffusion folder that diffusers draws, varies and inpaints with by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.nano.drawing import NanoGenerator
from mgem_agent.recipes.nano.drawing import denoised_decoder, denoiser
from mgem_agent.recipes.nano.drawing.autoencoder import AutoencoderConfig, make_autoencoder
from mgem_agent.recipes.nano.drawing.cell_table import cell_looks, cell_text_encoder, place_looks
from mgem_agent.recipes.nano.drawing.cell_tokenizer import RELATIONS, CellGrid
from mgem_agent.recipes.nano.drawing.denoised_decoder import DenoisedDecoderConfig, sharpened, train_denoised_decoder
from mgem_agent.recipes.nano.drawing.denoiser import DenoiserConfig, train_denoiser
from mgem_agent.recipes.nano.drawing.layout_latents import with_layout_channels
from mgem_agent.recipes.nano.drawing.scene_latents import SceneLatents, SceneLatentsConfig, write_scene_latents
from mgem_agent.recipes.nano.world.backgrounds import BACKGROUNDS
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("autoencoder")
    with_layout_channels(make_autoencoder(AutoencoderConfig(channels=8, latent_channels=4))).save_pretrained(folder)
    return folder


@pytest.fixture
def scenes(tmp_path: Path, autoencoder: Path, drawn_assets) -> Path:
    config = SceneLatentsConfig(
        autoencoder=str(autoencoder), num_shards=3, kept_shards=2, shard_size=8, image_px=32, seed=1
    )
    return write_scene_latents(tmp_path / "scenes", config, drawn_assets)


def test_old_shards_are_replaced(scenes: Path) -> None:
    assert sorted(file.name for file in scenes.iterdir()) == ["1.npz", "2.npz"]
    latents, covered, tokens = SceneLatents(scenes).batch(np.random.default_rng(0), 5)
    assert (latents.shape, covered.shape, tokens.shape) == ((5, 4 + 6, 8, 8), (5, 8, 8), (5, CellGrid().max_tokens))
    assert 0 < covered.mean() < 1
    assert tokens[:, 0].eq(0).all()


def test_there_must_be_scenes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scene_latents"):
        SceneLatents(tmp_path)


def test_tokens_start_as_what_cells_look_like(autoencoder: Path, drawn_assets) -> None:
    grid = CellGrid(side=2, place_side=1, max_tokens=16)
    model = AutoencoderTiny.from_pretrained(autoencoder).eval()
    looks = cell_looks(model, drawn_assets, grid)
    assert looks.shape == (len(drawn_assets.concepts), 4, 20)
    places = place_looks(model, grid, 32)
    assert places.shape == (len(BACKGROUNDS), 1, 20)
    encoder = cell_text_encoder(looks, places, grid, num_layers=1)
    num_tokens = 2 + 4 * len(drawn_assets.concepts) + len(BACKGROUNDS) + len(RELATIONS)
    table = encoder.get_input_embeddings().weight
    assert table.shape == (num_tokens, 20 + 76)
    first = grid.first_token(5, len(drawn_assets.concepts))
    assert torch.equal(table[first + 1, :20], looks[5, 1])
    assert torch.equal(table[-len(RELATIONS) - 1, :20], places[-1, 0])


def test_sharpening_is_linear_keeps_plain_areas_and_enlarges_edges() -> None:
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    one, other = sharpened(pictures[:1], 1.6), sharpened(pictures[1:], 1.6)
    torch.testing.assert_close(sharpened(pictures.mean(0, keepdim=True), 1.6), (one + other) / 2)
    assert torch.equal(sharpened(pictures, 0), pictures)
    plain = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(sharpened(plain, 1.6), plain)
    edge = plain.clone()
    edge[..., 8:] = 0.6
    row = sharpened(edge, 1.0)[0, 0, 8]
    assert row[7] < 0.3 - 0.05 and row[8] > 0.6 + 0.05
    torch.testing.assert_close(row[:4], edge[0, 0, 8, :4])


def test_it_leaves_a_stable_diffusion_folder(
    tmp_path: Path, autoencoder: Path, scenes: Path, drawn_assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoiser, "SHEET_CAPTIONS", ("a fox",))
    monkeypatch.setattr(denoised_decoder, "SHEET_CAPTIONS", ("a fox",))
    monkeypatch.setattr(denoiser, "SHEET_SEEDS", 2)
    monkeypatch.setattr(denoised_decoder, "SHEET_SEEDS", 1)
    config = DenoiserConfig(
        autoencoder=str(autoencoder), scenes=str(scenes), image_px=32, widths=(16, 16), attends=(True, False),
        copies=(True, False), num_heads=(2, 2),
        num_steps=2, batch_size=2, warmup_steps=1, sheet_every=1,
    )  # fmt: skip
    folder = train_denoiser(tmp_path / "run", config, drawn_assets)
    with Image.open(tmp_path / "run" / "contact_sheet.png") as sheet:
        assert sheet.size == (32, 2 * 32)
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    first, again, other = (
        pipeline("a fox", num_inference_steps=2, generator=torch.Generator().manual_seed(seed)).images[0]
        for seed in (1, 1, 2)
    )
    assert first.size == (32, 32)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    tuned = train_denoised_decoder(
        tmp_path / "decoder",
        DenoisedDecoderConfig(
            pipeline=str(folder), image_px=32, num_steps=1, batch_size=4, warmup_steps=1, steps=2, sharpness=1.5
        ),
        drawn_assets,
    )
    generator = NanoGenerator(folder=tuned)
    assert generator.capabilities.seed
    assert generator.capabilities.tasks >= {"image_to_image", "inpaint"}
    changes: dict[str, Any] = {"prompt": "two foxes at night", "image": "start", "strength": 0.5}
    requests = [
        ImageRequest(task="image_to_image", **changes),
        ImageRequest(task="inpaint", mask="mask", **changes),
    ]
    pictures = {"start": first, "mask": Image.new("L", (32, 32), 255)}
    results = [event for event in draw(generator, requests, pictures=pictures) if isinstance(event, ImageResult)]
    assert [result.error for result in results] == [None, None]
    assert {result.executed.prompt for result in results} == {"two foxes at night"}
