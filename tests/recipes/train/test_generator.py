"""The generator's recipe leaves an ordinary diffusers folder, and what it trains learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from PIL import Image

from mgem_agent.errors import InputError
from mgem_agent.recipes.train import generator
from mgem_agent.recipes.train.autoencoder import AutoencoderConfig, make_autoencoder
from mgem_agent.recipes.train.caption_encoder import (
    CaptionEncoderConfig,
    fact_loss,
    fact_sizes,
    train_caption_encoder,
)
from mgem_agent.recipes.train.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.train.generator import GeneratorConfig, make_pipeline, train_generator

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own


@pytest.fixture
def captions(tmp_path: Path, drawn_assets) -> Path:
    train_caption_tokenizer(tmp_path / "captions" / "tokenizer", 400, 120, drawn_assets, num_captions=20)
    sizes = CaptionEncoderConfig(num_steps=1, batch_size=2, width=64, num_layers=1)
    return train_caption_encoder(tmp_path / "captions", sizes, drawn_assets)


@pytest.fixture
def config(tmp_path: Path, captions: Path) -> GeneratorConfig:
    make_autoencoder(AutoencoderConfig(channels=8)).save_pretrained(tmp_path / "autoencoder")
    return GeneratorConfig(
        autoencoder=str(tmp_path / "autoencoder"),
        captions=str(captions),
        num_steps=3,
        num_reading_steps=1,
        num_scenes=8,
        batch_size=4,
        warmup_steps=1,
        image_px=32,
        patch_size=4,
        width=224,
        num_layers=1,
        ema_decay=0.5,
    )


def test_the_folder_is_an_ordinary_one(tmp_path, config, drawn_assets):
    folder = train_generator(tmp_path / "run", config, drawn_assets)
    pipeline: Any = DiffusionPipeline.from_pretrained(folder)
    assert pipeline.__class__.__name__ == "PixArtAlphaPipeline"
    pipeline.set_progress_bar_config(disable=True)
    pictures: list[Any] = [
        pipeline(
            "a fox",
            num_inference_steps=2,
            use_resolution_binning=False,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        for seed in (1, 1, 2)
    ]
    assert pictures[0].size == (32, 32)
    assert pictures[0].tobytes() == pictures[1].tobytes() != pictures[2].tobytes()
    with Image.open(tmp_path / "run" / "contact_sheet.png") as sheet:
        assert sheet.size == (8 * 32, 4 * 32)


def test_a_tenth_of_the_captions_is_empty_and_scenes_come_again_in_other_words(config):
    config = config.model_copy(update={"batch_size": 50, "num_scenes": 100})
    indices, captions, facts = generator.scene_captions(0, config)
    assert indices == list(range(50))
    assert 1 <= captions.count("") <= 12
    none = torch.tensor(fact_sizes())
    assert [bool((found == none).all()) for found in facts] == [words == "" for words in captions]
    assert generator.scene_captions(0, config)[:2] == (indices, captions)
    again, other_words, _ = generator.scene_captions(2, config)
    assert again == indices
    assert other_words != captions


def test_what_is_read_alone_is_never_the_same_and_half_of_it_has_two_things(config):
    config = config.model_copy(update={"batch_size": 20, "num_reading_steps": 2})
    captions, facts = generator.captions_to_read(0, config)
    assert generator.captions_to_read(0, config)[0] == captions
    assert len({*captions, *generator.captions_to_read(1, config)[0]}) == 40
    num_alone = fact_sizes()[1]
    assert (facts[1::2, 1] == num_alone).all()
    assert not (facts[::2, 1] == num_alone).all()
    drawing = config.model_copy(update={"num_reading_steps": 0})
    assert generator.captions_to_read(0, drawing)[0] == captions[:5]


def test_latents_are_scaled_and_kept(tmp_path, config, drawn_assets):
    pipeline = make_pipeline(config)
    scenes = generator.scene_latents(pipeline, config, drawn_assets, tmp_path)
    first = scenes.latents([3, 1])
    pipeline.vae.register_to_config(scaling_factor=2 * pipeline.vae.config.scaling_factor)
    assert first.shape == (2, 4, 8, 8)
    torch.testing.assert_close(scenes.latents([1, 3]), first.flip(0), rtol=0, atol=0)
    other = generator.scene_latents(pipeline, config, drawn_assets, tmp_path / "autoencoder")
    torch.testing.assert_close(other.latents([3, 1]), 2 * first, rtol=1e-2, atol=1e-2)


def test_it_learns_what_it_is_shown(config):
    pipeline = make_pipeline(config)
    noising = DDPMScheduler(**generator.SCHEDULE)
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    trained = [*pipeline.transformer.parameters(), *pipeline.text_encoder.parameters()]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    losses, untrained = [], pipeline.text_encoder.get_input_embeddings().weight.detach().clone()
    for _ in range(60):
        chance = torch.Generator().manual_seed(0)
        loss = generator.denoising_loss(pipeline, noising, latents, ["a", "b", "c", "d"], chance, config)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.5 * losses[0]
    assert not torch.equal(pipeline.text_encoder.get_input_embeddings().weight, untrained)


def test_noisy_steps_come_more_often_and_weigh_something(config):
    pipeline = make_pipeline(config)
    seen = []

    class Noising(DDPMScheduler):
        def add_noise(self, original_samples, noise, timesteps):
            seen.append(timesteps)
            return super().add_noise(original_samples, noise, timesteps)

    def loss(least_snr: float) -> float:
        chance = torch.Generator().manual_seed(0)
        sizes = config.model_copy(update={"least_snr": least_snr})
        noising = Noising(**generator.SCHEDULE)
        return generator.denoising_loss(pipeline, noising, torch.ones(64, 4, 8, 8), ["a"] * 64, chance, sizes).item()

    assert loss(0.3) > loss(0.0) + 0.05
    assert seen[0].float().mean() > 600
    assert torch.equal(seen[0], seen[1])
    config = config.model_copy(update={"min_timestep": 800})
    loss(0.3)
    assert seen[2].min() >= 800


def test_what_has_learned_to_read_draws_from_the_first_step(tmp_path, config, drawn_assets):
    config = config.model_copy(update={"batch_size": 8, "no_caption": 0.0, "patch_size": 8})
    pipeline = make_pipeline(config)
    noising: Any = DDPMScheduler(**generator.SCHEDULE)
    scenes = generator.scene_latents(pipeline, config, drawn_assets, tmp_path)
    indices, captions, facts = generator.scene_captions(0, config)
    latents = scenes.latents(indices)
    generator.begin_to_read(pipeline.transformer, latents)
    optimizer = torch.optim.Adam([*pipeline.transformer.parameters(), *pipeline.text_encoder.parameters()], lr=1e-3)
    chance = torch.Generator().manual_seed(0)

    def step() -> tuple[torch.Tensor, torch.Tensor, float]:
        with generator.table_scores(pipeline.transformer) as scores:
            wrong = generator.denoising_loss(pipeline, noising, latents, captions, chance, config, read=captions)
        return wrong, *fact_loss(scores[0], torch.cat([facts, facts]))

    before, misread, right = step()
    for _ in range(120):
        misread.backward()
        optimizer.step()
        optimizer.zero_grad()
        before, misread, right = step()
    assert right == 1
    generator.begin_to_draw(pipeline, noising, scenes, config)
    after, _, right = step()
    assert right == 1
    assert after < 0.3 * before


def test_a_transformer_that_is_too_narrow_for_its_table_says_so(config):
    pipeline = make_pipeline(config.model_copy(update={"width": 64}))
    with pytest.raises(InputError, match="width of 224 or more"), generator.table_scores(pipeline.transformer):
        pass
