"""The generator's recipe leaves an ordinary diffusers folder, and what it trains learns."""

import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, StableDiffusionPipeline
from PIL import Image

from mgem_agent.recipes.train import generator
from mgem_agent.recipes.train.autoencoder import AutoencoderConfig, make_autoencoder
from mgem_agent.recipes.train.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.train.generator import GeneratorConfig, make_pipeline, train_generator

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own


@pytest.fixture
def config(tmp_path) -> GeneratorConfig:
    make_autoencoder(AutoencoderConfig(channels=8)).save_pretrained(tmp_path / "autoencoder")
    return GeneratorConfig(
        autoencoder=str(tmp_path / "autoencoder"),
        num_steps=3,
        batch_size=4,
        warmup_steps=1,
        image_px=32,
        channels=(16, 32),
        text_width=64,
        num_text_layers=1,
        vocab_size=400,
        ema_decay=0.5,
    )


def test_the_folder_is_an_ordinary_one(tmp_path, config, drawn_assets):
    folder = train_generator(tmp_path / "run", config, drawn_assets)
    pipeline = DiffusionPipeline.from_pretrained(folder)
    assert type(pipeline) is StableDiffusionPipeline
    pipeline.set_progress_bar_config(disable=True)
    pictures = [
        pipeline("a fox", num_inference_steps=2, generator=torch.Generator().manual_seed(seed)).images[0]
        for seed in (1, 1, 2)
    ]
    assert pictures[0].size == (32, 32)
    assert pictures[0].tobytes() == pictures[1].tobytes() != pictures[2].tobytes()
    with Image.open(tmp_path / "run" / "contact_sheet.png") as sheet:
        assert sheet.size == (8 * 32, 4 * 32)


def test_a_tenth_of_the_captions_is_empty_and_none_is_of_another_step(config, drawn_assets):
    config = config.model_copy(update={"batch_size": 50, "image_px": 16})
    pixels, captions = generator._captioned_scenes(2, config, drawn_assets)
    assert pixels.shape == (50, 3, 16, 16)
    assert 1 <= captions.count("") <= 12
    assert generator._captioned_scenes(2, config, drawn_assets)[1] == captions
    assert generator._captioned_scenes(3, config, drawn_assets)[1] != captions


def test_it_learns_what_it_is_shown(tmp_path, config, drawn_assets):
    pipeline = make_pipeline(config, train_caption_tokenizer(tmp_path, 400, 24, drawn_assets, num_captions=20))
    noising = DDPMScheduler(**generator.SCHEDULE)
    latents = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    trained = [*pipeline.unet.parameters(), *pipeline.text_encoder.parameters()]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    losses, untrained = [], pipeline.text_encoder.get_input_embeddings().weight.detach().clone()
    for _ in range(60):
        chance = torch.Generator().manual_seed(0)
        loss = generator._velocity_loss(pipeline, noising, latents, ["a", "b", "c", "d"], chance, config)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.5 * losses[0]
    assert not torch.equal(pipeline.text_encoder.get_input_embeddings().weight, untrained)
