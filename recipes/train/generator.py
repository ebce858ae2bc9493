"""Pre-training of a small latent diffusion model that draws scenes.

    python -m mgem_agent.recipes.train.generator FOLDER autoencoder=FOLDER captions=FOLDER [key=value …]

A UNet learns to take the noise from latents of an autoencoder that is trained already, and a text encoder that knows
already what captions ask for (`caption_encoder`) learns along. It predicts the velocity (Salimans and Ho, 2022) on a
cosine schedule, with steps weighted by their signal-to-noise ratio (Hang et al., 2023) but never to nothing, and noisy
steps more often than others: there it is decided where a thing stands and that it is one, and what goes wrong there
stays wrong. A tenth of the captions are left empty for classifier-free guidance. The result is an ordinary
`StableDiffusionPipeline` folder: nothing of this package is needed to read it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.training_utils import compute_snr
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from mgem_agent.recipes.data.emoji import EmojiAssets
from mgem_agent.recipes.data.scene import sample_scene
from mgem_agent.recipes.data.scene_captions import caption
from mgem_agent.recipes.train.caption_encoder import MAX_POSITIONS, drawn_caption
from mgem_agent.recipes.train.latent_cache import LatentCache
from mgem_agent.recipes.train.pretraining import PretrainingConfig, PretrainingRun, run_recipe
from mgem_agent.recipes.train.scene_pixels import scene_pixels

__all__ = [
    "GeneratorConfig",
    "contact_sheet",
    "make_pipeline",
    "scene_captions",
    "scene_latents",
    "train_generator",
    "velocity_loss",
]

SCHEDULE: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


class GeneratorConfig(PretrainingConfig):
    """How the generator is trained.

    Attributes:
        autoencoder: Folder of the trained autoencoder.
        captions: Folder of the recipe `caption_encoder`.
        num_scenes: Scenes that it learns from, each again and again in other words.
        image_px: Side of what it draws.
        channels: Of the UNet's levels, finest first; a multiple of 16 each. The two coarsest have attention: on a CPU
            it costs more at the finer ones than it gives.
        layers_per_block: Residual blocks a level.
        time_width: Of what every block is told: the time, and the caption as a whole.
        max_tokens: That captions are padded to, and cut at.
        no_caption: Share of captions that are left empty.
        snr_gamma: Signal-to-noise ratio above which a step weighs no more.
        min_timestep: Of 1000, the least that is learned from. A run with 800, and one of all that goes on from it,
            learn first what a caption's things look like, and then to draw them well.
        least_snr: Is added to it, so that the noisiest steps weigh something.
    """

    num_steps: int = 12_000
    batch_size: int = 16
    learning_rate: float = 5e-4
    ema_decay: float = 0.999
    autoencoder: str
    captions: str
    num_scenes: int = Field(default=8_000, ge=1)
    image_px: int = Field(default=128, ge=16, multiple_of=8)
    channels: tuple[int, ...] = Field(default=(32, 64, 128, 224), min_length=2)
    layers_per_block: int = Field(default=1, ge=1)
    time_width: int = Field(default=256, ge=16)
    max_tokens: int = Field(default=32, ge=8, le=MAX_POSITIONS)
    no_caption: float = Field(default=0.1, ge=0, lt=1)
    min_timestep: int = Field(default=0, ge=0, lt=1000)
    snr_gamma: float = Field(default=5.0, gt=0)
    least_snr: float = Field(default=0.3, ge=0)


def make_pipeline(config: GeneratorConfig) -> Any:
    """Return the `StableDiffusionPipeline` around the trained autoencoder and text encoder, its UNet untrained."""
    autoencoder: Any = AutoencoderTiny.from_pretrained(config.autoencoder).requires_grad_(False).eval()
    text_encoder: Any = CLIPTextModel.from_pretrained(Path(config.captions) / "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(Path(config.captions) / "tokenizer", model_max_length=config.max_tokens)
    torch.manual_seed(config.seed)
    plain = len(config.channels) - 2
    unet = UNet2DConditionModel(
        sample_size=config.image_px // 2 ** (len(autoencoder.config.encoder_block_out_channels) - 1),
        in_channels=autoencoder.config.latent_channels,
        out_channels=autoencoder.config.latent_channels,
        block_out_channels=config.channels,
        down_block_types=(*("DownBlock2D",) * plain, *("CrossAttnDownBlock2D",) * 2),
        up_block_types=(*("CrossAttnUpBlock2D",) * 2, *("UpBlock2D",) * plain),
        layers_per_block=config.layers_per_block,
        cross_attention_dim=text_encoder.config.hidden_size,
        attention_head_dim=4,  # how many heads; the name is historical
        norm_num_groups=16,
        addition_embed_type="text",  # what the caption says as a whole is told to every block, as the time is
        addition_embed_type_num_heads=4,
        time_embedding_dim=config.time_width,
        resnet_time_scale_shift="scale_shift",
    )
    parts: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    scheduler: Any = DPMSolverMultistepScheduler(timestep_spacing="trailing", steps_offset=1, **SCHEDULE)
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        **parts,
    )


def scene_captions(step: int, config: GeneratorConfig) -> tuple[list[int], list[str]]:
    """Return which scenes a step learns from, and their captions, worded anew each time, some of them left empty."""
    indices, captions = [], []
    for number in range(step * config.batch_size, (step + 1) * config.batch_size):
        index = number % config.num_scenes
        chance = random.Random(f"{config.seed}/{number}")
        scene = sample_scene(config.seed, index, kind="posed")
        words = drawn_caption(scene, chance)
        indices.append(index)
        captions.append("" if chance.random() < config.no_caption else words)
    return indices, captions


def scene_latents(pipeline: Any, config: GeneratorConfig, assets: EmojiAssets, folder: Path) -> LatentCache:
    """Return the scaled latents of the scenes, which are drawn and encoded when they are first needed."""

    @torch.no_grad()
    def encode(indices: Sequence[int]) -> Tensor:
        scenes = [sample_scene(config.seed, index, kind="posed") for index in indices]
        pixels = scene_pixels(scenes, assets, config.image_px).to(pipeline.vae.device)
        latents: Tensor = pipeline.vae.encode(pixels).latents
        return latents * pipeline.vae.config.scaling_factor

    unet = pipeline.unet.config
    shape = (unet.in_channels, unet.sample_size, unet.sample_size)
    return LatentCache(folder / "latents.npy", config.num_scenes, shape, encode)


def train_generator(folder: str | Path, config: GeneratorConfig, assets: EmojiAssets) -> Path:
    """Train the generator, from where the folder's last checkpoint stands, and write it for diffusers.

    Returns:
        The folder that `AutoPipelineForText2Image.from_pretrained` reads.
    """
    folder = Path(folder)
    pipeline = make_pipeline(config)
    pipeline.unet.to(memory_format=torch.channels_last)
    run = PretrainingRun(folder, nn.ModuleDict({"unet": pipeline.unet, "text": pipeline.text_encoder}), config)
    pipeline.to(run.device)
    noising: Any = DDPMScheduler(**SCHEDULE)
    scenes = scene_latents(pipeline, config, assets, folder)
    for step in run.steps():
        indices, captions = scene_captions(step, config)
        latents = scenes.latents(indices).to(run.device)
        run.update(velocity_loss(pipeline, noising, latents, captions, run.generator(step), config))
    with run.averaged_weights():
        pipeline.save_pretrained(folder / "pipeline")
        contact_sheet(pipeline, assets, folder / "contact_sheet.png", size_px=config.image_px)
    return folder / "pipeline"


def velocity_loss(
    pipeline: Any,
    noising: Any,
    latents: Tensor,
    captions: list[str],
    chance: torch.Generator,
    config: GeneratorConfig,
) -> Tensor:
    """Return () the weighted error of the velocity at one random time for each picture.

    Args:
        pipeline: What is trained.
        noising: The schedule of noise.
        latents: (B, c, h, h) scaled, as the autoencoder makes them.
        captions: B of them.
        chance: Source of times and noise.
        config: Lengths and weights.
    """
    noise = torch.randn(latents.shape, generator=chance).to(latents.device)
    times = torch.randint(config.min_timestep, noising.config.num_train_timesteps, (2, len(latents)), generator=chance)
    times = times.amax(0).to(latents.device)
    words = pipeline.tokenizer(
        captions, padding="max_length", max_length=config.max_tokens, truncation=True, return_tensors="pt"
    )
    text = pipeline.text_encoder(words.input_ids.to(latents.device)).last_hidden_state
    guessed = pipeline.unet(noising.add_noise(latents, noise, times), times, text).sample
    wrong = (guessed - noising.get_velocity(latents, noise, times)).square().mean((1, 2, 3))
    snr = compute_snr(noising, times)
    return (wrong * (snr.clamp(max=config.snr_gamma) + config.least_snr) / (snr + 1)).mean() * 2


@torch.no_grad()
def contact_sheet(
    pipeline: Any, assets: EmojiAssets, file: Path, *, size_px: int, num: int = 32, steps: int = 16
) -> list[str]:
    """Write pictures of held-out captions, eight a row, and return the captions in their order.

    Args:
        pipeline: What draws.
        assets: Where the captions' concepts come from.
        file: The picture that is written.
        size_px: Side of each picture.
        num: How many, a multiple of eight.
        steps: Steps of denoising.
    """
    scenes = [sample_scene(0, index, kind="posed", split="held_out") for index in range(num)]
    captions = [caption(scene, random.Random(index), style="plain") for index, scene in enumerate(scenes)]
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        captions,
        height=size_px,
        width=size_px,
        num_inference_steps=steps,
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(index) for index in range(num)],
    ).images
    sheet = Image.new("RGB", (8 * size_px, num // 8 * size_px))
    for index, picture in enumerate(drawn):
        sheet.paste(picture, (index % 8 * size_px, index // 8 * size_px))
    sheet.save(file)
    return captions


if __name__ == "__main__":
    run_recipe(
        sys.argv[1:], GeneratorConfig, lambda folder, config: train_generator(folder, config, EmojiAssets.open())
    )
