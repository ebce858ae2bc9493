"""The generator's recipe leaves an ordinary diffusers folder, and what it trains learns."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from mgem_agent.errors import InputError
from mgem_agent.nano import NanoGenerator
from mgem_agent.recipes.nano.drawing import fact_table, generator
from mgem_agent.recipes.nano.drawing.autoencoder import AutoencoderConfig, make_autoencoder
from mgem_agent.recipes.nano.drawing.caption_encoder import (
    CaptionEncoderConfig,
    fact_loss,
    fact_sizes,
    scene_slots,
    train_caption_encoder,
)
from mgem_agent.recipes.nano.drawing.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.nano.drawing.generator import FactLooks, GeneratorConfig, make_pipeline, train_generator
from mgem_agent.recipes.nano.drawing.scene_layers import SceneLayers
from mgem_agent.recipes.nano.drawing.vae_decoder_finetune import DecoderConfig, train_decoder
from mgem_agent.recipes.nano.world.scene import sample_scene
from mgem_agent.tools.drawing import draw
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own


@pytest.fixture(autouse=True)
def _few_captions_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_HEARD", 8)


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
        batch_size=4,
        warmup_steps=1,
        image_px=32,
        width=416,
        num_layers=1,
        ema_decay=0.5,
    )


@pytest.fixture
def looks(config: GeneratorConfig, drawn_assets) -> FactLooks:
    return FactLooks(make_pipeline(config).vae, SceneLayers(drawn_assets, config.image_px))


def test_the_folder_is_an_ordinary_one(tmp_path, config, drawn_assets):
    folder = train_generator(tmp_path / "run", config, drawn_assets)
    pipeline: Any = DiffusionPipeline.from_pretrained(folder)
    assert pipeline.__class__.__name__ == "PixArtAlphaPipeline"
    pipeline.set_progress_bar_config(disable=True)
    pictures: list[Any] = [
        pipeline(
            "a fox",
            num_inference_steps=2,
            guidance_scale=1.0,
            use_resolution_binning=False,
            generator=torch.Generator().manual_seed(1),
        ).images[0]
        for _ in range(2)
    ]
    assert pictures[0].size == (32, 32)
    assert pictures[0].tobytes() == pictures[1].tobytes()
    with Image.open(tmp_path / "run" / "contact_sheet.png") as sheet:
        assert sheet.size == (8 * 32, 4 * 32)


def test_every_step_has_other_scenes(config):
    captions, facts = generator.scene_captions(0, config)
    assert len(captions) == len(facts) == 4
    again, same = generator.scene_captions(0, config)
    assert again == captions and torch.equal(same, facts)
    assert not set(captions) & set(generator.scene_captions(1, config)[0])


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


def test_the_latents_of_a_scene_are_the_sum_of_what_its_facts_look_like(config, looks, drawn_assets):
    vae, layers = make_pipeline(config).vae, SceneLayers(drawn_assets, config.image_px)
    scene = next(s for s in (sample_scene(0, n, kind="posed") for n in range(99)) if len(s.objects) == 2)
    slots = scene_slots(scene)
    with torch.no_grad():
        parts = vae.encode(torch.stack([layers.layer(fact) for fact in layers.facts(slots)])).latents
        nothing = vae.encode(layers.nothing[None]).latents[0]
    wanted = (parts.sum(0) - 2 * nothing) * vae.config.scaling_factor
    torch.testing.assert_close(looks.latents(torch.tensor([slots]))[0], wanted, rtol=1e-4, atol=1e-4)
    none = torch.tensor([fact_sizes()])
    torch.testing.assert_close(looks.latents(none)[0], nothing * vae.config.scaling_factor, rtol=1e-4, atol=1e-4)
    assert looks.asked(torch.tensor([slots])).nonzero()[:, 1].tolist() == layers.facts(slots)


def test_it_learns_what_it_is_shown(config):
    pipeline = make_pipeline(config)
    noising = DDPMScheduler(**generator.SCHEDULE)
    latents = torch.randn(4, 6, 8, 8, generator=torch.Generator().manual_seed(0))
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
        return generator.denoising_loss(pipeline, noising, torch.ones(64, 6, 8, 8), ["a"] * 64, chance, sizes).item()

    assert loss(0.3) > loss(0.0) + 0.05
    assert seen[0].float().mean() > 600
    assert torch.equal(seen[0], seen[1])


def test_what_has_learned_to_read_draws_at_once(config, looks):
    config = config.model_copy(update={"batch_size": 8})
    pipeline = make_pipeline(config)
    noising: Any = DDPMScheduler(**generator.SCHEDULE)
    captions, facts = generator.scene_captions(0, config)
    latents = looks.latents(facts)
    fact_table.begin_to_read(pipeline.transformer)
    optimizer = torch.optim.Adam([*pipeline.transformer.parameters(), *pipeline.text_encoder.parameters()], lr=1e-3)
    chance = torch.Generator().manual_seed(0)

    def step() -> tuple[torch.Tensor, torch.Tensor, float]:
        with fact_table.table_scores(pipeline.transformer) as scores:
            wrong = generator.denoising_loss(pipeline, noising, latents, captions, chance, config, read=captions)
        return wrong, *fact_loss(scores[0], torch.cat([facts, facts]))

    before, misread, right = step()
    for _ in range(150):
        misread.backward()
        optimizer.step()
        optimizer.zero_grad()
        before, misread, right = step()
    assert right == 1
    generator.learn_looks(pipeline, noising, looks, config)
    after, _, right = step()
    assert right == 1
    assert after < 0.05 * before


def test_neither_time_nor_loudness_changes_what_is_drawn(config, looks):
    """Facts that are said exactly give the sum of what they look like, but for what the components leave out."""
    transformer = make_pipeline(config).transformer
    facts = looks.asked(generator.scene_captions(0, config)[1])
    heard, chance = fact_table.Heard(), torch.Generator().manual_seed(0)
    others = torch.randn(len(facts), config.width, generator=chance)
    heard.others, heard.times = [others], [torch.randn(len(facts), config.width, generator=chance)]
    mlp = transformer.transformer_blocks[-1].ff
    with torch.no_grad():  # a fact that is asked for has a score from 4 to 9
        mlp.net[0].proj.weight.zero_()
        mlp.net[0].proj.bias.fill_(-6.0)
        mlp.net[0].proj.weight[: facts.shape[1], : len(facts)] = (
            10 * facts.T + torch.rand(facts.T.shape, generator=chance) * 5 * facts.T
        )
    fact_table.begin_to_draw(transformer, looks.nothing, looks.looks, heard, facts)
    with torch.no_grad():
        times = [transformer.adaln_single(torch.tensor([t]), None, 1, torch.float32)[1] for t in (1, 900)]
        torch.testing.assert_close(*times)
        shift, scale = (transformer.scale_shift_table[None] + times[0][:, None]).chunk(2, 1)
        said = transformer.norm_out((others + mlp(torch.eye(len(facts), config.width)))[:, None]) * (1 + scale) + shift
        written = transformer.proj_out(said)[:, 0].view(-1, 8, 8, 6).permute(0, 3, 1, 2)
    wanted = looks.nothing + torch.einsum("bf,fchw->bchw", facts, looks.looks)
    assert (written - wanted).square().mean() < 0.02 * (wanted - looks.nothing).square().mean()


def test_a_transformer_that_is_too_narrow_for_its_table_says_so(config):
    pipeline = make_pipeline(config.model_copy(update={"width": 64}))
    with pytest.raises(InputError, match="width of 416 or more"), fact_table.table_scores(pipeline.transformer):
        pass


def test_the_decoder_learns_to_paint_what_is_drawn(tmp_path, config, drawn_assets):
    generated = train_generator(tmp_path / "run", config, drawn_assets)
    sizes = DecoderConfig(
        pipeline=str(generated),
        piece_px=16,
        num_steps=40,
        batch_size=8,
        warmup_steps=1,
        learning_rate=3e-3,
        log_every=10,
    )
    painted = train_decoder(tmp_path / "paint", sizes, drawn_assets)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "paint" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    before, after = (
        load_file(folder / "vae" / "diffusion_pytorch_model.safetensors") for folder in (generated, painted)
    )
    changed = {name.split(".")[0] for name, weights in after.items() if not torch.equal(weights, before[name].half())}
    assert changed == {"decoder"}
    parts = [load_file(f / "transformer" / "diffusion_pytorch_model.safetensors") for f in (generated, painted)]
    assert all(torch.equal(parts[0][name].half(), weights) for name, weights in parts[1].items())
    written = [file.read_text() for file in (painted / "model_index.json", *painted.glob("*/config.json"))]
    assert len(written) == 4 and not any(str(tmp_path) in text for text in written)
    assert all(weights.isfinite().all() for weights in parts[1].values())
    *_, drawn = draw(NanoGenerator(folder=painted), [ImageRequest(prompt="a fox", seed=1)])
    assert isinstance(drawn, ImageResult) and drawn.image is not None and drawn.image.size == (32, 32)
