"""Pre-training of a small latent diffusion model that draws scenes.

    python -m mgem_agent.recipes.train.generator FOLDER autoencoder=FOLDER [key=value …]

A UNet learns to take the noise from latents of an autoencoder that is trained already, and a CLIP text encoder learns
with it what the captions mean; it may begin as that of the recipe for encoders, which knows already what things look
like. It predicts the velocity (Salimans and Ho, 2022) on a cosine schedule, with steps weighted by their
signal-to-noise ratio (Hang et al., 2023) but never to nothing, and noisy steps more often than others: there it is
decided where a thing stands and that it is one, and what goes wrong there stays wrong. A tenth of the captions are left
empty for classifier-free guidance. The result is an ordinary `StableDiffusionPipeline`
folder: nothing of this package is needed to read it.
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
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mgem_agent.recipes.data.emoji import EmojiAssets
from mgem_agent.recipes.data.scene import sample_scene
from mgem_agent.recipes.data.scene_captions import caption
from mgem_agent.recipes.train.caption_tokenizer import train_caption_tokenizer
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
        clip: Folder of a trained CLIP, whose text encoder and tokenizer the generator's begin as; none begins afresh.
        num_scenes: Scenes that it learns from, each again and again in other words.
        image_px: Side of what it draws.
        channels: Of the UNet's levels, finest first; a multiple of 16 each. The two coarsest have attention: on a CPU
            it costs more at the finer ones than it gives.
        layers_per_block: Residual blocks a level.
        time_width: Of what every block is told: the time, and the caption as a whole.
        text_width: Of the text encoder.
        num_text_layers: Of the text encoder.
        vocab_size: Pieces that captions are cut into.
        max_tokens: Longest caption.
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
    clip: str | None = None
    num_scenes: int = Field(default=24_000, ge=1)
    image_px: int = Field(default=128, ge=16, multiple_of=8)
    channels: tuple[int, ...] = Field(default=(32, 64, 128, 224), min_length=2)
    layers_per_block: int = Field(default=1, ge=1)
    time_width: int = Field(default=256, ge=16)
    text_width: int = Field(default=256, ge=16, multiple_of=16)
    num_text_layers: int = Field(default=4, ge=1)
    vocab_size: int = Field(default=2_048, ge=300)
    max_tokens: int = Field(default=24, ge=8)
    no_caption: float = Field(default=0.1, ge=0, lt=1)
    min_timestep: int = Field(default=0, ge=0, lt=1000)
    snr_gamma: float = Field(default=5.0, gt=0)
    least_snr: float = Field(default=0.3, ge=0)


def make_pipeline(config: GeneratorConfig, tokenizer: CLIPTokenizer) -> Any:
    """Return the `StableDiffusionPipeline` around the trained autoencoder, its UNet and text encoder untrained."""
    autoencoder: Any = AutoencoderTiny.from_pretrained(config.autoencoder).requires_grad_(False).eval()
    torch.manual_seed(config.seed)
    text_encoder = _make_text_encoder(config, tokenizer)
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


def _make_text_encoder(config: GeneratorConfig, tokenizer: CLIPTokenizer) -> Any:
    if config.clip is not None:
        known: Any = CLIPTextModel.from_pretrained(config.clip)
        sizes = CLIPTextConfig(**known.config.to_dict() | {"max_position_embeddings": config.max_tokens})
        weights = known.state_dict()
        places = next(name for name in weights if name.endswith("position_embedding.weight"))
        weights[places] = weights[places][: config.max_tokens]
        shorter = CLIPTextModel(sizes)
        shorter.load_state_dict(weights)
        return shorter
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.text_width,
            intermediate_size=4 * config.text_width,
            num_hidden_layers=config.num_text_layers,
            num_attention_heads=max(config.text_width // 64, 1),
            max_position_embeddings=config.max_tokens,
            **ids,
        )
    )


def _make_tokenizer(folder: Path, config: GeneratorConfig, assets: EmojiAssets) -> CLIPTokenizer:
    if config.clip is None:
        return train_caption_tokenizer(folder / "tokenizer", config.vocab_size, config.max_tokens, assets)
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(config.clip, model_max_length=config.max_tokens)
    return tokenizer


def scene_captions(step: int, config: GeneratorConfig) -> tuple[list[int], list[str]]:
    """Return which scenes a step learns from, and their captions, worded anew each time, some of them left empty."""
    indices, captions = [], []
    for number in range(step * config.batch_size, (step + 1) * config.batch_size):
        index = number % config.num_scenes
        chance = random.Random(f"{config.seed}/{number}")
        scene = sample_scene(config.seed, index, kind="posed")
        words = caption(scene, chance, style=chance.choice(("plain", "plain", "rich", "tags", "story")))
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
    tokenizer = _make_tokenizer(folder, config, assets)
    pipeline = make_pipeline(config, tokenizer)
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
